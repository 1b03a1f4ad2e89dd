"""``./scripts/bench [workload…] [--quick]``."""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench import report, servers
from bench.servers import MIB
from bench.workloads import WORKLOADS, Case, Sample, Stage

_ROUNDS, _QUICK_ROUNDS = 5, 2
_SECONDS, _QUICK_SECONDS = 2.0, 0.5
_PACED_RATE_BYTES_PER_SECOND = 16 * MIB
_PACED_BYTES, _QUICK_PACED_BYTES = 64 * MIB, 16 * MIB


def main() -> int:
    """Start everything, measure, print, write; the exit status is 0 unless that failed."""
    options = _options()
    nginx = servers.find_nginx()
    if nginx is None:
        print("The benchmark needs nginx: apt install nginx-light", file=sys.stderr)
        return 1
    rounds = options.rounds or (_QUICK_ROUNDS if options.quick else _ROUNDS)
    names = options.workloads or list(WORKLOADS)
    with (
        tempfile.TemporaryDirectory(prefix="forebay-bench-", dir=options.directory) as directory,
        _stage(nginx, Path(directory), quick=options.quick) as stage,
    ):
        told = report.circumstances([*stage.caches, *stage.origins.values()])
        rows = []
        for name in names:
            for case in WORKLOADS[name](stage):
                print(f"{case.name} …", file=sys.stderr)
                rows += report.summary(case, _measure(case, rounds))
    report.show(rows, told, rounds)
    if options.output:
        report.write(options.output, rows, told, rounds)
        print(f"Every sample is in {options.output}.")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./scripts/bench", description=__doc__)
    parser.add_argument("workloads", nargs="*", choices=[*WORKLOADS, []], help="all if none")
    parser.add_argument("--quick", action="store_true", help="few and short rounds: does it run?")
    parser.add_argument("--rounds", type=int, help=f"{_ROUNDS} unless --quick")
    parser.add_argument("--output", type=Path, help="where to write every sample as JSON")
    parser.add_argument("--directory", type=Path, help="where to keep caches while it runs")
    return parser.parse_args()


@contextlib.contextmanager
def _stage(nginx: str, directory: Path, *, quick: bool) -> Iterator[Stage]:
    paced_bytes = _QUICK_PACED_BYTES if quick else _PACED_BYTES
    with contextlib.ExitStack() as stack:
        start = stack.enter_context
        origins = {
            "origin": start(servers.nginx_origin(nginx, directory / "origin")),
            "paced": start(
                servers.paced_origin(directory / "paced", paced_bytes, _PACED_RATE_BYTES_PER_SECOND)
            ),
        }
        yield Stage(
            forebay=start(servers.forebay(directory / "forebay", origins)),
            nginx=start(servers.nginx_peer(nginx, directory / "nginx", origins)),
            origins=origins,
            origin_log=directory / "origin" / "access.log",
            seconds=_QUICK_SECONDS if quick else _SECONDS,
            quick=quick,
        )


def _measure(case: Case, rounds: int) -> dict[str, list[Sample]]:
    samples: dict[str, list[Sample]] = {target: [] for target in case.targets}
    for _ in range(rounds):
        for target, measure in case.targets.items():
            samples[target].append(measure())
    return samples


if __name__ == "__main__":
    sys.exit(main())
