"""The memory in front of the index."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from forebay.errors import StoreError
from forebay.model import Entry
from forebay.store.generation import Generation
from forebay.store.lookup import Lookups
from tests.store.support import new_entry


class SlowIndex:
    """An index whose answers come when the test says so."""

    def __init__(self) -> None:
        self.reads = 0
        self.answers: list[asyncio.Future[tuple[Entry, ...]]] = []

    async def read(self, key: str) -> tuple[Entry, ...]:
        self.reads += 1
        answer: asyncio.Future[tuple[Entry, ...]] = asyncio.get_running_loop().create_future()
        self.answers.append(answer)
        return await answer

    async def asked(self, count: int) -> None:
        while len(self.answers) < count:  # noqa: ASYNC110
            await asyncio.sleep(0)


OLD, NEW = (new_entry(),), (new_entry(),)


async def answered(lookups: Lookups, index: SlowIndex, key: str, what: tuple[Entry, ...]) -> None:
    """Let one look-up of a key come back."""
    asked = len(index.answers)
    task = asyncio.create_task(lookups.find(key))
    await index.asked(asked + 1)
    index.answers[-1].set_result(what)
    assert await task == what


async def test_simultaneous_lookups_read_once_and_the_next_not_at_all() -> None:
    index = SlowIndex()
    lookups = Lookups(index.read, None)
    tasks = [asyncio.create_task(lookups.find("k")) for _ in range(50)]
    await index.asked(1)
    index.answers[0].set_result(OLD)
    assert await asyncio.gather(*tasks) == [OLD] * 50
    assert lookups.cached("k") == await lookups.find("k") == OLD
    assert index.reads == 1


async def test_what_was_read_before_a_change_is_not_remembered() -> None:
    index = SlowIndex()
    lookups = Lookups(index.read, None)
    early = asyncio.create_task(lookups.find("k"))
    await index.asked(1)
    lookups.drop("k")
    late = asyncio.create_task(lookups.find("k"))
    await index.asked(2)
    index.answers[1].set_result(NEW)
    assert await late == NEW
    index.answers[0].set_result(OLD)
    assert await early == OLD
    assert lookups.cached("k") == NEW


async def test_a_caller_who_leaves_takes_nobodys_answer_away() -> None:
    index = SlowIndex()
    lookups = Lookups(index.read, None)
    leaver = asyncio.create_task(lookups.find("k"))
    stayer = asyncio.create_task(lookups.find("k"))
    await index.asked(1)
    leaver.cancel()
    await asyncio.sleep(0)
    index.answers[0].set_result(OLD)
    assert await stayer == OLD


async def test_misses_and_failures_are_not_remembered() -> None:
    index = SlowIndex()
    lookups = Lookups(index.read, None)
    await answered(lookups, index, "k", ())
    assert lookups.cached("k") is None
    task = asyncio.create_task(lookups.find("k"))
    await index.asked(2)
    index.answers[1].set_exception(StoreError("ill"))
    with pytest.raises(StoreError):
        await task
    await answered(lookups, index, "k", OLD)


async def test_the_memory_is_bounded_and_forgets_the_coldest() -> None:
    index = SlowIndex()
    lookups = Lookups(index.read, None, limit=2)
    await answered(lookups, index, "a", OLD)
    await answered(lookups, index, "b", OLD)
    assert lookups.cached("a") == OLD
    await answered(lookups, index, "c", OLD)
    assert [lookups.cached(key) for key in "abc"] == [OLD, None, OLD]


async def test_another_workers_change_empties_the_memory(tmp_path: Path) -> None:
    ours, theirs = Generation(tmp_path / "g"), Generation(tmp_path / "g")
    ours.open()
    theirs.open()
    index = SlowIndex()
    lookups = Lookups(index.read, ours)
    theirs.bump()
    await answered(lookups, index, "k", OLD)
    assert lookups.cached("k") == OLD
    theirs.bump()
    assert lookups.cached("k") is None
    early = asyncio.create_task(lookups.find("k"))
    await index.asked(2)
    theirs.bump()
    late = asyncio.create_task(lookups.find("k"))
    await index.asked(3)
    index.answers[1].set_result(OLD)
    index.answers[2].set_result(NEW)
    assert (await early, await late) == (OLD, NEW)
    assert lookups.cached("k") == NEW
    theirs.close()
    ours.close()
    ours.close()
    assert lookups.cached("k") is None


def test_a_generation_follows_its_file_when_the_directory_is_made_anew(tmp_path: Path) -> None:
    generation = Generation(tmp_path / "g")
    assert generation.read() is None
    generation.bump()
    generation.open()
    generation.bump()
    before = generation.read()
    (tmp_path / "g").unlink()
    generation.open()
    assert generation.read() != before
    generation.bump()
    assert (tmp_path / "g").read_bytes() == generation.read()
    generation.close()
