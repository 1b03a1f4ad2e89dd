"""Checksums of stored bytes, block by block: what tells rot from what was written.

A *block* is the part of a coverage's run that lies in one cell of a grid of 1 MiB: a whole cell
in the middle of a run, less at its ends. So every covered byte has a sum, also in an object of
which clients have read odd ranges only. The sum is XXH3 with 64 bits: it runs at the speed of
memory, which CRC-32 does not, and misses random damage once in 2**64 blocks. It proves nothing
against somebody who may write to the cache directory; digests do that (RFC 9530).
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from xxhash import xxh3_64_intdigest

from forebay.model import Interval, Intervals
from forebay.rules import coverage as cov

BLOCK_BYTES = 1024 * 1024
"""Damage costs a fetch of this much, and a reader waits for one block to be looked at. Sums of
smaller blocks take more room (24 bytes each) and find nothing more."""
PAGE_BYTES = 64 * BLOCK_BYTES
"""Sums of so many bytes lie in one row of the index: a checkpoint rewrites few and short rows."""

_RECORD = struct.Struct("<QQQ")
_own = threading.local()


class Sum(NamedTuple):
    """The checksum of the bytes ``start`` to ``stop`` of a blob."""

    start: int
    stop: int
    value: int


def blocks_of(coverage: Intervals) -> Iterator[Interval]:
    """The coverage cut at the grid, in order."""
    for start, stop in coverage:
        position = start
        while position < stop:
            until = min(stop, (position // BLOCK_BYTES + 1) * BLOCK_BYTES)
            yield Interval(position, until)
            position = until


def blocks_to_sum(coverage: Intervals, summed: Intervals) -> list[Interval]:
    """The blocks of a coverage that have grown since it was no more than ``summed``."""
    fresh = cov.subtract(coverage, summed)
    return [block for block in blocks_of(coverage) if _meets(fresh, block)]


def sum_of(fileno: int, block: Interval) -> int | None:
    """The sum of these bytes as they are on disk now, None where not all of them are there.

    Raises ``OSError`` when the disk cannot read them.
    """
    view = memoryview(_buffer())[: block.length_bytes]
    got = 0
    while got < len(view):
        count = os.preadv(fileno, [view[got:]], block.start + got)
        if count == 0:
            return None
        got += count
    return xxh3_64_intdigest(view)


def sums_of(fileno: int, blocks: Iterable[Interval]) -> list[Sum]:
    """The sums of blocks that have just been written.

    Raises ``OSError``; bytes that are not there are trouble as well.
    """
    sums = []
    for block in blocks:
        value = sum_of(fileno, block)
        if value is None:
            raise OSError("bytes that were written are not in the file")
        sums.append(Sum(*block, value))
    return sums


def merged(earlier: Iterable[Sum], later: Iterable[Sum]) -> list[Sum]:
    """Both in order, without those of the earlier ones that meet a later one."""
    newer = list(later)
    gone = cov.normalise(Interval(one.start, one.stop) for one in newer)
    return sorted(newer + without(earlier, gone))


def without(sums: Iterable[Sum], gone: Intervals) -> list[Sum]:
    """The sums of blocks none of whose bytes is in ``gone``."""
    return [one for one in sums if not _meets(gone, Interval(one.start, one.stop))]


def by_page(sums: Iterable[Sum]) -> dict[int, list[Sum]]:
    """The sums by the number of the page on which each lies."""
    pages: dict[int, list[Sum]] = {}
    for one in sums:
        pages.setdefault(one.start // PAGE_BYTES, []).append(one)
    return pages


def pages_of(intervals: Intervals) -> tuple[int, ...]:
    """The numbers of the pages on which blocks lie that these bytes meet."""
    numbers = {
        number
        for start, stop in intervals
        for number in range(start // PAGE_BYTES, -(-stop // PAGE_BYTES))
    }
    return tuple(sorted(numbers))


def packed(sums: Iterable[Sum]) -> bytes:
    """The sums of one page as they lie in the index."""
    return b"".join(_RECORD.pack(*one) for one in sums)


def unpacked(page: object) -> list[Sum]:
    """What ``packed`` made; empty for anything else, as if the blocks had never been summed."""
    if not isinstance(page, bytes) or len(page) % _RECORD.size:
        return []
    return [Sum(*values) for values in _RECORD.iter_unpack(page)]


def _meets(intervals: Intervals, block: Interval) -> bool:
    return bool(intervals) and cov.missing(intervals, block) != (block,)


def _buffer() -> bytearray:
    """One block's room for each thread that ever sums."""
    if not hasattr(_own, "buffer"):
        _own.buffer = bytearray(BLOCK_BYTES)
    buffer: bytearray = _own.buffer
    return buffer
