"""What is measured. A workload yields cases; a case is one measurement of each target.

The targets of a case are measured in turn, round after round (A B A B …), so that whatever
else the machine does falls on all of them alike.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

from bench import servers
from bench.load import Load, Result, run
from bench.servers import FILES, MIB, Server


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement. ``value`` is in the unit of its case; CPU seconds are the server's, with
    all that it did behind its answers."""

    value: float
    seconds: float
    body_bytes: int
    cpu_seconds: float | None = None
    requests: int = 0
    notes: Mapping[str, float] = field(default_factory=dict)


Targets: TypeAlias = Mapping[str, Callable[[], Sample]]
"""By name, what takes one measurement."""


@dataclass(frozen=True, slots=True)
class Case:
    """What to compare: for each target a function that takes one measurement.

    ``baseline`` is the target by whose value the others' are divided; ``more_is_better`` says
    how to read the ratio, and ``cpu_per`` whether CPU is told by the GiB or by the request. A case
    whose values are good or bad by themselves ``compares`` nothing: no ratio is told.
    """

    name: str
    unit: str
    targets: Targets
    baseline: str
    more_is_better: bool = True
    cpu_per: Literal["GiB", "request"] = "GiB"
    compares: bool = True


@dataclass(frozen=True, slots=True)
class Stage:
    """The running servers and how hard to press them; ``caches`` begin with the baseline.

    ``sliced`` is the baseline with slices, for what they are made for.
    ``logs`` has for each origin a file with a line for each response: target, status, body bytes.
    """

    caches: tuple[Server, ...]
    sliced: Server
    origins: Mapping[str, Server]
    logs: Mapping[str, Path]
    directory: Path
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
        targets = _hot(stage, "large", clients, gib_per_second)
        yield Case(f"hot-large, clients: {clients}", "GiB/s", targets, "nginx")


def hot_small(stage: Stage) -> Iterator[Case]:
    """A small object that is in the cache, over 64 kept connections."""
    targets = _hot(stage, "small", 64, requests_per_second)
    name = "hot-small, connections: 64"
    yield Case(name, "requests/s", targets, "nginx", cpu_per="request")


def hot_range(stage: Stage) -> Iterator[Case]:
    """Random ranges of a large object that is in the cache."""
    kinds: tuple[tuple[str, int, int, Literal["GiB", "request"]], ...] = (
        ("1 MiB", 8, MIB, "GiB"),
        ("4 KiB", 64, 4096, "request"),
    )
    for name, clients, range_bytes, cpu_per in kinds:

        def press(cache: Server, clients: int = clients, range_bytes: int = range_bytes) -> Sample:
            url = stage.url(cache, "origin", "large")
            size = FILES["large"]
            load = Load(url, clients, stage.seconds, range_bytes=range_bytes, size_bytes=size)
            return measure_hits(stage, cache, load, requests_per_second)

        caches = (*stage.caches, stage.sliced)
        warm(stage, "large", caches)
        targets = {cache.name: partial(press, cache) for cache in caches}
        title = f"hot-range, {name}, clients: {clients}"
        yield Case(title, "requests/s", targets, "nginx", cpu_per=cpu_per)


def many_keys(stage: Stage) -> Iterator[Case]:
    """Small objects that are in the cache, each as likely as another, 64 connections.

    Each has been asked for three times before: some caches have more work with the second request
    for an object, and how long a round lasts is not to decide how much of that is measured.
    """
    keys = 500 if stage.quick else 5000

    def press(cache: Server) -> Sample:
        load = Load(stage.url(cache, "origin", "small"), 64, stage.seconds, keys=keys)
        return measure_hits(stage, cache, load, requests_per_second)

    for cache in stage.caches:
        for _ in range(3):
            run(Load(stage.url(cache, "origin", "small"), 16, keys=keys, sweep=True))
        cache.settle()
    targets = {cache.name: partial(press, cache) for cache in stage.caches}
    name = f"many-keys, {keys} of 10 KiB"
    yield Case(name, "requests/s", targets, "nginx", cpu_per="request")


WORKLOADS: dict[str, Callable[[Stage], Iterator[Case]]] = {
    "hot-large": hot_large,
    "hot-small": hot_small,
    "hot-range": hot_range,
    "many-keys": many_keys,
}


def _hot(stage: Stage, path: str, clients: int, value: Callable[[Result], float]) -> Targets:
    """One object for so many clients, from every cache, where it is already."""

    def press(cache: Server) -> Sample:
        load = Load(stage.url(cache, "origin", path), clients, stage.seconds)
        return measure_hits(stage, cache, load, value)

    warm(stage, path, stage.caches)
    return {cache.name: partial(press, cache) for cache in stage.caches}


def warm(stage: Stage, path: str, caches: Iterable[Server]) -> None:
    """Have the caches fetch this, ask for it again, and wait until they have put it away.

    Traffic Server takes into its memory what it reads, and not what it writes.
    """
    for cache in caches:
        for _ in range(2):
            run(Load(stage.url(cache, "origin", path)))
        cache.settle()


def measure_hits(
    stage: Stage, cache: Server, load: Load, value: Callable[[Result], float]
) -> Sample:
    """One sample of answers that the cache has. Raises ``RuntimeError`` where it asked the origin
    for more than one in fifty: that would be another workload."""
    before = servers.requests_so_far(stage.origins["origin"])
    sample = measure(cache, load, value)
    misses = servers.requests_so_far(stage.origins["origin"]) - before - 1
    asked = sample.requests + load.clients
    if misses > asked // 50:
        raise RuntimeError(f"the origin was asked for {misses} of {asked} hits: {load}")
    return sample


def measure(server: Server, load: Load, value: Callable[[Result], float]) -> Sample:
    """One sample of this server under this load; ``value`` reads it from what clients saw."""
    return measure_both(server, load, value)[0]


def measure_both(
    server: Server, load: Load, value: Callable[[Result], float]
) -> tuple[Sample, Result]:
    """The same, and what the clients saw."""
    before = server.cpu_seconds()
    result = run(load)
    server.settle()
    spent = server.cpu_seconds() - before
    sample = Sample(value(result), result.seconds, result.body_bytes, spent, result.requests)
    return sample, result


def gib_per_second(result: Result) -> float:
    """The clients' throughput."""
    return result.body_bytes / result.seconds / (1024 * MIB)


def requests_per_second(result: Result) -> float:
    """What the clients together got."""
    return result.requests / result.seconds
