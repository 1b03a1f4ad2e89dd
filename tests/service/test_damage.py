"""Damaged bytes are never sent: they are fetched again, while the sound ones are served."""

from __future__ import annotations

from typing import Any

import pytest

from forebay.errors import UpstreamError
from forebay.model import Interval
from tests.service.scene import BODY, FRESH, Scene, read, read_some

LENGTH = len(BODY)


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forebay.service.checking.STEP_BYTES", 50_000)


async def stored(scene: Scene, *rotten: Interval, **script: Any) -> str:
    """An object on disk of which these bytes have rotted; gives its id."""
    scene.add(**script)
    await scene.get()
    await scene.settled()
    (one,) = (await scene.service.objects()).objects
    for interval in rotten:
        scene.store.rot(one.entry_id, interval)
    return one.entry_id


@pytest.mark.parametrize(
    "rotten",
    [
        [Interval(0, 1)],
        [Interval(LENGTH - 1, LENGTH)],
        [Interval(120_000, 130_000)],
        [Interval(0, 1), Interval(49_999, 50_001), Interval(200_000, 250_000)],
    ],
)
async def test_rot_anywhere_is_mended_while_it_is_read(
    scene: Scene, rotten: list[Interval]
) -> None:
    entry_id = await stored(scene, *rotten)
    before = scene.service.transfers()
    told = await scene.get()
    assert (told.status, told.body, told.error) == (200, BODY, None)
    await scene.settled()
    (mended,) = (await scene.service.objects()).objects
    assert (mended.entry_id, mended.complete) == (entry_id, True)
    again = await scene.get()
    assert again.body == BODY
    assert "hit" in again.cache
    assert before == []


async def test_only_what_rotted_is_fetched_again(scene: Scene) -> None:
    await stored(scene, Interval(120_000, 130_000))
    fetched = (await scene.service.statistics()).upstream_bytes
    await scene.get()
    await scene.settled()
    assert (await scene.service.statistics()).upstream_bytes - fetched == 10_000


async def test_a_client_elsewhere_in_the_object_notices_nothing(scene: Scene) -> None:
    await stored(scene, Interval(120_000, 130_000))
    elsewhere = await scene.open("/f", "range: bytes=0-99999")
    begun = await read_some(elsewhere, 50_000)
    assert (await scene.get()).body == BODY
    rest = await read(elsewhere)
    assert begun + rest.body == BODY[:100_000]
    assert rest.error is None


async def test_parts_are_looked_at_one_by_one(scene: Scene) -> None:
    await stored(scene, Interval(120_000, 130_000))
    told = await scene.get("/f", "range: bytes=0-9,125000-125009")
    assert told.status == 206
    assert BODY[125_000:125_010] in told.body


async def test_a_sound_part_of_a_damaged_object_is_a_hit(scene: Scene) -> None:
    await stored(scene, Interval(120_000, 130_000))
    told = await scene.get("/f", "range: bytes=0-99")
    assert told.body == BODY[:100]
    assert "hit" in told.cache
    assert (await scene.service.objects()).objects[0].complete


async def test_an_object_that_has_rotted_away_is_fetched_anew(scene: Scene) -> None:
    await stored(scene, Interval(0, LENGTH))
    told = await scene.get()
    assert (told.status, told.body) == (200, BODY)
    assert "fwd=uri-miss" in told.cache


async def test_damage_without_a_strong_validator_costs_the_whole(scene: Scene) -> None:
    await stored(scene, Interval(5, 10), etag=None, headers=[FRESH])
    told = await scene.get()
    assert (told.status, told.body) == (200, BODY)
    await scene.settled()
    assert (await scene.get()).body == BODY


async def test_damage_in_what_upstream_has_changed_breaks_off_and_is_not_spliced(
    scene: Scene,
) -> None:
    await stored(scene, Interval(120_000, 130_000))
    scene.add(body=BODY[::-1], etag='"two"')
    told = await scene.get()
    assert isinstance(told.error, UpstreamError)
    assert BODY.startswith(told.body)
    assert 0 < len(told.body) < LENGTH
