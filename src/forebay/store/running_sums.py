"""Sums of blocks taken while their bytes are written, so that nobody reads them again for it.

What a thread has just given to the kernel is in its caches still: summing it there costs half of
reading it back (docs/performance.md), and the sum is that of what came, whatever the page cache
makes of it. Where bytes come in another order than that of a block, the file is read.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from xxhash import xxh3_64

from forebay.model import Interval, Octets
from forebay.store.sums import BLOCK_BYTES, Sum


class _Run:
    """The bytes of one cell of the grid that were written one behind the other."""

    __slots__ = ("start", "state", "stop")

    def __init__(self, start: int) -> None:
        self.start = start
        self.stop = start
        self.state = xxh3_64()


class RunningSums:
    """The sums of one blob's blocks as they grow. May be used in several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # None where only the file can tell: bytes came from several sides, or twice.
        self._runs: dict[int, _Run | None] = {}

    def __len__(self) -> int:
        """How many cells are remembered."""
        return len(self._runs)

    def add(self, position: int, pieces: Sequence[Octets]) -> None:
        """These pieces have been written one behind the other from this position."""
        with self._lock:
            for piece in pieces:
                view = memoryview(piece)
                while view:
                    size_bytes = min(len(view), BLOCK_BYTES - position % BLOCK_BYTES)
                    self._add(position, view[:size_bytes])
                    view = view[size_bytes:]
                    position += size_bytes

    def take(self, blocks: Iterable[Interval]) -> tuple[list[Sum], list[Interval]]:
        """The sums of these blocks that are known, and the other blocks.

        Of a block that fills its cell the sum is given once.
        """
        known: list[Sum] = []
        unknown: list[Interval] = []
        with self._lock:
            for block in blocks:
                cell = block.start // BLOCK_BYTES
                run = self._runs.get(cell)
                if run is None or (run.start, run.stop) != block:
                    unknown.append(block)
                    continue
                known.append(Sum(*block, run.state.intdigest()))
                if block.length_bytes == BLOCK_BYTES:
                    del self._runs[cell]
        return known, unknown

    def _add(self, position: int, view: memoryview) -> None:
        cell = position // BLOCK_BYTES
        if cell not in self._runs:
            self._runs[cell] = _Run(position)
        run = self._runs[cell]
        if run is None or run.stop != position:
            self._runs[cell] = None
            return
        run.state.update(view)
        run.stop += len(view)
