"""The ways in, over real sockets: mounts, mirrors, raw paths, URLs in paths and in queries."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.fakes.origin import Origin
from tests.live.running import Running, running

BODY = random.Random(12).randbytes(2_000_000)
MAX_AGE = ("cache-control", "max-age=600")


@pytest.fixture
async def mirror() -> AsyncIterator[Origin]:
    async with Origin() as server:
        yield server


@pytest.fixture
async def mirrored(
    tmp_path: Path, origin: Origin, mirror: Origin, no_leaks: None
) -> AsyncIterator[Running]:
    mounts = [{"name": "two", "upstreams": [origin.url("/a/"), mirror.url("/b/")]}]
    async with running(tmp_path / "cache", origin, mounts=mounts) as service:
        yield service


async def test_a_mount_maps_its_prefix_to_its_upstream(tmp_path: Path, origin: Origin) -> None:
    mounts = [
        {"name": "deb", "upstream": origin.url("/debian/")},
        {"name": "deeper", "prefix": "/deb/security", "upstream": origin.url("/sec/")},
    ]
    origin.add("/debian/f", body=b"one", headers=[MAX_AGE])
    origin.add("/sec/f", body=b"two", headers=[MAX_AGE])
    async with running(tmp_path / "cache", origin, mounts=mounts) as service:
        assert (await service.get("/deb/f")).body == b"one"
        assert (await service.get("/deb/security/f")).body == b"two"
        assert (await service.get("/nowhere/f")).status == 404
        assert [r.path for r in origin.requests] == ["/debian/f", "/sec/f"]


async def test_the_prefix_slash_makes_a_plain_reverse_proxy(tmp_path: Path, origin: Origin) -> None:
    mounts = [{"name": "all", "prefix": "/", "upstream": origin.url("/")}]
    origin.add("/", body=b"front page", headers=[MAX_AGE])
    origin.add("/deep/f", body=b"one", headers=[MAX_AGE])
    async with running(tmp_path / "cache", origin, mounts=mounts) as service:
        assert (await service.get("/")).body == b"front page"
        assert (await service.get("/deep/f")).body == b"one"
        assert (await service.get("/healthz")).body == b"ok\n"
        assert (await service.admin("/-/stats")).json()["objects"] == 2
        assert len(origin.requests) == 2


async def test_a_mount_with_a_host_of_its_own_has_every_path(
    tmp_path: Path, origin: Origin
) -> None:
    mounts = [{"name": "all", "hosts": ["files.example"], "upstream": origin.url("/base/")}]
    origin.add("/base/https:/x", body=b"one", headers=[MAX_AGE])
    origin.add("/base/", body=b"the root", headers=[MAX_AGE])
    async with running(tmp_path / "cache", origin, mounts=mounts) as service:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(b"GET /https:/x HTTP/1.1\r\nHost: files.example\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).endswith(b"one")
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: files.example\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).endswith(b"the root")
        writer.close()


RAW = [
    "/a%2fb",
    "/@scope%2Fname",
    "/%21x!y",
    "/a+b%2Bc",
    "/100%25",
    "/sp%20ace",
    "/q?x=a%20b+c&y=%2F&z",
    "/q?",
    "/semi;v=1,2",
    "//double",
    "/%e2%82%ac",
]


async def test_paths_and_queries_reach_upstream_as_they_came(
    forebay: Running, origin: Origin
) -> None:
    for path in RAW:
        origin.add(path, body=path.encode(), headers=[MAX_AGE])
        assert (await forebay.fetch(path)).body == path.encode()
        assert "hit" in (await forebay.fetch(path)).cache_status
    assert [r.target for r in origin.requests] == RAW


FORMS = ["/http://{}/f", "/http:/{}/f", "/HTTP://{}/f", "/http%3A//{}/f", "/http%3A/{}/f"]


async def test_every_spelling_of_a_url_in_the_path_is_one_object(
    forebay: Running, origin: Origin
) -> None:
    origin.add("/f", body=BODY, etag='"one"', headers=[MAX_AGE])
    await forebay.fetch("/f")
    host = f"127.0.0.1:{origin.port}"
    for form in FORMS:
        answer = await forebay.get(form.format(host))
        assert (answer.body, "hit" in answer.cache_status) == (BODY, True), form
        encoded = await forebay.get(form.format(host.replace(":", "%3A")))
        assert "hit" in encoded.cache_status, form


async def test_a_url_in_the_query_is_the_same_object(forebay: Running, origin: Origin) -> None:
    origin.add("/f?a=1&b=%2F", body=BODY, etag='"one"', headers=[MAX_AGE])
    await forebay.fetch("/f?a=1&b=%2F")
    url = quote(origin.url("/f?a=1&b=%2F"), safe="")
    answer = await forebay.get(f"/-/fetch?url={url}")
    assert (answer.body, "hit" in answer.cache_status) == (BODY, True)


async def test_absolute_form_is_the_same_object(forebay: Running, origin: Origin) -> None:
    origin.add("/f", body=BODY, etag='"one"', headers=[MAX_AGE])
    await forebay.fetch("/f")
    answer = await forebay.get(origin.url("/f"))
    assert (answer.body, "hit" in answer.cache_status) == (BODY, True)


@pytest.mark.parametrize("cacheable", [True, False])
async def test_an_expected_digest_that_is_right_is_delivered(
    forebay: Running, origin: Origin, cacheable: bool
) -> None:
    headers = [MAX_AGE] if cacheable else [("cache-control", "no-store")]
    origin.add("/f", body=BODY, etag='"one"', headers=headers)
    path = f"/-/fetch?url={quote(origin.url('/f'), safe='')}"
    right = hashlib.sha256(BODY).hexdigest()
    for _ in range(2):
        answer = await forebay.get(f"{path}&sha256={right}")
        assert (answer.status, answer.body, answer.whole) == (200, BODY, True)
    assert len(origin.requests) == (1 if cacheable else 2)


@pytest.mark.parametrize("cacheable", [True, False])
async def test_an_expected_digest_that_is_wrong_ends_short_and_leaves_nothing(
    forebay: Running, origin: Origin, cacheable: bool
) -> None:
    headers = [MAX_AGE] if cacheable else [("cache-control", "no-store")]
    origin.add("/f", body=BODY, etag='"one"', headers=headers)
    path = f"/-/fetch?url={quote(origin.url('/f'), safe='')}"
    answer = await forebay.get(f"{path}&sha256={'0' * 64}")
    assert not answer.whole
    assert len(answer.body) < len(BODY)
    # The client is cut off first, and what had come is removed in the next moment.
    for _ in range(1000):
        left = (await forebay.admin("/-/objects")).json()["objects"]
        if not left:
            break
        await asyncio.sleep(0.01)
    assert left == []


# Mirrors.


async def test_a_mirror_that_is_down_at_the_start_costs_nothing_but_a_try(
    mirrored: Running, origin: Origin, mirror: Origin
) -> None:
    mirror.add("/b/f", body=BODY, etag='"one"', headers=[MAX_AGE])
    origin.refuse_connections()
    answer = await mirrored.get("/two/f")
    assert (answer.body, answer.whole) == (BODY, True)


@pytest.mark.parametrize("fault", ["truncate_at", "reset_at"])
async def test_a_mirror_that_fails_in_mid_body_is_replaced_within_the_response(
    mirrored: Running, origin: Origin, mirror: Origin, fault: str
) -> None:
    # Whichever is asked first has only half of it, however often it is asked.
    for server, path in ((origin, "/a/f"), (mirror, "/b/f")):
        server.add(path, body=BODY, etag='"one"', headers=[MAX_AGE], **{fault: 800_000})
    first = await mirrored.start("/two/f")
    await first.read_until(1)
    failing, helping = (origin, mirror) if origin.requests else (mirror, origin)
    helping.add("/b/f" if helping is mirror else "/a/f", body=BODY, etag='"one"', headers=[MAX_AGE])
    assert await first.read_until(len(BODY)) == BODY
    assert helping.requests[0].fields.get("if-range") == '"one"'
    assert helping.requests[0].range is not None
    assert len(failing.requests) >= 1
    hit = await mirrored.get("/two/f")
    assert (hit.body, "hit" in hit.cache_status) == (BODY, True)


async def test_a_mirror_with_another_file_is_never_spliced_in(
    mirrored: Running, origin: Origin, mirror: Origin
) -> None:
    other = BODY[::-1]
    for server, path, body, tag in (
        (origin, "/a/f", BODY, '"one"'),
        (mirror, "/b/f", other, '"two"'),
    ):
        server.add(path, body=body, etag=tag, headers=[MAX_AGE], truncate_at=800_000, ranges=False)
    answer = await mirrored.get("/two/f")
    assert not answer.whole
    assert BODY.startswith(answer.body) or other.startswith(answer.body)
