"""Cancel at every await and look what is left: nothing but what was fetched."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from forebay.errors import ForebayError
from forebay.model import Interval
from tests.fakes.upstream import Act, Ending, Representation
from tests.streaming.rig import OTHER, SMALL, URL, Rig, content, take_all

LENGTH = 8000
BODY = content(LENGTH)
DIGEST = (("sha-256", hashlib.sha256(BODY).hexdigest()),)
TURNS = range(70)
MOMENTS = [round(0.06 * n, 2) for n in range(50)]


async def turns(count: int) -> None:
    """Let the loop go round so many times."""
    for _ in range(count):
        await asyncio.sleep(0)


def quick() -> Rig:
    """Everything at once: only turns of the loop between the steps."""
    rig = Rig(digests=DIGEST)
    rig.hold(Representation(BODY))
    return rig


def slow() -> Rig:
    """Two mirrors, several segments, a drop and a stall: steps in time."""
    rig = Rig(urls=(URL, OTHER), policy=replace(SMALL, min_segment_bytes=1000))
    rig.hold(Representation(BODY))
    pause = Act(pause_seconds=0.25)
    drop = replace(pause, ends_after_bytes=1500)
    rig.upstream.then(URL, pause, drop, replace(drop, ending=Ending.STALLED))
    rig.upstream.choose = lambda _: replace(pause, head_after_seconds=0.1)
    return rig


async def check_nothing_is_left(rig: Rig) -> None:
    """No connection, draft or slot; every transfer settled; what is claimed is true."""
    assert rig.upstream.open_responses == 0
    assert rig.store.drafts == set()
    assert rig.slots.used == 0
    assert all(transfer.is_over for transfer in rig.transfers)
    assert all(transfer.settled.is_set() for transfer in rig.transfers)
    assert all(transfer.view().segments == () for transfer in rig.transfers)
    assert rig.running is None
    rig.upstream.script.clear()
    rig.upstream.choose = lambda _: Act()
    assert await take_all(await rig.read()) == BODY


async def stop_all(rig: Rig) -> None:
    await rig.flights.close()


async def stop_impatiently(rig: Rig) -> None:
    """Cancel again and again while the cleaning up goes on."""
    closing = asyncio.create_task(rig.flights.close())
    tasks = [t for t in asyncio.all_tasks() if t.get_coro().__name__ == "_run"]  # type: ignore[union-attr]
    while not closing.done():
        for task in tasks:
            task.cancel()
        await asyncio.sleep(0)


async def cancel_after(
    rig: Rig, wait: Awaitable[None], stop: Callable[[Rig], Awaitable[None]]
) -> None:
    readers = [
        asyncio.create_task(read(rig, wanted)) for wanted in (None, Interval(6000, 7000), None)
    ]
    await wait
    await stop(rig)
    # Whoever had no transfer yet starts one now; the others end with what they have.
    await asyncio.wait(readers)
    await rig.flights.close()
    for reader in readers:
        assert reader.exception() is None
    await check_nothing_is_left(rig)
    await rig.close()


async def read(rig: Rig, wanted: Interval | None) -> None:
    try:
        body = await rig.read(wanted)
        found = await take_all(body)
    except ForebayError:
        return
    assert found == (BODY if wanted is None else BODY[wanted.start : wanted.stop])


@pytest.mark.parametrize("stop", [stop_all, stop_impatiently])
@pytest.mark.parametrize("count", TURNS)
async def test_a_transfer_stopped_at_any_step_leaves_nothing_open(
    count: int, stop: Callable[[Rig], Awaitable[None]]
) -> None:
    await cancel_after(quick(), turns(count), stop)


@pytest.mark.parametrize("stop", [stop_all, stop_impatiently])
@pytest.mark.parametrize("seconds", MOMENTS)
async def test_a_transfer_stopped_at_any_moment_leaves_nothing_open(
    seconds: float, stop: Callable[[Rig], Awaitable[None]]
) -> None:
    await cancel_after(slow(), asyncio.sleep(seconds), stop)


@pytest.mark.parametrize("count", TURNS)
async def test_a_reader_cancelled_at_any_step_harms_nobody_else(count: int) -> None:
    rig = quick()
    leaver = asyncio.create_task(read(rig, None))
    await turns(count // 2)
    other = asyncio.create_task(read(rig, None))
    await turns(count - count // 2)
    leaver.cancel()
    await asyncio.wait([leaver, other])
    assert other.exception() is None
    assert len(rig.upstream.asks) == 1
    await rig.flights.close()
    await check_nothing_is_left(rig)
    await rig.close()


@pytest.mark.parametrize("seconds", MOMENTS[::5])
async def test_a_write_in_progress_is_not_lost_when_its_segment_is_stopped(seconds: float) -> None:
    rig = slow()
    rig.store.faults.hold_writes = asyncio.Event()
    reader = asyncio.create_task(read(rig, None))
    await asyncio.sleep(seconds)
    closing = asyncio.create_task(stop_impatiently(rig))
    await turns(20)
    rig.store.faults.hold_writes.set()
    await closing
    await asyncio.wait([reader])
    await check_nothing_is_left(rig)
    await rig.close()
