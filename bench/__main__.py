"""``./scripts/bench [workload…] [--quick]``; ``eviction`` and ``scale`` run alone and
need no nginx."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench import congestion, document, eviction, peers, profiling, report, scale, servers
from bench.cold import COLD, FAR_BYTES, ROUND_TRIP_SECONDS
from bench.hardships import HARDSHIPS
from bench.servers import MIB
from bench.workloads import WORKLOADS as STREAMS
from bench.workloads import Case, Sample, Stage

WORKLOADS = {**STREAMS, **COLD, **HARDSHIPS}

_ROUNDS, _QUICK_ROUNDS = 5, 2
_SECONDS, _QUICK_SECONDS = 1.0, 0.5
_PACED_RATE_BYTES_PER_SECOND = 16 * MIB
_CONTROL = "BENCH_CONGESTION"
"""Set where this process is in the namespace already."""
_PACED_BYTES, _QUICK_PACED_BYTES = 64 * MIB, 16 * MIB


def main() -> int:
    """Start everything, measure, print, write; the exit status is 0 unless something failed."""
    # Whoever is told to end ends its servers, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if sys.argv[1:] == ["eviction"]:
        return eviction.main()
    if sys.argv[1:2] == ["scale"]:
        return scale.main(sys.argv[2:])
    options = _options()
    if options.congestion and os.environ.get(_CONTROL) != options.congestion:
        os.environ[_CONTROL] = options.congestion
        congestion.run_under(options.congestion, sys.argv[1:])
    nginx = servers.find_nginx()
    if nginx is None:
        print("The benchmark needs nginx: apt install nginx-light", file=sys.stderr)
        return 1
    if options.profile and profiling.program() is None:
        print("--profile needs py-spy: .venv/bin/pip install py-spy", file=sys.stderr)
        return 1
    rounds = options.rounds or (_QUICK_ROUNDS if options.quick else _ROUNDS)
    names = options.workloads or list(WORKLOADS)
    with (
        tempfile.TemporaryDirectory(prefix="forebay-bench-", dir=options.directory) as directory,
        _stage(nginx, Path(directory), options) as stage,
    ):
        servers_told = [*stage.caches, stage.sliced, *stage.origins.values()]
        told = report.circumstances(servers_told, options.congestion)
        rows, whole = _measure_all(stage, names, rounds, options.profile)
    report.show(rows, told, rounds)
    if options.output:
        report.write(options.output, rows, told, rounds)
        print(f"Every sample is in {options.output}.")
    if options.document:
        document.write(options.document, rows, told, rounds)
    return 0 if whole else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./scripts/bench", description=__doc__)
    parser.add_argument("workloads", nargs="*", choices=[*WORKLOADS, []], help="all if none")
    parser.add_argument("--quick", action="store_true", help="few and short rounds: does it run?")
    parser.add_argument("--rounds", type=int, help=f"{_ROUNDS} unless --quick")
    parser.add_argument("--output", type=Path, help="where to write every sample as JSON")
    parser.add_argument(
        "--peers",
        nargs="*",
        default=[],
        choices=[*peers.STARTERS, "all"],
        help="more peers, where they are installed",
    )
    parser.add_argument("--congestion", help="e.g. cubic; needs root. Without: the machine's own")
    parser.add_argument("--document", type=Path, help="where to write table and plot (a .md file)")
    parser.add_argument("--directory", type=Path, help="where to keep caches while it runs")
    parser.add_argument(
        "--profile", type=Path, help="a directory for flame graphs of Forebay (py-spy)"
    )
    return parser.parse_args()


@contextlib.contextmanager
def _stage(nginx: str, directory: Path, options: argparse.Namespace) -> Iterator[Stage]:
    quick: bool = options.quick
    paced_bytes = _QUICK_PACED_BYTES if quick else _PACED_BYTES
    with contextlib.ExitStack() as stack:
        start = stack.enter_context
        origins = {
            "origin": start(servers.nginx_origin(nginx, directory / "origin")),
            "paced": start(
                servers.paced_origin(
                    directory / "paced",
                    paced_bytes,
                    rate_bytes_per_second=_PACED_RATE_BYTES_PER_SECOND,
                )
            ),
            "far": start(
                servers.paced_origin(directory / "far", FAR_BYTES, think_seconds=ROUND_TRIP_SECONDS)
            ),
        }
        caches = [
            start(servers.nginx_peer(nginx, directory / "nginx", origins)),
            start(servers.forebay(directory / "forebay", origins)),
        ]
        wanted = peers.STARTERS if "all" in options.peers else options.peers
        for name, program, starter in peers.installed(wanted):
            caches.append(start(starter(program, directory / name, origins)))
        yield Stage(
            caches=tuple(caches),
            sliced=servers.sliced(caches[0]),
            origins=origins,
            logs={name: directory / name / "access.log" for name in origins},
            directory=directory,
            seconds=_QUICK_SECONDS if quick else _SECONDS,
            quick=quick,
        )


def _measure_all(
    stage: Stage, names: Sequence[str], rounds: int, profile: Path | None
) -> tuple[list[dict[str, Any]], bool]:
    """The rows of these workloads, and whether no target failed."""
    rows: list[dict[str, Any]] = []
    whole = True
    for name in names:
        for case in WORKLOADS[name](stage):
            begin = time.perf_counter()
            print(f"{case.name} …", end="", file=sys.stderr, flush=True)
            samples = _measure(case, rounds)
            whole &= samples.keys() == case.targets.keys()
            if case.baseline in samples:
                rows += report.summary(case, samples)
            print(f" {time.perf_counter() - begin:.0f} s", file=sys.stderr, flush=True)
            if profile:
                profiling.record(stage, case, profile)
    return rows, whole


def _measure(case: Case, rounds: int) -> dict[str, list[Sample]]:
    """The samples of each target; one that fails is told and left out, and the others go on."""
    samples: dict[str, list[Sample]] = {target: [] for target in case.targets}
    for _ in range(rounds):
        for target in list(samples):
            try:
                samples[target].append(case.targets[target]())
            except (RuntimeError, OSError) as error:
                print(f"\n  {target} is left out: {error}", file=sys.stderr)
                del samples[target]
    return samples


if __name__ == "__main__":
    sys.exit(main())
