"""Every whole object gets one digest, sooner or later, and only what is sure is told."""

from __future__ import annotations

import base64
import hashlib
import random
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from forebay.model import Interval
from forebay.service.summing import STEP_BYTES, Summing
from forebay.streaming.proving import SUMMED_BYTES
from tests.service.scene import BODY, FRESH, Scene, until

LONG = random.Random(7).randbytes(SUMMED_BYTES + STEP_BYTES + 1)


def told(body: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


@pytest.fixture
async def scene(no_leaks: None) -> AsyncIterator[Scene]:
    made = Scene(tells_digests=True)
    yield made
    await made.close()


async def stored_digests(scene: Scene) -> list[dict[str, str]]:
    return [dict(one.entry.digests) async for one in scene.store.list()]


@pytest.mark.parametrize("body", [b"", b"x", BODY])
async def test_what_is_short_has_its_digest_when_it_is_kept(scene: Scene, body: bytes) -> None:
    scene.add(body=body)
    miss = await scene.get()
    assert miss.field("repr-digest") is None, "nothing was known when the head left"
    await scene.settled()
    for lines in ((), ("range: bytes=0-0",), ("range: bytes=0-0,2-2",)):
        if body or not lines:
            hit = await scene.get("/f", *lines)
            assert hit.field("repr-digest") == told(body)
    assert (await scene.get(method="HEAD")).field("repr-digest") == told(body)


async def test_what_is_long_gets_it_behind_the_commit(scene: Scene) -> None:
    scene.add(body=LONG)
    assert (await scene.get()).body == LONG
    await scene.settled()
    digest = hashlib.sha256(LONG).hexdigest()
    await until(lambda: not scene.service.summing.is_at_work)
    assert await stored_digests(scene) == [{"sha-256": digest}]
    assert (await scene.get(method="HEAD")).field("repr-digest") == told(LONG)


async def test_an_upstreams_own_claim_gives_way_to_what_was_computed(scene: Scene) -> None:
    unknown = "sha-999=:AAAA:"
    scene.add(headers=[FRESH, ("repr-digest", unknown)])
    assert (await scene.get()).field("repr-digest") == unknown, "passed on as it came"
    await scene.settled()
    assert (await scene.get()).field("repr-digest") == told(BODY)


async def test_a_weak_digest_that_was_proved_is_not_told_and_spares_nothing(scene: Scene) -> None:
    md5 = hashlib.md5(BODY, usedforsecurity=False).hexdigest()
    scene.add()
    await scene.get("/f", expected_digests=(("md5", md5),))
    await scene.settled()
    assert await stored_digests(scene) == [
        {"md5": md5, "sha-256": hashlib.sha256(BODY).hexdigest()}
    ]


async def test_errors_and_partial_objects_have_none(scene: Scene) -> None:
    scene.add("/gone", status=404)
    scene.add("/part")
    await scene.get("/gone")
    await scene.get("/part", "range: bytes=5-9")
    await scene.settled()
    assert await stored_digests(scene) == [{}, {}]
    assert (await scene.get("/part", "range: bytes=5-9")).field("repr-digest") is None


async def test_what_was_kept_without_one_gets_it_at_its_first_use(scene: Scene) -> None:
    silent = Scene()
    silent.add()
    await silent.get()
    await silent.settled()
    (entry,) = [one.entry async for one in silent.store.list()]
    summing = Summing(silent.store, lambda: True, lambda: 0.0)
    summing.note(entry)
    summing.note(entry)
    await until(lambda: not summing.is_at_work)
    (entry,) = [one.entry async for one in silent.store.list()]
    assert dict(entry.digests) == {"sha-256": hashlib.sha256(BODY).hexdigest()}
    summing.note(entry)
    assert not summing.is_at_work, "once is enough"
    await silent.close()


async def test_bytes_that_rotted_are_not_vouched_for(scene: Scene) -> None:
    silent = Scene()
    silent.add()
    await silent.get()
    await silent.settled()
    (entry,) = [one.entry async for one in silent.store.list()]
    silent.store.rot(entry.entry_id, Interval(10, 20))
    summing = Summing(silent.store, lambda: False, lambda: 0.0)
    summing.note(entry)
    await until(lambda: not summing.is_at_work)
    assert await stored_digests(silent) == [{}]
    await silent.close()


async def test_what_was_purged_meanwhile_is_left_alone(scene: Scene) -> None:
    scene.add()
    await scene.get()
    await scene.settled()
    (entry,) = [one.entry async for one in scene.store.list()]
    await scene.store.forget(entry.entry_id, entry.key)
    summing = Summing(scene.store, lambda: False, lambda: 0.0)
    summing.note(replace(entry, digests=()))
    await until(lambda: not summing.is_at_work)


async def test_stopping_in_the_middle_leaves_nothing_open(no_leaks: None) -> None:
    scene = Scene()
    scene.add(body=LONG)
    await scene.get()
    await scene.settled()
    (entry,) = [one.entry async for one in scene.store.list()]
    summing = Summing(scene.store, lambda: False, lambda: 0.0)
    summing.note(entry)
    await until(lambda: summing.is_at_work)
    await summing.close()
    assert await stored_digests(scene) == [{}]
    await scene.close()
