"""One stored object serves whoever expects what it comes to, and nobody else."""

from __future__ import annotations

import base64
import hashlib
import random
from collections.abc import AsyncIterator

import pytest

from forebay.errors import UpstreamChanged
from forebay.model import Fields, Mount, Request
from forebay.rules.targets import resolve, variant_without_digests
from tests.service.scene import BODY, FRESH, HOST, Scene, Told

OTHER = random.Random(8).randbytes(len(BODY))
LISTED = Mount(
    name="listed", prefix="/listed/", upstreams=(HOST + "/pub/",), checksums=("{name}.sha256",)
)
URL = Mount(name="url", prefix="/")


def digest(algorithm: str, name: str, body: bytes = BODY) -> tuple[tuple[str, str], ...]:
    return ((algorithm, hashlib.new(name, body).hexdigest()),)


SHA256 = digest("sha-256", "sha256")
MD5 = digest("md5", "md5")
WRONG = digest("sha-256", "sha256", OTHER)


@pytest.fixture
async def scene(no_leaks: None) -> AsyncIterator[Scene]:
    made = Scene(URL, LISTED, tells_digests=True)
    yield made
    await made.close()


async def stored(scene: Scene, *expected: tuple[str, str], path: str = "/f") -> Told:
    told = await scene.get(path, expected_digests=expected)
    await scene.settled()
    return told


@pytest.mark.parametrize(
    ("first", "then"),
    [((), SHA256), (SHA256, ()), (MD5, ()), ((*SHA256, *MD5), SHA256), ((*SHA256, *MD5), MD5)],
)
async def test_what_was_proved_serves_whoever_expects_no_more(
    scene: Scene, first: tuple[tuple[str, str], ...], then: tuple[tuple[str, str], ...]
) -> None:
    scene.add()
    await stored(scene, *first)
    told = await stored(scene, *then)
    assert (told.body, told.error) == (BODY, None)
    assert told.cache.startswith("forebay; hit")
    assert (len(scene.upstream.asks), await scene.entries()) == (1, 1)


@pytest.mark.parametrize(("first", "then"), [(SHA256, MD5), ((), MD5)])
async def test_what_was_not_computed_is_proved_by_a_fetch(
    scene: Scene, first: tuple[tuple[str, str], ...], then: tuple[tuple[str, str], ...]
) -> None:
    scene.add()
    await stored(scene, *first)
    assert (await stored(scene, *then)).error is None
    assert len(scene.upstream.asks) == 2


async def test_who_expects_something_else_gets_nothing_of_it_and_takes_nothing_away(
    scene: Scene,
) -> None:
    scene.add()
    await stored(scene)
    assert isinstance((await stored(scene, *WRONG)).error, UpstreamChanged)
    assert (await stored(scene)).cache.startswith("forebay; hit")
    assert (await stored(scene, *SHA256)).cache.startswith("forebay; hit")


async def test_a_part_serves_nobody_who_expects_something_else(scene: Scene) -> None:
    scene.add()
    part = await scene.get("/f", "range: bytes=0-9")
    assert part.body == BODY[:10]
    await scene.settled()
    assert not (await stored(scene, *SHA256)).cache.startswith("forebay; hit")


async def test_what_went_upstream_with_other_fields_is_not_shared(scene: Scene) -> None:
    scene.add()
    await scene.get("/f", "accept: text/html", expected_digests=SHA256)
    await scene.settled()
    assert not (await stored(scene)).cache.startswith("forebay; hit")


async def test_a_clients_word_does_not_stand_for_a_checksum_file(scene: Scene) -> None:
    scene.add("/pub/f", body=OTHER)
    scene.add("/pub/f.sha256", body=SHA256[0][1].encode())
    told = await scene.get_at("/listed/f", expected_digests=WRONG)
    assert (told.body, told.error) == (OTHER, None)
    await scene.settled()
    assert isinstance((await scene.get_at("/listed/f")).error, UpstreamChanged)


async def test_a_clients_word_does_not_stand_for_the_upstreams_own(scene: Scene) -> None:
    md5 = base64.b64encode(hashlib.new("md5", BODY).digest()).decode()
    scene.add(body=OTHER, headers=[FRESH, ("content-md5", md5)])
    told = await stored(scene, *digest("md5", "md5", OTHER))
    assert (told.body, told.error) == (OTHER, None)
    assert isinstance((await stored(scene)).error, UpstreamChanged)


def test_a_variant_without_digests_keeps_fields_and_credentials() -> None:
    mount = Mount(name="url", prefix="/", forward=("x-kind",))
    request = Request("GET", f"/{HOST}/f", fields=Fields([("x-kind", "a")]))
    plain, held = resolve(request, (mount,)), resolve(request, (mount,), expected_digests=SHA256)
    assert plain.variant != held.variant
    assert variant_without_digests(held.variant) == plain.variant
    assert variant_without_digests(f"{held.variant}:abc") == f"{plain.variant}:abc"
    assert variant_without_digests(plain.variant) == plain.variant
