"""So many at a time, in the order they came, and no place is ever lost."""

from __future__ import annotations

import asyncio
import random

import pytest

from forebay.turns import Turns


async def _hold(turns: Turns, name: int, log: list[int], release: asyncio.Event) -> None:
    async with turns.turn():
        log.append(name)
        await release.wait()


async def test_those_who_wait_come_in_their_order() -> None:
    turns, log, release = Turns(2, 10.0), list[int](), asyncio.Event()
    tasks = []
    for name in range(6):
        tasks.append(asyncio.create_task(_hold(turns, name, log, release)))
        await asyncio.sleep(0)
    assert log == [0, 1]
    assert not turns.is_free
    release.set()
    await asyncio.gather(*tasks)
    assert log == list(range(6))
    assert turns.running == 0


async def test_a_turn_that_does_not_come_in_time_is_refused_and_keeps_no_place() -> None:
    turns = Turns(1, 0.0)
    async with turns.turn():
        with pytest.raises(TimeoutError):
            async with turns.turn():
                pass
    async with turns.turn():
        assert turns.running == 1
    assert turns.running == 0


async def test_no_more_wait_than_may() -> None:
    turns = Turns(1, 10.0, max_waiting=1)
    async with turns.turn():
        waiting = asyncio.create_task(turns.turn().__aenter__())
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            async with turns.turn():
                pass
        waiting.cancel()
        await asyncio.wait([waiting])
    assert turns.running == 0


@pytest.mark.parametrize("seed", range(20))
async def test_whoever_is_cancelled_when_the_places_are_all_there_in_the_end(seed: int) -> None:
    chance, turns, most = random.Random(seed), Turns(3, 10.0), [0]

    async def work() -> None:
        async with turns.turn():
            most[0] = max(most[0], turns.running)
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)

    tasks = [asyncio.create_task(work()) for _ in range(40)]
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        chance.choice(tasks).cancel()
    assert turns.running == 0
    assert most[0] <= 3
