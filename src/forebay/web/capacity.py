"""What this process can still take on, so that what already runs never finds it has run out.

A connection costs a descriptor, an answer a few more: its file, a duplicate of the socket, a
connection to the upstream. A part of what the system allows is kept back for answers that
run. New work is refused with 503 when it would come to live on that reserve, new connections
when half of it has gone. Kept connections that rest are closed then, the longest resting first
(RFC 9112 §9.5 lets either side).
"""

from __future__ import annotations

import logging
import os
import resource
import time
from collections.abc import Callable, Iterable
from typing import Any

logger = logging.getLogger("forebay.web")

REQUEST_DESCRIPTORS = 4
"""What an answer may open: its file, the socket's duplicate, and two towards the upstream."""
LOOK_SECONDS = 0.01
"""Out of room, the descriptors are counted again so often at most."""
SHED_SECONDS = 0.5
SHED_SHARE = 8
"""One in so many of the connections that rest is closed at a time."""
WARN_SECONDS = 60.0

_MOST_DESCRIPTORS = 1 << 20
"""Linux's own default for ``fs.nr_open``; a table for the billion that some container runtimes
allow would be larger than everything in it."""


def raise_descriptor_limit() -> int:
    """Let this process and its children open as much as they may; returns how much that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return descriptor_limit()
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        logger.warning("the limit of %d open files cannot be raised to %d", soft, wanted)
    return descriptor_limit()


def descriptor_limit() -> int:
    """How many descriptors this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def open_descriptors() -> int:
    """How many this process has open now; 0 where the system does not tell."""
    try:
        # Since Linux 6.2 the size of the directory is the count; before, it is 0.
        return os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0


class Descriptors:
    """Counts by estimate, and looks only where the estimate says that there is no room.

    Each ``take`` adds what may be opened, nobody subtracts what is closed, and a look puts the
    estimate right: so it errs towards looking, which costs microseconds once in hundreds of
    requests. ``limit`` and ``count`` are for tests.
    """

    def __init__(
        self,
        limit: int | None = None,
        count: Callable[[], int] = open_descriptors,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit
        self._count = count
        self._clock = clock
        self._estimate = -1
        self._look_again = 0.0

    @property
    def limit(self) -> int:
        """How many there are; read at first use, when it has been raised."""
        if self._limit is None:
            self._limit = descriptor_limit()
        return self._limit

    @property
    def reserve(self) -> int:
        """How many are kept back for what runs."""
        return min(1024, max(24, self.limit // 8))

    def take(self, count: int, *, reserve_share: float = 1.0) -> bool:
        """Whether so many more may be opened and this share of the reserve be left."""
        most = self.limit - int(self.reserve * reserve_share)
        if self._estimate >= 0 and self._estimate + count <= most:
            self._estimate += count
            return True
        now = self._clock()
        if now >= self._look_again:
            self._estimate = self._count()
            if self._estimate + count > most:
                self._look_again = now + LOOK_SECONDS
        if self._estimate + count > most:
            return False
        self._estimate += count
        return True


class Shedder:
    """Closes connections that rest, a few at a time, where there are too many."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._shed_again = 0.0
        self._warn_again = 0.0

    def shed(self, connections: Iterable[Any], why: str) -> None:
        """Close some of those that have a keep-alive timer, the longest resting first."""
        now = self._clock()
        if now < self._shed_again:
            return
        self._shed_again = now + SHED_SECONDS
        resting = [c for c in connections if c.timeout_keep_alive_task is not None]
        resting.sort(key=lambda connection: connection.resting_since)
        leaving = resting[: -(-len(resting) // SHED_SHARE)]
        for connection in leaving:
            connection.transport.close()
        if now >= self._warn_again:
            self._warn_again = now + WARN_SECONDS
            logger.warning(
                "%s: new work is refused with 503, and %d of %d resting connections are closed",
                why, len(leaving), len(resting),
            )  # fmt: skip


DESCRIPTORS = Descriptors()
"""Those of this process, which all its connections share."""
SHEDDER = Shedder()
