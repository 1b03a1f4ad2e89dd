"""Buffers that sockets are read into, used again as soon as nobody holds bytes of them.

A large body would otherwise be copied once more, from the loop's buffer into fresh memory: with
the page faults of that memory a fifth of the event loop's time of a fast fetch.
"""

from __future__ import annotations

from collections import deque

SLAB_BYTES = 512 * 1024
"""What one read takes from a socket at most."""

VIEW_FROM_BYTES = SLAB_BYTES // 2
"""Reads from this size are handed on as views of their slab; less is copied, so that bytes that
wait hold at most twice their size in memory."""

MOST_KEPT = 16
"""Slabs that are kept for the next reads, 8 MiB: what fills a few sinks. More come and go."""


class Slabs:
    """The slabs of one event loop.

    Take one for each read, and make views at once of what is not to be overwritten.
    """

    def __init__(self) -> None:
        self._kept: deque[bytearray] = deque()

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._kept)

    def take(self) -> bytearray:
        """A slab of which nobody has a view. Its old bytes are still in it."""
        for _ in range(len(self._kept)):
            slab = self._kept[0]
            if not _has_views(slab):
                return slab
            self._kept.rotate(-1)
        slab = bytearray(SLAB_BYTES)
        if len(self._kept) < MOST_KEPT:
            self._kept.appendleft(slab)
        return slab


def _has_views(slab: bytearray) -> bool:
    """Python refuses to change the length of what somebody has a view of."""
    try:
        slab.append(slab.pop())
    except BufferError:
        return True
    return False
