"""What was measured, for people (a table) and for programs (JSON)."""

from __future__ import annotations

import json
import os
import platform
import shlex
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.servers import Server
from bench.workloads import Case, Sample

_GIB = 1 << 30
_PLAIN_WIDTH = 150
_CONGESTION_FILE = Path("/proc/sys/net/ipv4/tcp_congestion_control")

Rounds = Mapping[str, Sequence[Sample]]
"""For each target its samples, one for each round."""


def circumstances(servers: Sequence[Server], control: str | None = None) -> dict[str, Any]:
    """What a reader must know to make sense of the figures."""
    return {
        "command": shlex.join(["./scripts/bench", *sys.argv[1:]]),
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "congestion control": control or _CONGESTION_FILE.read_text().strip(),
        "settings": {server.name: server.settings for server in servers},
    }


def summary(case: Case, rounds: Rounds) -> list[dict[str, Any]]:
    """One row for each target: median, ratio to the baseline with its spread, CPU, notes.

    The ratio is taken within each round, so that a slow moment of the machine is in both.
    """
    base = [sample.value for sample in rounds[case.baseline]]
    rows = []
    for target, samples in rounds.items():
        ratios = [
            _quotient(sample.value, other) for sample, other in zip(samples, base, strict=True)
        ]
        rows.append(
            {
                "case": case.name,
                "unit": case.unit,
                "target": target,
                "median": statistics.median(sample.value for sample in samples),
                "ratio": statistics.median(ratios),
                "ratio_least": min(ratios),
                "ratio_most": max(ratios),
                "baseline": case.baseline,
                "more_is_better": case.more_is_better,
                "compares": case.compares,
                "cpu_per": case.cpu_per,
                "cpu_seconds_per_gib": _cpu_per(samples, lambda one: one.body_bytes / _GIB),
                "cpu_seconds_per_request": _cpu_per(samples, lambda one: one.requests),
                "notes": _notes(samples),
                "samples": [asdict(sample) for sample in samples],
            }
        )
    return rows


def _quotient(value: float, base: float) -> float:
    """``value / base``; of two nothings 1, and beside nothing everything is without measure."""
    if base:
        return value / base
    return float("inf") if value else 1.0


def show(rows: Sequence[Mapping[str, Any]], told: Mapping[str, Any], rounds: int) -> None:
    """Print the circumstances and the table."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PLAIN_WIDTH)
    for name, value in told.items():
        shown = value if not isinstance(value, Mapping) else ""
        console.print(f"{name}: {shown}", highlight=False)
        if isinstance(value, Mapping):
            for key, text in value.items():
                console.print(f"  {key}: {text}", highlight=False)
    table = Table(title=f"Medians of {rounds} interleaved rounds; ratio to nginx (least to most)")
    for title in ("case", "target"):
        table.add_column(title, no_wrap=True)
    for title in ("median", "ratio", "CPU"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("notes")
    for row in rows:
        table.add_row(
            row["case"] + ("" if row["more_is_better"] else ", less is better"),
            row["target"],
            median_text(row),
            ratio_text(row),
            cpu_text(row),
            "\n".join(f"{name} {value:.2f}" for name, value in row["notes"].items()),
        )
    console.print(table)


def write(
    path: Path, rows: Sequence[Mapping[str, Any]], told: Mapping[str, Any], rounds: int
) -> None:
    """The same, with every sample, as JSON."""
    document = {"circumstances": told, "rounds": rounds, "results": rows}
    path.write_text(json.dumps(document, indent=2) + "\n", "utf-8")


def cpu_text(row: Mapping[str, Any]) -> str:
    """What a server spent, in the measure that its case chose."""
    if row["cpu_per"] == "request":
        spent = row["cpu_seconds_per_request"]
        if spent is None:
            return ""
        if spent >= 0.01:
            return f"{1e3 * spent:,.0f} ms/request"
        return f"{1e6 * spent:,.0f} µs/request" if spent else "< 10 ms/request"
    spent = row["cpu_seconds_per_gib"]
    return "" if spent is None else f"{spent:.2f} s/GiB"


def median_text(row: Mapping[str, Any]) -> str:
    """The median with its unit; hundredths are for small numbers."""
    median = row["median"]
    return f"{median:,.0f} {row['unit']}" if median >= 100 else f"{median:.2f} {row['unit']}"


def ratio_text(row: Mapping[str, Any]) -> str:
    """The ratio to the baseline with its least and its most; nothing where none makes sense."""
    if not row["compares"]:
        return ""
    if row["target"] == row["baseline"]:
        return "1"
    return f"{row['ratio']:.2f} ({row['ratio_least']:.2f} to {row['ratio_most']:.2f})"


def _cpu_per(samples: Sequence[Sample], amount: Callable[[Sample], float]) -> float | None:
    """The median of the CPU seconds for each of what was got; nothing where nothing is known."""
    spent = [
        sample.cpu_seconds / amount(sample)
        for sample in samples
        if sample.cpu_seconds is not None and amount(sample)
    ]
    return statistics.median(spent) if spent else None


def _notes(samples: Sequence[Sample]) -> dict[str, float]:
    return {
        name: statistics.median(sample.notes[name] for sample in samples)
        for name in samples[0].notes
    }
