"""What is measured. A workload yields cases; a case is one measurement of each target.

The targets of a case are measured in turn, round after round (A B A B …), so that whatever
else the machine does falls on all of them alike.
"""

from __future__ import annotations

import itertools
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bench.load import Load, Result, run
from bench.servers import FILES, MIB, Server


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement. ``value`` is in the unit of its case; CPU seconds are the server's."""

    value: float
    seconds: float
    body_bytes: int
    cpu_seconds: float | None = None
    notes: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Case:
    """What to compare: for each target a function that takes one measurement.

    ``baseline`` is the target by whose value the others' are divided; ``more_is_better`` says
    how to read the ratio.
    """

    name: str
    unit: str
    targets: Mapping[str, Callable[[], Sample]]
    baseline: str
    more_is_better: bool = True


@dataclass(frozen=True, slots=True)
class Stage:
    """The running servers and how hard to press them; ``caches`` begin with the baseline."""

    caches: tuple[Server, ...]
    origins: Mapping[str, Server]
    origin_log: Path
    seconds: float
    quick: bool

    def url(self, cache: Server, origin: str, path: str) -> str:
        """Where this cache has the path of that origin."""
        return f"{cache.bases[origin]}/{path}"

    def caches_of(self, origin: str) -> tuple[Server, ...]:
        """The caches that know this origin."""
        return tuple(cache for cache in self.caches if origin in cache.bases)


def fresh_key() -> int:
    """A query that nobody has asked with before; static origins do not look at it."""
    return next(_fresh_key)


_fresh_key = itertools.count(time.time_ns())


def hot_large(stage: Stage) -> Iterator[Case]:
    """A large object that is in the cache, for 1, 8 and 64 clients."""
    for clients in (1, 8, 64):
        yield _hot(stage, f"hot-large, clients: {clients}", "large", clients, gib_per_second)


def hot_small(stage: Stage) -> Iterator[Case]:
    """A small object that is in the cache, over 64 kept connections."""
    yield _hot(stage, "hot-small, connections: 64", "small", 64, _requests_per_second)


def hot_range(stage: Stage) -> Iterator[Case]:
    """Random ranges of a large object that is in the cache."""
    for name, clients, range_bytes in (("1 MiB", 8, MIB), ("4 KiB", 64, 4096)):

        def press(cache: Server, clients: int = clients, range_bytes: int = range_bytes) -> Sample:
            url = stage.url(cache, "origin", "large")
            size = FILES["large"]
            load = Load(url, clients, stage.seconds, range_bytes=range_bytes, size_bytes=size)
            return measure(cache, load, _requests_per_second)

        for cache in stage.caches:
            run(Load(stage.url(cache, "origin", "large")))
        targets = {cache.name: partial(press, cache) for cache in stage.caches}
        yield Case(f"hot-range, {name}, clients: {clients}", "requests/s", targets, "nginx")


def cold_range(stage: Stage) -> Iterator[Case]:
    """1 MiB in the middle of a large object that nobody has asked for before."""

    def fetch(cache: Server) -> Sample:
        query = str(fresh_key())
        url = stage.url(cache, "origin", f"large?{query}")
        load = Load(url, range_bytes=MIB, range_start=FILES["large"] // 2)
        sample = measure(cache, load, _last_done_ms)
        notes = {"upstream MiB": _upstream_bytes(stage.origin_log, query) / MIB}
        return Sample(sample.value, sample.seconds, sample.body_bytes, sample.cpu_seconds, notes)

    targets = {cache.name: partial(fetch, cache) for cache in stage.caches}
    yield Case("cold-range, 1 MiB of 256", "ms", targets, "nginx", more_is_better=False)


def many_keys(stage: Stage) -> Iterator[Case]:
    """Small objects that are in the cache, each as likely as another, 64 connections."""
    keys = 500 if stage.quick else 5000

    def press(cache: Server) -> Sample:
        load = Load(stage.url(cache, "origin", "small"), 64, stage.seconds, keys=keys)
        return measure(cache, load, _requests_per_second)

    for cache in stage.caches:
        run(Load(stage.url(cache, "origin", "small"), 16, keys=keys, sweep=True))
    targets = {cache.name: partial(press, cache) for cache in stage.caches}
    yield Case(f"many-keys, {keys} of 10 KiB", "requests/s", targets, "nginx")


def cold_stream(stage: Stage) -> Iterator[Case]:
    """A large object that nobody has asked for before, for one client."""

    def fetch(server: Server, url: str) -> Callable[[], Sample]:
        return lambda: measure(server, Load(f"{url}?{fresh_key()}"), gib_per_second)

    origin = stage.origins["origin"]
    targets = {c.name: fetch(c, stage.url(c, "origin", "large")) for c in stage.caches}
    targets["direct"] = fetch(origin, f"{origin.url}/large")
    yield Case("cold-stream, 256 MiB", "GiB/s", targets, "nginx")


def herd(stage: Stage) -> Iterator[Case]:
    """64 clients that ask for one cold object at the same moment."""

    def rush(cache: Server) -> Sample:
        query = str(fresh_key())
        url = stage.url(cache, "origin", f"medium?{query}")
        sample, result = measure_both(cache, Load(url, clients=64), _last_done)
        upstream_bytes = _upstream_bytes(stage.origin_log, query)
        notes = {
            "upstream bodies": upstream_bytes / FILES["medium"],
            "median first byte, ms": 1000 * statistics.median(result.first_byte_seconds),
            "last first byte, ms": 1000 * max(result.first_byte_seconds),
        }
        return Sample(sample.value, sample.seconds, sample.body_bytes, sample.cpu_seconds, notes)

    targets = {cache.name: partial(rush, cache) for cache in stage.caches}
    yield Case("herd, 64 clients, 64 MiB", "s to the last", targets, "nginx", more_is_better=False)


def cold_throttled(stage: Stage) -> Iterator[Case]:
    """A cold object from an origin that paces each connection; downloaders go there directly."""
    paced = stage.origins["paced"]

    def through(cache: Server) -> Sample:
        url = stage.url(cache, "paced", f"object?{fresh_key()}")
        return measure(cache, Load(url), _last_done)

    def program(command: list[str]) -> Sample:
        with tempfile.TemporaryDirectory() as directory:
            start = time.perf_counter()
            subprocess.run(
                [*command, f"{paced.url}/object"], cwd=directory, check=True, capture_output=True
            )
            seconds = time.perf_counter() - start
        return Sample(seconds, seconds, 0)

    caches = stage.caches_of("paced")
    targets: dict[str, Callable[[], Sample]] = {c.name: partial(through, c) for c in caches}
    if shutil.which("curl"):
        targets["curl direct"] = partial(program, ["curl", "-sfo", "out"])
    if shutil.which("aria2c"):
        for connections in (4, 16):
            number = str(connections)
            aria2 = ["aria2c", "-q", "-x", number, "-s", number, "-k1M", "--file-allocation=none"]
            targets[f"aria2c -x{number} direct"] = partial(program, aria2)
    yield Case("cold-throttled", "s", targets, "nginx", more_is_better=False)


WORKLOADS: dict[str, Callable[[Stage], Iterator[Case]]] = {
    "hot-large": hot_large,
    "hot-small": hot_small,
    "hot-range": hot_range,
    "many-keys": many_keys,
    "cold-range": cold_range,
    "cold-stream": cold_stream,
    "herd": herd,
    "cold-throttled": cold_throttled,
}


def _hot(
    stage: Stage, name: str, path: str, clients: int, value: Callable[[Result], float]
) -> Case:
    def press(cache: Server) -> Sample:
        load = Load(stage.url(cache, "origin", path), clients, stage.seconds)
        return measure(cache, load, value)

    for cache in stage.caches:
        run(Load(stage.url(cache, "origin", path)))
    unit = "requests/s" if value is _requests_per_second else "GiB/s"
    return Case(name, unit, {c.name: partial(press, c) for c in stage.caches}, "nginx")


def measure(server: Server, load: Load, value: Callable[[Result], float]) -> Sample:
    """One sample of this server under this load; ``value`` reads it from what clients saw."""
    return measure_both(server, load, value)[0]


def measure_both(
    server: Server, load: Load, value: Callable[[Result], float]
) -> tuple[Sample, Result]:
    """The same, and what the clients saw."""
    before = server.cpu_seconds()
    result = run(load)
    cpu_seconds = server.cpu_seconds() - before
    return Sample(value(result), result.seconds, result.body_bytes, cpu_seconds), result


def gib_per_second(result: Result) -> float:
    """The clients' throughput."""
    return result.body_bytes / result.seconds / (1024 * MIB)


def _requests_per_second(result: Result) -> float:
    return result.requests / result.seconds


def _last_done(result: Result) -> float:
    return max(result.done_seconds)


def _last_done_ms(result: Result) -> float:
    return 1000 * max(result.done_seconds)


def _upstream_bytes(log: Path, query: str) -> int:
    """The body bytes that the origin sent for requests with this query."""
    time.sleep(0.2)  # nginx writes a line when it has done with the request
    lines = [line.split() for line in log.read_text().splitlines()]
    return sum(int(sent) for uri, _, sent in lines if uri.endswith(f"?{query}"))
