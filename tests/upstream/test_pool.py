"""The pool's count: right after any order of takes, returns, losses and cancellations."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.errors import Overloaded, UpstreamUnreachable
from forebay.upstream import pool as module
from forebay.upstream.pool import Origin, Pool
from forebay.upstream.slabs import Slabs
from forebay.upstream.wire import Wire

A: Origin = ("http://a.example", False)
B: Origin = ("http://b.example", False)


class FakeWire(Wire):
    """A wire without a network: clean when released, unless told otherwise."""

    def __init__(self, *, clean: bool = True) -> None:
        super().__init__(Slabs())
        self.clean = clean

    def release(self) -> bool:
        if not self.clean:
            self.close()
        return self.clean and not self.closed


async def dial() -> Wire:
    await asyncio.sleep(0)
    return FakeWire()


async def test_a_clean_connection_is_given_again_to_the_same_origin_only() -> None:
    pool = Pool(max_connections=4)
    wire = await pool.take(A, dial)
    pool.give_back(wire, A)
    assert await pool.take(("http://a.example", True), dial) is not wire
    assert await pool.take(B, dial) is not wire
    assert await pool.take(A, dial) is wire
    assert await pool.take(A, dial, fresh=True) is not wire


async def test_the_connection_used_last_is_given_first() -> None:
    pool = Pool(max_connections=4)
    wires = [await pool.take(A, dial) for _ in range(3)]
    for wire in wires:
        pool.give_back(wire, A)
    assert await pool.take(A, dial) is wires[2]


async def test_unclean_and_lost_connections_free_their_slots() -> None:
    pool = Pool(max_connections=2)
    one, two = [await pool.take(A, dial) for _ in range(2)]
    assert isinstance(one, FakeWire)
    one.clean = False
    pool.give_back(one, A)
    assert (one.closed, pool.open_connections) == (True, 1)
    pool.give_back(two, A)
    two.close()  # lost while idle
    assert pool.open_connections == 0
    assert await pool.take(A, dial) is not two


async def test_failed_dials_free_their_slots() -> None:
    async def fail() -> Wire:
        raise UpstreamUnreachable("no")

    async def stillborn() -> Wire:
        wire = FakeWire()
        wire.close()
        return wire

    pool = Pool(max_connections=1)
    for _ in range(3):
        with pytest.raises(UpstreamUnreachable):
            await pool.take(A, fail)
        assert (await pool.take(A, stillborn)).closed
    assert pool.open_connections == 0


async def test_idle_connections_are_bounded_and_grow_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = Pool(max_connections=4, max_idle=2)
    wires = [await pool.take(A, dial) for _ in range(3)]
    for wire in wires:
        pool.give_back(wire, A)
    assert [wire.closed for wire in wires] == [True, False, False]
    monkeypatch.setattr(module, "KEEP_IDLE_SECONDS", -1.0)
    assert await pool.take(A, dial) not in wires
    assert pool.open_connections == 1


async def test_who_waits_gets_the_connection_of_its_own_origin_itself() -> None:
    pool = Pool(max_connections=1)
    wire = await pool.take(A, dial)
    waiting = asyncio.create_task(pool.take(A, dial))
    await asyncio.sleep(0)
    pool.give_back(wire, A)
    assert await waiting is wire


async def test_who_waits_for_another_origin_gets_the_slot_in_turn() -> None:
    pool = Pool(max_connections=1)
    wire = await pool.take(A, dial)
    first = asyncio.create_task(pool.take(B, dial))
    second = asyncio.create_task(pool.take(B, dial))
    await asyncio.sleep(0)
    pool.give_back(wire, A)
    got = await first
    assert wire.closed
    assert not second.done()
    pool.give_back(got, B)
    assert await second is got
    assert pool.open_connections == 1


async def test_who_is_cancelled_in_the_moment_of_its_turn_passes_it_on() -> None:
    pool = Pool(max_connections=1)
    for clean in (True, False):
        wire = await pool.take(A, dial)
        assert isinstance(wire, FakeWire)
        first = asyncio.create_task(pool.take(A, dial))
        second = asyncio.create_task(pool.take(A, dial))
        await asyncio.sleep(0)
        wire.clean = clean
        pool.give_back(wire, A)
        first.cancel()  # has been given a turn, and has not run since
        got = await second
        assert (got is wire) is clean
        assert first.cancelled()
        got.close()
    assert pool.open_connections == 0


async def test_waiting_has_an_end() -> None:
    pool = Pool(max_connections=1, wait_seconds=0.01)
    wire = await pool.take(A, dial)
    with pytest.raises(Overloaded):
        await pool.take(A, dial)
    pool.give_back(wire, A)
    assert await pool.take(A, dial) is wire


async def test_a_closed_pool_makes_no_more_connections() -> None:
    pool = Pool(max_connections=2)
    busy = await pool.take(A, dial)
    dialling = asyncio.create_task(pool.take(A, dial))
    await asyncio.sleep(0)
    pool.close()
    assert busy.closed
    assert (await dialling).closed
    with pytest.raises(UpstreamUnreachable):
        await pool.take(A, dial)
    assert pool.open_connections == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=60))
def test_no_order_of_events_loses_or_invents_a_slot(events: list[tuple[int, int]]) -> None:
    async def play() -> None:
        pool = Pool(max_connections=3)
        tasks: list[asyncio.Task[Wire]] = []
        everyone: list[asyncio.Task[Wire]] = []

        def settle(index: int, *, clean: bool) -> None:
            task = tasks.pop(index % len(tasks))
            if not task.done():
                task.cancel()
            elif not task.cancelled():
                wire = task.result()
                assert isinstance(wire, FakeWire)
                wire.clean = clean
                pool.give_back(wire, A if index % 2 else B)

        for kind, index in events:
            if kind < 2 or not tasks:
                tasks.append(asyncio.create_task(pool.take(A if kind else B, dial)))
                everyone.append(tasks[-1])
            elif kind == 2:
                settle(index, clean=True)
            elif kind == 3:
                settle(index, clean=False)
            elif kind == 4:
                tasks.pop(index % len(tasks)).cancel()
            else:
                await asyncio.sleep(0)
            assert pool.open_connections <= 3
        held = {id(t.result()) for t in tasks if t.done() and not t.cancelled()}
        assert len(held) == len([t for t in tasks if t.done() and not t.cancelled()])
        pool.close()
        await asyncio.gather(*everyone, return_exceptions=True)
        assert pool.open_connections == 0

    asyncio.run(play())
