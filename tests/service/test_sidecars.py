"""Checksums in files beside objects: asked for at the right time, believed, doubted once."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator

import pytest

from forebay.errors import UpstreamChanged, UpstreamUnreachable
from forebay.model import Fields, Mount, Policy, Request
from forebay.ports import Selection
from tests.service.scene import BODY, HOST, STALE, Scene, read, read_some, until

OTHER = random.Random(6).randbytes(len(BODY))
PATTERNS = ("{name}.sha256", "SHA256SUMS")
MOUNT = Mount(name="files", prefix="/files/", upstreams=(HOST + "/pub/",), checksums=PATTERNS)
URL = Mount(name="url", prefix="/", checksums=PATTERNS)


def sums(*files: tuple[str, bytes]) -> bytes:
    return b"".join(b"%s  %s\n" % (sha256(body).encode(), n.encode()) for n, body in files)


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@pytest.fixture
async def scene(no_leaks: None) -> AsyncIterator[Scene]:
    made = Scene(MOUNT, URL)
    yield made
    await made.close()


def asked(scene: Scene) -> list[str]:
    """The last segments of what upstream was asked for, in order."""
    return [ask.url.rpartition("/")[2] for ask in scene.upstream.asks]


@pytest.mark.parametrize("prefix", ["/files/", f"/{HOST}/pub/"])
async def test_what_a_list_beside_it_tells_is_proved_and_told(scene: Scene, prefix: str) -> None:
    scene.add("/pub/f")
    scene.add("/pub/SHA256SUMS", body=sums(("other", b""), ("f", BODY)))
    told = await scene.get_at(prefix + "f")
    assert (told.error, told.body) == (None, BODY)
    assert sorted(asked(scene)) == ["SHA256SUMS", "f", "f.sha256"]
    await scene.settled()
    hit = await scene.get_at(prefix + "f")
    assert "hit" in hit.cache
    assert (hit.field("repr-digest") or "").startswith("sha-256=:")
    assert len(scene.upstream.asks) == 3


async def test_the_list_is_an_object_like_any_other_asked_for_once_for_all(scene: Scene) -> None:
    scene.add("/pub/SHA256SUMS", body=sums(("a", BODY), ("b", BODY), ("c", OTHER)))
    for name, body in (("a", BODY), ("b", BODY), ("c", OTHER)):
        scene.add(f"/pub/{name}", body=body)
    bodies = await asyncio.gather(*(scene.get_at(f"/files/{name}") for name in "abc"))
    assert [told.body for told in bodies] == [BODY, BODY, OTHER]
    assert asked(scene).count("SHA256SUMS") == 1
    await scene.settled()
    hit = await scene.get_at("/files/SHA256SUMS")
    assert hit.cache.startswith("forebay; hit")
    assert "SHA256SUMS.sha256" not in asked(scene)


async def test_false_bytes_end_short_and_are_not_kept_and_the_next_request_asks_anew(
    scene: Scene,
) -> None:
    scene.add("/pub/f", body=OTHER)
    scene.add("/pub/f.sha256", body=sha256(BODY).encode())
    told = await scene.get_at("/files/f")
    assert isinstance(told.error, UpstreamChanged)
    assert told.body == OTHER[:-1]
    await scene.settled()
    assert [round(view.failures) for view in scene.mirrors.view()] == [1]
    assert asked(scene).count("f.sha256") == 2, "it was doubted once"
    scene.add("/pub/f")
    assert (await scene.get_at("/files/f")).body == BODY


async def test_a_file_that_changed_with_its_list_locks_nobody_out(scene: Scene) -> None:
    scene.add("/pub/f", headers=[STALE])
    old = scene.add("/pub/SHA256SUMS", body=sums(("f", BODY)))
    assert (await scene.get_at("/files/f")).error is None
    await scene.settled()
    scene.add("/pub/f", body=OTHER, etag='"two"')
    scene.add("/pub/SHA256SUMS", body=sums(("f", OTHER)), etag='"two"')
    told = await scene.get_at("/files/f")
    assert (told.error, told.body) == (None, OTHER)
    assert old.requests_seen == 1
    assert asked(scene).count("SHA256SUMS") == 2


async def test_where_there_is_none_the_object_is_kept_and_that_is_remembered(scene: Scene) -> None:
    for name in ("f", "g"):
        scene.add(f"/pub/{name}")
        assert (await scene.get_at(f"/files/{name}")).body == BODY
        await scene.settled()
    assert asked(scene).count("SHA256SUMS") == 1
    assert "hit" in (await scene.get_at("/files/g")).cache
    scene.now += 61
    scene.add("/pub/h")
    await scene.get_at("/files/h")
    assert asked(scene).count("SHA256SUMS") == 2


async def test_what_the_list_does_not_name_is_kept_as_it_came(scene: Scene) -> None:
    scene.add("/pub/f")
    scene.add("/pub/SHA256SUMS", body=sums(("g", OTHER)))
    assert (await scene.get_at("/files/f")).body == BODY
    await scene.settled()
    assert "hit" in (await scene.get_at("/files/f")).cache


@pytest.mark.parametrize("trouble", ["unreachable", "status"])
async def test_while_the_list_cannot_be_had_objects_are_given_and_not_kept(
    scene: Scene, trouble: str
) -> None:
    scene.add("/pub/f")
    url = f"{HOST}/pub/f.sha256"
    if trouble == "unreachable":
        scene.upstream.errors[url] = UpstreamUnreachable("No connection.")
    else:
        scene.add("/pub/f.sha256", status=503, headers=[("cache-control", "no-store")])
    told = await scene.get_at("/files/f")
    assert (told.error, told.body) == (None, BODY)
    await scene.settled()
    scene.upstream.errors.pop(url, None)
    scene.add("/pub/f.sha256", body=sha256(BODY).encode())
    scene.upstream.body_bytes_sent = 0
    told = await scene.get_at("/files/f")
    assert "fwd=partial" in told.cache
    assert told.body == BODY
    assert scene.upstream.body_bytes_sent == 1 + 64, "one byte was left, for the proof"
    await scene.settled()
    assert "hit" in (await scene.get_at("/files/f")).cache


async def test_the_first_byte_does_not_wait_for_the_list_and_the_last_does(scene: Scene) -> None:
    scene.add("/pub/f")
    scene.add("/pub/f.sha256", body=sha256(BODY).encode())
    gate = scene.upstream.held[f"{HOST}/pub/f.sha256"] = asyncio.Event()
    reply = await scene.ask("/files/f")
    assert await read_some(reply, len(BODY) - 1) == BODY[:-1]
    gate.set()
    assert (await read(reply)).body == BODY[-1:]


async def test_the_list_and_the_object_are_asked_for_side_by_side(scene: Scene) -> None:
    file = scene.add("/pub/f", stall_at=1000)
    scene.add("/pub/f.sha256", body=sha256(BODY).encode())
    reply = await scene.ask("/files/f")
    await until(lambda: len(scene.upstream.asks) == 2)
    file.go_on.set()
    assert (await read(reply)).error is None


async def test_parts_and_heads_ask_for_no_list(scene: Scene) -> None:
    scene.add("/pub/f")
    scene.add("/pub/f.sha256", body=sha256(OTHER).encode())
    part = await scene.get_at("/files/f", "range: bytes=10-19")
    assert (part.status, part.body) == (206, BODY[10:20])
    await scene.get_at("/files/f", method="HEAD")
    await scene.settled()
    assert "f.sha256" not in asked(scene)
    whole = await scene.get_at("/files/f")
    assert isinstance(whole.error, UpstreamChanged), "now the whole was wanted"


async def test_whoever_names_a_digest_needs_no_list(scene: Scene) -> None:
    scene.add("/pub/f")
    expected = (("sha-256", sha256(BODY)),)
    assert (await scene.get("/pub/f", expected_digests=expected)).error is None
    assert asked(scene) == ["f"]


async def test_errors_and_directories_have_no_list(scene: Scene) -> None:
    scene.add("/pub/dir/", body=b"<html>")
    await scene.get_at("/files/dir/")
    await scene.get_at("/files/none")
    await scene.settled()
    assert asked(scene) == ["", "none"]


async def test_a_list_is_asked_for_with_the_fields_that_the_object_was(no_leaks: None) -> None:
    mount = Mount(
        name="m",
        prefix="/m/",
        upstreams=(HOST + "/",),
        policy=Policy(share_authorized=True),
        forward=("authorization",),
        checksums=("SUMS",),
    )
    scene = Scene(mount)
    scene.add("/f")
    scene.add("/SUMS", body=sums(("f", BODY)))
    told = await scene.get_at("/m/f", "authorization: Basic x", "range: bytes=0-", "cookie: y")
    assert told.error is None
    assert scene.upstream.asks[1].fields == Fields([("authorization", "Basic x")])
    await scene.close()


@pytest.mark.parametrize(
    "script",
    [
        {"body": b"<html>not found</html>"},
        {"body": b"\xff\xfe\x00" * 100},
        {"body": b"", "status": 403},
        {"gzip": True},
        {"body": sums(("f", BODY)), "truncate_at": 10, "fault_times": 1},
    ],
)
async def test_a_strange_list_harms_nobody(scene: Scene, script: dict[str, object]) -> None:
    scene.add("/pub/f")
    scene.add("/pub/SHA256SUMS", **{"body": sums(("f", OTHER)), **script, "etag": None})
    told = await scene.get_at("/files/f")
    assert (told.error, told.body) in {(None, BODY), (told.error, BODY[:-1])}
    if "truncate_at" not in script:
        assert told.error is None


async def test_a_purge_of_the_object_takes_what_was_proved_by_a_list(scene: Scene) -> None:
    scene.add("/pub/f")
    scene.add("/pub/f.sha256", body=sha256(BODY).encode())
    await scene.get_at("/files/f")
    await scene.settled()
    result = await scene.service.purge_request(Request("PURGE", "/files/f"))
    assert result.objects == 1
    assert "uri-miss" in (await scene.get_at("/files/f")).cache
    assert (await scene.store.remove(Selection(everything=True))).objects == 2


async def test_what_is_left_of_the_service_ends_with_it(no_leaks: None) -> None:
    scene = Scene(MOUNT)
    scene.add("/pub/f")
    scene.add("/pub/f.sha256", body=sha256(BODY).encode())
    scene.upstream.held[f"{HOST}/pub/f.sha256"] = asyncio.Event()
    reply = await scene.ask("/files/f")
    await read_some(reply, len(BODY) - 1)
    assert reply.body is not None
    await reply.body.aclose()
    await scene.close()
