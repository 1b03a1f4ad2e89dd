"""Which objects should make way? A comparison on synthetic traces: no disk, no network.

``./scripts/bench eviction``, or ``python -m bench.eviction``. A trace is a list of (object, bytes);
sizes are those of a download cache: many small documents, packages, a few large models. Each
policy sees the same trace at the same size of cache and gives two figures: the share of requests
it answered (hits), and the share of bytes (what upstream was spared).

    zipf     independent requests with Zipf popularity
    scan     the same, and a mirror job that reads everything once, a tenth of the trace each time
    release  the same, and every so often the most wanted objects are replaced by new ones
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol, TypeAlias

Trace: TypeAlias = list[tuple[int, int]]

OBJECTS, REQUESTS, SCANS = 20_000, 150_000, 5
SHARES = (0.01, 0.05, 0.2)
"""Size of the cache, as a share of all the bytes that the trace names."""
_MIB = 1024 * 1024


class Policy(Protocol):
    """A cache of so many bytes that holds objects and lets others go."""

    def ask(self, name: int, size_bytes: int) -> bool:
        """Whether the object was there; it is now, if it fits at all."""


class Lru:
    """The least recently used go first."""

    def __init__(self, limit_bytes: int) -> None:
        self._left = limit_bytes
        self._limit = limit_bytes
        self._held: OrderedDict[int, int] = OrderedDict()

    def ask(self, name: int, size_bytes: int) -> bool:
        if name in self._held:
            self._held.move_to_end(name)
            return True
        if size_bytes <= self._limit:
            while self._left < size_bytes:
                self._left += self._held.popitem(last=False)[1]
            self._held[name] = size_bytes
            self._left -= size_bytes
        return False


class Sieve:
    """A queue in the order of arrival; a hand lets the visited stay once (Zhang 2024)."""

    def __init__(self, limit_bytes: int) -> None:
        self._left = limit_bytes
        self._limit = limit_bytes
        self._held: OrderedDict[int, int] = OrderedDict()
        self._visited: set[int] = set()
        self._hand: Iterator[int] = iter(())

    def ask(self, name: int, size_bytes: int) -> bool:
        if name in self._held:
            self._visited.add(name)
            return True
        if size_bytes <= self._limit:
            while self._left < size_bytes:
                self._evict()
            self._held[name] = size_bytes
            self._left -= size_bytes
        return False

    def _evict(self) -> None:
        while True:
            name = next(self._hand, None)
            if name is None:
                # The hand goes on from where it was until the end, over who was there then.
                self._hand = iter(tuple(self._held))
            elif name in self._visited:
                self._visited.discard(name)
            elif name in self._held:
                self._left += self._held.pop(name)
                return


class S3Fifo:
    """A tenth of the room on probation, the rest for who came twice, a memory of who left
    (Yang 2023). All shares in bytes."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._small: OrderedDict[int, int] = OrderedDict()
        self._main: OrderedDict[int, int] = OrderedDict()
        self._ghost: OrderedDict[int, int] = OrderedDict()
        self._small_bytes = self._main_bytes = self._ghost_bytes = 0
        self._uses: dict[int, int] = {}

    def ask(self, name: int, size_bytes: int) -> bool:
        if name in self._uses:
            self._uses[name] = min(3, self._uses[name] + 1)
            return True
        if size_bytes > self._limit:
            return False
        while self._small_bytes + self._main_bytes + size_bytes > self._limit:
            self._evict()
        if name in self._ghost:
            self._ghost_bytes -= self._ghost.pop(name)
            self._main[name] = size_bytes
            self._main_bytes += size_bytes
        else:
            self._small[name] = size_bytes
            self._small_bytes += size_bytes
        self._uses[name] = 0
        return False

    def _evict(self) -> None:
        if self._small and (self._small_bytes > self._limit // 10 or not self._main):
            self._evict_small()
        else:
            self._evict_main()

    def _evict_small(self) -> None:
        name, size_bytes = self._small.popitem(last=False)
        self._small_bytes -= size_bytes
        if self._uses[name] > 1:
            self._uses[name] = 0
            self._main[name] = size_bytes
            self._main_bytes += size_bytes
            return
        del self._uses[name]
        self._ghost[name] = size_bytes
        self._ghost_bytes += size_bytes
        while self._ghost_bytes > self._limit:
            self._ghost_bytes -= self._ghost.popitem(last=False)[1]

    def _evict_main(self) -> None:
        while True:
            name, size_bytes = self._main.popitem(last=False)
            if not self._uses[name]:
                self._main_bytes -= size_bytes
                del self._uses[name]
                return
            self._uses[name] -= 1
            self._main[name] = size_bytes


class Ranked:
    """The lowest rank goes first: what the last victim had, plus uses times worth by size."""

    def __init__(self, limit_bytes: int, worth: Callable[[int], float]) -> None:
        self._left = limit_bytes
        self._limit = limit_bytes
        self._worth = worth
        self._floor = 0.0
        self._held: dict[int, tuple[float, int, int]] = {}  # rank, uses, size
        self._heap: list[tuple[float, int]] = []

    def ask(self, name: int, size_bytes: int) -> bool:
        held = self._held.get(name)
        if held is None:
            if size_bytes > self._limit:
                return False
            while self._left < size_bytes:
                self._evict()
            self._left -= size_bytes
        self._rank(name, held[1] + 1 if held else 1, size_bytes)
        return held is not None

    def _rank(self, name: int, uses: int, size_bytes: int) -> None:
        rank = self._floor + uses * self._worth(size_bytes)
        self._held[name] = rank, uses, size_bytes
        heapq.heappush(self._heap, (rank, name))

    def _evict(self) -> None:
        while True:
            rank, name = heapq.heappop(self._heap)
            held = self._held.get(name)
            if held is not None and held[0] == rank:
                del self._held[name]
                self._floor = rank
                self._left += held[2]
                return


POLICIES: dict[str, Callable[[int], Policy]] = {
    "lru": Lru,
    "sieve": Sieve,
    "s3-fifo": S3Fifo,
    "lfu-da": lambda limit: Ranked(limit, lambda _: 1.0),
    "gdsf": lambda limit: Ranked(limit, lambda size: 1.0 / size),
    "gdsf-log": lambda limit: Ranked(limit, lambda size: 1.0 / size.bit_length()),
    "gdsf-sqrt": lambda limit: Ranked(limit, lambda size: size**-0.5),
}


class Figure(NamedTuple):
    """What one policy made of one trace with a cache of this share of its bytes."""

    trace: str
    share: float
    policy: str
    hits: float
    bytes_spared: float


def sizes(choice: random.Random, count: int) -> list[int]:
    """Sizes as a download cache meets them: documents, packages, images and models."""
    kinds = choice.choices([20 * 1024, 2 * _MIB, 40 * _MIB, 1500 * _MIB], [60, 32, 7, 1], k=count)
    return [max(200, int(choice.lognormvariate(0, 1) * kind)) for kind in kinds]


def zipf(choice: random.Random, exponent: float = 0.9) -> Trace:
    """Independent requests; the object of rank r is asked for in proportion to r**-exponent."""
    size_of = sizes(choice, OBJECTS)
    weights = list(itertools.accumulate((rank + 1) ** -exponent for rank in range(OBJECTS)))
    names = choice.choices(range(OBJECTS), cum_weights=weights, k=REQUESTS)
    return [(name, size_of[name]) for name in names]


def scan(choice: random.Random) -> Trace:
    """Zipf, interrupted by jobs that read many things once."""
    asked = zipf(choice)
    size_of = sizes(choice, SCANS * REQUESTS // 10)
    fresh = itertools.count(OBJECTS)
    mixed: Trace = []
    for number in range(SCANS):
        part = REQUESTS // SCANS
        mixed += asked[number * part : (number + 1) * part]
        once = size_of[number * (REQUESTS // 10) : (number + 1) * (REQUESTS // 10)]
        mixed += [(next(fresh), size_bytes) for size_bytes in once]
    return mixed


def release(choice: random.Random) -> Trace:
    """Zipf, but every tenth of the trace the hundred most wanted objects are new ones."""
    asked = zipf(choice)
    epoch_length = REQUESTS // 10
    return [
        (name + (at // epoch_length + 1) * OBJECTS if name < 100 else name, size_bytes)
        for at, (name, size_bytes) in enumerate(asked)
    ]


TRACES: dict[str, Callable[[random.Random], Trace]] = {
    "zipf": zipf,
    "scan": scan,
    "release": release,
}


def compare(seed: int = 1) -> Iterator[Figure]:
    """Every policy on every trace at every size; the same seed gives the same figures."""
    for trace_name, make in TRACES.items():
        trace = make(random.Random(seed))
        asked_bytes = sum(size_bytes for _, size_bytes in trace)
        all_bytes = sum(dict(trace).values())
        for share in SHARES:
            for policy_name, build in POLICIES.items():
                policy = build(int(all_bytes * share))
                hits = hit_bytes = 0
                for name, size_bytes in trace:
                    if policy.ask(name, size_bytes):
                        hits += 1
                        hit_bytes += size_bytes
                yield Figure(
                    trace_name, share, policy_name, hits / len(trace), hit_bytes / asked_bytes
                )


def main() -> int:
    """Print the table."""
    print("trace    cache  policy      hits   bytes spared")
    for one in compare():
        print(
            f"{one.trace:<8} {one.share:>4.0%}   {one.policy:<10} {one.hits:>6.1%}"
            f"   {one.bytes_spared:>6.1%}"
        )
    return 0


if __name__ == "__main__":
    main()
