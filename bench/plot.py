"""The ratios as a picture: for each case a lane for each target, on a logarithmic scale.

A dot is the median, its line goes from the least to the most, and right of the thick line at 1 is
better than the baseline, whatever the unit. SVG by hand: one file, and no library for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any
from xml.sax.saxutils import escape

COLOURS = {
    "nginx": "#555555", "forebay": "#1f77b4", "varnish": "#2ca02c", "squid": "#9467bd",
    "trafficserver": "#d95f02",
}  # fmt: skip
"""The caches; everything else is grey."""
_OTHER_COLOUR = "#999999"

_LEAST, _MOST = 0.01, 100.0
"""Where the scale ends; what lies beyond stands at its end, with its number."""
_LINES = (0.01, 0.1, 0.5, 1, 2, 10, 100)
_LEFT, _WIDTH, _RIGHT = 290, 560, 130
_LANE, _PAD, _TOP = 13, 5, 44

Row = Mapping[str, Any]


def better(row: Row) -> tuple[float, float, float]:
    """Least, median and most of how many times as good as the baseline the target was."""
    least, median, most = row["ratio_least"], row["ratio"], row["ratio_most"]
    if row["more_is_better"]:
        return least, median, most
    return _inverse(most), _inverse(median), _inverse(least)


def place(ratio: float) -> float:
    """The x of a ratio; those beyond the scale stand at its end."""
    held = min(max(ratio, _LEAST), _MOST)
    share = math.log(held / _LEAST) / math.log(_MOST / _LEAST)
    return _LEFT + share * _WIDTH


def svg(rows: Sequence[Row], baseline: str = "nginx") -> str:
    """The whole picture as a document; the baseline itself is the line at 1."""
    shown = [row for row in rows if row["compares"] and row["target"] != row["baseline"]]
    bands = [(case, list(group)) for case, group in groupby(shown, lambda row: row["case"])]
    height = _TOP + sum(_height(group) for _, group in bands)
    parts, y = [], _TOP
    for number, (case, group) in enumerate(bands):
        if number % 2 == 0:
            size = f'width="{_LEFT + _WIDTH + _RIGHT}" height="{_height(group)}"'
            parts.append(f'<rect x="0" y="{y}" {size} fill="#f4f4f4"/>')
        parts.append(f'<text x="8" y="{y + _PAD + 11}">{escape(case)}</text>')
        y += _height(group)
    parts += _scale(height)
    y = _TOP
    for _, group in bands:
        for lane, row in enumerate(group):
            parts += _mark(row, y + _PAD + lane * _LANE + _LANE / 2)
        y += _height(group)
    title = f"How many times as good as {baseline}: right of 1 is better"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + _RIGHT}" '
        f'height="{height + 8}" font-family="sans-serif" font-size="11">'
        f'<rect width="100%" height="100%" fill="white"/>'
        f'<text x="8" y="16" font-size="13">{escape(title)}</text>{"".join(parts)}</svg>\n'
    )


def _height(group: Sequence[Row]) -> int:
    return len(group) * _LANE + 2 * _PAD


def _scale(height: int) -> Iterator[str]:
    for ratio in _LINES:
        x = place(ratio)
        stroke = 'stroke="black" stroke-width="1.5"' if ratio == 1 else 'stroke="#cccccc"'
        yield f'<line x1="{x:.1f}" y1="{_TOP - 6}" x2="{x:.1f}" y2="{height}" {stroke}/>'
        yield f'<text x="{x:.1f}" y="{_TOP - 10}" text-anchor="middle">{ratio:g}</text>'


def _mark(row: Row, y: float) -> Iterator[str]:
    least, median, most = better(row)
    colour = COLOURS.get(row["target"], _OTHER_COLOUR)
    yield (
        f'<line x1="{place(least):.1f}" y1="{y:.1f}" x2="{place(most):.1f}" y2="{y:.1f}" '
        f'stroke="{colour}" stroke-width="2" stroke-opacity="0.5"/>'
        f'<circle cx="{place(median):.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>'
        f'<text x="{place(most) + 7:.1f}" y="{y + 4:.1f}" fill="{colour}" '
        f'stroke="white" stroke-width="3" paint-order="stroke">'
        f"{_number(median)} {escape(row['target'])}</text>"
    )


def _number(ratio: float) -> str:
    if ratio == math.inf:
        return "∞"
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2g}" if ratio < 0.1 else f"{ratio:.2f}"


def _inverse(ratio: float) -> float:
    return 1 / ratio if ratio else math.inf
