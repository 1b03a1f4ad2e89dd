"""The figures for people who read: a table in Markdown, and beside it a plot of the ratios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

_COLOURS = {
    "forebay": "#1f77b4", "varnish": "#2ca02c", "squid": "#9467bd", "trafficserver": "#ff7f0e",
}  # fmt: skip
_OTHER_COLOUR = "#7f7f7f"
_LEFT, _WIDTH, _BAR, _GAP = 250, 460, 13, 12
_MOST = 2.0
"""Ratios beyond this end at the border, with their number beside it."""

Row = Mapping[str, Any]


def write(path: Path, rows: Sequence[Row], told: Mapping[str, Any], rounds: int) -> None:
    """Write ``path`` (Markdown), and the plot under the same name with ``.svg``."""
    plot_path = path.with_suffix(".svg")
    lines = [
        f"Medians of {rounds} interleaved rounds; the ratio is to nginx in the same round, with "
        "its least and its most.",
        "",
        *(f"- {name}: {value}" for name, value in told.items() if not isinstance(value, Mapping)),
        *(f"- {name}: {text}" for name, text in told["settings"].items()),
        "",
        f"![Ratios to nginx]({plot_path.name})",
        "",
        "| case | target | median | ratio to nginx | CPU s/GiB | notes |",
        "|---|---|---:|---:|---:|---|",
        *map(_line, rows),
    ]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    plot_path.write_text(plot(rows), "utf-8")


def _line(row: Row) -> str:
    cpu = row["cpu_seconds_per_gib"]
    ratio = f"{row['ratio']:.2f} ({row['ratio_least']:.2f} to {row['ratio_most']:.2f})"
    cells = (
        row["case"],
        row["target"],
        f"{row['median']:,.2f} {row['unit']}",
        "1" if row["target"] == row["baseline"] else ratio,
        "" if cpu is None else f"{cpu:.2f}",
        "; ".join(f"{name} {value:.1f}" for name, value in row["notes"].items()),
    )
    return f"| {' | '.join(cells)} |"


def plot(rows: Sequence[Row]) -> str:
    """Bars of how much better than the baseline each target was; the line stands at 1."""
    shown = [row for row in rows if row["target"] != row["baseline"]]
    parts, y, case = [], 30, None
    for row in shown:
        if row["case"] != case:
            case, y = row["case"], y + _GAP
            parts.append(f'<text x="8" y="{y + 10}">{escape(case)}</text>')
        better = row["ratio"] if row["more_is_better"] else 1 / max(row["ratio"], 1e-6)
        width = min(better, _MOST) / _MOST * _WIDTH
        colour = _COLOURS.get(row["target"], _OTHER_COLOUR)
        parts.append(
            f'<rect x="{_LEFT}" y="{y}" width="{width:.0f}" height="{_BAR - 2}" fill="{colour}"/>'
            f'<text x="{_LEFT + width + 4:.0f}" y="{y + 10}">'
            f"{better:.2f} {escape(row['target'])}</text>"
        )
        y += _BAR
    one = _LEFT + _WIDTH / _MOST
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + 140}" '
        f'height="{y + 20}" font-family="sans-serif" font-size="11">'
        f'<rect width="100%" height="100%" fill="white"/>'
        f'<text x="{_LEFT}" y="18">How many times as good as nginx (right of the line: better)'
        f"</text>{''.join(parts)}"
        f'<line x1="{one:.0f}" y1="26" x2="{one:.0f}" y2="{y + 8}" stroke="black"/></svg>\n'
    )
