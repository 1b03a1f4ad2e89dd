"""The figures for people who read: tables in Markdown, and beside them a plot of the ratios."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from bench import plot
from bench.plot import Row
from bench.report import cpu_text, median_text, ratio_text


def write(path: Path, rows: Sequence[Row], told: Mapping[str, object], rounds: int) -> None:
    """Write ``path`` (Markdown), and the plot under the same name with ``.svg``."""
    plot_path = path.with_suffix(".svg")
    path.write_text("\n".join(_lines(rows, told, rounds, plot_path.name)) + "\n", "utf-8")
    plot_path.write_text(plot.svg(rows), "utf-8")


def _lines(
    rows: Sequence[Row], told: Mapping[str, object], rounds: int, plot_name: str
) -> Iterator[str]:
    yield f"# Figures under {str(told['congestion control']).upper()}"
    yield ""
    yield f"Written by `{told['command']}`; see [performance](performance.md)."
    yield ""
    yield f"Medians of {rounds} interleaved rounds; the ratio is to nginx in the same round, with"
    yield "its least and its most. CPU is the server's, with what it does behind its answers."
    yield ""
    for name, value in told.items():
        if isinstance(value, Mapping):
            yield from (f"- {key}: {text}" for key, text in value.items())
        elif name != "command":
            yield f"- {name}: {value}"
    yield from ("", f"![Ratios to nginx]({plot_name})", "", "## Ratios", "")
    yield from side_by_side(rows, _ratio_or_median)
    yield from ("", "## CPU", "")
    yield from side_by_side([row for row in rows if cpu_text(row)], cpu_text)
    yield from ("", "## Everything", "")
    yield "| case | target | median | ratio to nginx | CPU | notes |"
    yield "|---|---|---:|---:|---:|---|"
    yield from map(_line, rows)


def side_by_side(rows: Sequence[Row], cell: Callable[[Row], str]) -> Iterator[str]:
    """A table with a line for each case and a column for each cache that is in any of them."""
    caches = [name for name in plot.COLOURS if any(row["target"] == name for row in rows)]
    yield f"| case | {' | '.join(caches)} |"
    yield f"|---|{'---:|' * len(caches)}"
    for case, group in groupby(rows, lambda row: row["case"]):
        cells = {row["target"]: cell(row) for row in group}
        yield f"| {case} | {' | '.join(cells.get(name, '') for name in caches)} |"


def _ratio_or_median(row: Row) -> str:
    is_itself = row["target"] == row["baseline"] or not row["compares"]
    return median_text(row) if is_itself else ratio_text(row)


def _line(row: Row) -> str:
    notes = "; ".join(f"{name} {value:.1f}" for name, value in row["notes"].items())
    cells = (row["case"], row["target"], median_text(row), ratio_text(row), cpu_text(row), notes)
    return f"| {' | '.join(cells)} |"
