"""Chunks reach disk and reader in order, in large writes, within a bound, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.errors import StoreError, StoreFull, UpstreamMisbehaved, UpstreamUnreachable
from forebay.model import Entry, Interval, Octets
from forebay.streaming import sink as sink_module
from forebay.streaming.segment import Segment
from forebay.streaming.sink import BlobSink
from forebay.streaming.steadfast import see_through
from forebay.streaming.tee import clip, tee
from tests.fakes.clock import VirtualTimeLoop
from tests.streaming.rig import URL, source


class Collector:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []

    async def write(self, chunk: Octets) -> None:
        self.chunks.append(bytes(chunk))


class Tape:
    """A draft that notes its writes; each waits while ``held``."""

    def __init__(self) -> None:
        self.writes: list[tuple[int, bytes]] = []
        self.free = asyncio.Event()
        self.free.set()
        self.error: Exception | None = None

    @property
    def entry(self) -> Entry:
        raise NotImplementedError

    def open_reader(self) -> int:
        raise NotImplementedError

    async def write(self, position: int, pieces: Sequence[Octets]) -> None:
        await self.free.wait()
        if self.error is not None:
            raise self.error
        self.writes.append((position, b"".join(pieces)))

    async def checkpoint(self, coverage: object) -> bool:
        raise NotImplementedError

    def wished_elsewhere(self) -> tuple[Interval, ...]:
        return ()

    async def commit(self, entry: Entry) -> bool:
        raise NotImplementedError

    async def close(self) -> None: ...


class Spring:
    """A source of chunks that knows whether it was closed."""

    def __init__(self, *chunks: bytes, error: Exception | None = None) -> None:
        self.is_closed = False
        self.given = 0
        self._chunks = chunks
        self._error = error

    async def flow(self) -> AsyncGenerator[bytes]:
        try:
            for chunk in self._chunks:
                self.given += 1
                yield chunk
                await asyncio.sleep(0)
            if self._error is not None:
                raise self._error
        finally:
            self.is_closed = True


async def test_the_tee_gives_each_chunk_to_the_sink_first() -> None:
    sink = Collector()
    async with aclosing(tee(Spring(b"a", b"b").flow(), sink)) as copied:
        async for chunk in copied:
            assert sink.chunks[-1] == chunk
    assert sink.chunks == [b"a", b"b"]


async def test_leaving_the_tee_closes_its_source_at_once() -> None:
    spring = Spring(b"a", b"b")
    async with aclosing(tee(spring.flow(), Collector())) as copied:
        await anext(copied)
    assert spring.is_closed


@given(chunks=st.lists(st.binary(max_size=5), max_size=6), skip=st.integers(0, 20))
def test_clipping_leaves_out_the_first_bytes_only(chunks: list[bytes], skip: int) -> None:
    async def clipped() -> bytes:
        spring = Spring(*chunks)
        found = b"".join([chunk async for chunk in clip(spring.flow(), skip)])
        assert spring.is_closed
        return found

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(clipped()) == b"".join(chunks)[skip:]


def blob_sink(tape: Tape, start: int = 0) -> tuple[BlobSink, list[Interval]]:
    told: list[Interval] = []
    return BlobSink(tape, start, told.append), told


async def test_the_first_chunk_goes_to_disk_at_once_and_later_ones_in_batches() -> None:
    tape = Tape()
    sink, told = blob_sink(tape, 100)
    await sink.write(b"first")
    await asyncio.sleep(0)
    tape.free.clear()
    await asyncio.sleep(0)
    assert tape.writes == [(100, b"first")]
    for chunk in (b"a", b"b", b"c", b"d"):
        await sink.write(chunk)
        await asyncio.sleep(0)
    tape.free.set()
    await sink.drain()
    assert tape.writes == [(100, b"first"), (105, b"a"), (106, b"bcd")]
    assert told == [(100, 105), (105, 106), (106, 109)]


async def test_what_waits_for_the_disk_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink_module, "MAX_PENDING_BYTES", 10)
    tape = Tape()
    tape.free.clear()
    sink, _ = blob_sink(tape)

    taken = 0

    async def pour() -> None:
        nonlocal taken
        for _ in range(100):
            await sink.write(b"1234")
            taken += 4

    pouring = asyncio.create_task(pour())
    await asyncio.sleep(1)
    assert taken <= 20
    tape.free.set()
    await pouring
    await sink.drain()
    assert b"".join(data for _, data in tape.writes) == b"1234" * 100


@pytest.mark.parametrize("error", [StoreFull("full"), ZeroDivisionError()])
async def test_a_failed_write_is_told_to_whoever_writes_next_or_waits(error: Exception) -> None:
    tape = Tape()
    tape.error = error
    sink, told = blob_sink(tape)
    await sink.write(b"a")
    with pytest.raises(StoreError):
        await sink.drain()
    with pytest.raises(StoreError):
        await sink.write(b"b")
    await sink.settle()
    assert told == []


async def test_a_write_in_progress_outlives_the_cancellation_of_its_waiters() -> None:
    tape = Tape()
    tape.free.clear()
    sink, told = blob_sink(tape)
    await sink.write(b"kept")
    waiting = [asyncio.create_task(sink.drain()), asyncio.create_task(sink.settle())]
    for _ in range(3):
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
    assert not waiting[1].done()
    tape.free.set()
    await asyncio.wait(waiting)
    assert told == [(0, 4)]


async def test_seeing_through_waits_for_the_work_and_then_tells_of_the_cancellation() -> None:
    work = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(see_through(work))
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    work.set_exception(ZeroDivisionError())
    await asyncio.wait([task])
    assert task.cancelled()
    assert isinstance(work.exception(), ZeroDivisionError)


# A segment.


def segment(start: int, stop: int | None) -> Segment:
    return Segment(source(URL), start, stop, 0.0)


async def bring(one: Segment, chunks: AsyncIterator[bytes], tape: Tape | None = None) -> bytes:
    tape = tape or Tape()
    await one.bring(chunks, tape, lambda _: None, lambda: 1.0)
    assert list(accumulate((len(d) for _, d in tape.writes), initial=one.start))[:-1] == [
        position for position, _ in tape.writes
    ]
    return b"".join(data for _, data in tape.writes)


async def test_a_segment_ends_at_its_natural_stop_having_read_the_body_to_its_end() -> None:
    one, spring = segment(10, 14), Spring(b"ab", b"cd")
    assert await bring(one, spring.flow()) == b"abcd"
    assert one.body_ended
    assert (one.received, one.written, one.is_finished()) == (14, 14, True)


async def test_bytes_beyond_the_natural_stop_are_neither_written_nor_waited_for() -> None:
    one, spring = segment(0, 3), Spring(b"ab", b"cd", *[b"more"] * 1000)
    assert await bring(one, spring.flow()) == b"abc"
    assert spring.given == 2


async def test_a_cut_segment_ends_in_mid_chunk_and_drops_the_rest_of_the_body() -> None:
    one, spring = segment(0, 8), Spring(b"abcd", b"efgh")
    assert one.cut(3) == 3
    assert await bring(one, spring.flow()) == b"abc"
    assert spring.given == 1
    assert spring.is_closed


def test_a_cut_is_never_below_what_was_received_nor_above_the_stop() -> None:
    one = segment(0, 8)
    one.received = 5
    assert one.cut(2) == 5
    assert one.cut(7) == 5


def test_a_segment_is_extended_as_far_as_its_response_and_its_neighbour_allow() -> None:
    one = segment(0, 8)
    one.cut(2)
    one.extend(5)
    assert one.stop == 5
    one.extend(None)
    assert one.stop == 8
    one.extend(3)
    assert one.stop == 8


async def test_without_a_stop_the_body_says_where_the_end_is() -> None:
    one = segment(0, None)
    assert await bring(one, Spring(b"ab", b"", b"c").flow()) == b"abc"
    assert one.is_finished()


async def test_a_body_that_ends_early_without_a_word_is_an_error() -> None:
    with pytest.raises(UpstreamMisbehaved):
        await bring(segment(0, 5), Spring(b"abc").flow())


async def test_what_came_before_an_error_is_written() -> None:
    one, tape = segment(0, 9), Tape()
    with pytest.raises(UpstreamUnreachable):
        await bring(one, Spring(b"abc", error=UpstreamUnreachable("reset")).flow(), tape)
    assert tape.writes[0][1] == b"abc"
    assert one.written == 3


async def test_trouble_with_the_disk_is_noted_even_where_the_segment_was_cancelled() -> None:
    one, tape = segment(0, 9), Tape()
    tape.error = StoreFull("full")
    tape.free.clear()

    async def endless() -> AsyncGenerator[bytes]:
        yield b"a"
        await asyncio.Event().wait()

    task = asyncio.create_task(bring(one, endless(), tape))
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.sleep(0.1)
    assert not task.done()
    tape.free.set()
    await asyncio.wait([task])
    assert isinstance(one.disk_error, StoreFull)
