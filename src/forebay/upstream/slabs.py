"""Buffers that sockets are read into, used again as soon as nobody holds bytes of them.

A large body would otherwise be copied once more, from the loop's buffer into fresh memory: with
the page faults of that memory a fifth of the event loop's time of a fast fetch.
"""

from __future__ import annotations

from collections import deque

SLAB_BYTES = 512 * 1024
"""What one read takes from a socket at most, as long as no more waits there."""
MOST_KEPT = 16
"""Slabs that are kept for the next reads, 8 MiB: what fills a few sinks. More come and go."""

LARGE_SLAB_BYTES = 4 * SLAB_BYTES
"""What one read takes where upstream is far ahead of us: fewer reads wake the sender, the disk's
thread and the client less often, a fifth of the event loop's time of a fast fetch where each
wake-up is dear (docs/performance.md)."""
MOST_LARGE = 6
"""Large slabs that there are at most, 12 MiB: who finds none free reads into another."""


class Slabs:
    """The slabs of one event loop.

    Take one for each read, and make views at once of what is not to be overwritten.
    """

    def __init__(self) -> None:
        self._kept: deque[bytearray] = deque()
        self._large: deque[bytearray] = deque()

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._kept) + len(self._large)

    def take(self, waiting_bytes: int = 0) -> bytearray:
        """A slab of which nobody has a view. Its old bytes are still in it.

        ``waiting_bytes`` are known to be there: a large slab is given only to whom they fill
        half of it.
        """
        if waiting_bytes >= LARGE_SLAB_BYTES // 2:
            large = _free(self._large) or _fresh(self._large, LARGE_SLAB_BYTES, MOST_LARGE)
            if large is not None:
                return large
        kept = _free(self._kept) or _fresh(self._kept, SLAB_BYTES, MOST_KEPT)
        return kept if kept is not None else bytearray(SLAB_BYTES)


def is_view_worth(received_bytes: int, slab: bytearray) -> bool:
    """Whether so many bytes are handed on as a view of their slab. Less is copied, so that bytes
    that wait hold at most twice their size in memory."""
    return received_bytes >= len(slab) // 2


def _free(slabs: deque[bytearray]) -> bytearray | None:
    for _ in range(len(slabs)):
        if not _has_views(slabs[0]):
            return slabs[0]
        slabs.rotate(-1)
    return None


def _fresh(slabs: deque[bytearray], size_bytes: int, most: int) -> bytearray | None:
    """One more that is kept, where there is room for it."""
    if len(slabs) >= most:
        return None
    slabs.appendleft(bytearray(size_bytes))
    return slabs[0]


def _has_views(slab: bytearray) -> bool:
    """Python refuses to change the length of what somebody has a view of."""
    try:
        slab.append(slab.pop())
    except BufferError:
        return True
    return False
