"""Digests from whatever source are proved before the end, and told to clients (RFC 9530)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.origin import Origin
from tests.live.running import Answer, Running, running
from tests.patience import PATIENCE_SECONDS

BODY = b"the very bytes " * 10_000
LIES = BODY[:-1] + b"!"
MAX_AGE = ("cache-control", "max-age=600")


def b64(algorithm: str, body: bytes = BODY) -> str:
    if algorithm == "crc32":
        return base64.b64encode(zlib.crc32(body).to_bytes(4)).decode()
    return base64.b64encode(hashlib.new(algorithm, body).digest()).decode()


SHA256 = hashlib.sha256(BODY).hexdigest()
TOLD = f"sha-256=:{b64('sha256')}:"


@pytest.fixture
async def mirrored(tmp_path: Path, origin: Origin, no_leaks: None) -> AsyncIterator[Running]:
    """A service with a mount that has checksums beside its files."""
    mount = {
        "name": "m",
        "upstream": origin.url("/"),
        "checksums": ["{name}.sha256", "SHA256SUMS"],
    }
    async with running(tmp_path / "cache", origin, mounts=[mount]) as service:
        yield service


def fetched(origin: Origin, parameter: str) -> str:
    return f"/-/fetch?url={origin.url('/f')}&{parameter}"


async def stored_names(service: Running, *, complete: bool = False) -> set[str]:
    """The names of what is stored, or of what is stored whole."""
    stored = (await service.admin("/-/objects")).json()["objects"]
    return {one["name"] for one in stored if one["complete"] or not complete}


async def told_hit(service: Running, path: str | None = None) -> Answer:
    """The first hit that carries a digest: a transfer ends a moment after its client has it all."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        ask = service.path("/f") if path is None else path
        while True:
            hit = await service.get(ask)
            if "repr-digest" in hit.fields and hit.cache_status.startswith("forebay; hit"):
                return hit
            await asyncio.sleep(0.01)


SOURCES: dict[str, dict[str, Any]] = {
    "parameter sha256": {"parameter": f"sha256={SHA256}"},
    "parameter sha512": {"parameter": f"sha512={hashlib.sha512(BODY).hexdigest()}"},
    "parameter sha1": {"parameter": f"sha1={hashlib.new('sha1', BODY).hexdigest()}"},
    "parameter md5": {"parameter": f"md5={hashlib.new('md5', BODY).hexdigest()}"},
    "parameter blake2b": {"parameter": f"blake2b={hashlib.blake2b(BODY).hexdigest()}"},
    "request field": {"line": f"Repr-Digest: {TOLD}"},
    "repr-digest": {"field": ("Repr-Digest", TOLD)},
    "content-digest": {"field": ("Content-Digest", f"sha-512=:{b64('sha512')}:")},
    "digest": {"field": ("Digest", f"SHA-256={b64('sha256')}")},
    "content-md5": {"field": ("Content-MD5", b64("md5"))},
    "goog md5": {"field": ("x-goog-hash", f"crc32c=AAAAAA==,md5={b64('md5')}")},
    "amz sha256": {"field": ("x-amz-checksum-sha256", b64("sha256"))},
    "amz sha1": {"field": ("x-amz-checksum-sha1", b64("sha1"))},
    "amz crc32": {"field": ("x-amz-checksum-crc32", b64("crc32"))},
    "beside it": {"beside": ("/f.sha256", SHA256.encode())},
    "in a list": {"beside": ("/SHA256SUMS", f"SHA256 (f) = {SHA256}\n".encode())},
}


@pytest.mark.parametrize("source", SOURCES)
async def test_a_lie_ends_short_is_never_kept_and_marks_the_mirror(
    mirrored: Running, origin: Origin, source: str
) -> None:
    script = SOURCES[source]
    headers = [MAX_AGE, *([script["field"]] if "field" in script else [])]
    lines = [script["line"]] if "line" in script else []
    path = fetched(origin, script["parameter"]) if "parameter" in script else "/m/f"
    if "beside" in script:
        beside, text = script["beside"]
        origin.add(beside, body=text, headers=[MAX_AGE])
    origin.add("/f", body=LIES, etag='"1"', headers=headers)
    answer = await mirrored.get(path, *lines)
    assert not answer.whole
    assert len(answer.body) < len(LIES)
    mirrors = (await mirrored.admin("/-/stats")).json()["mirrors"]
    assert any(mirror["failures"] > 0.5 for mirror in mirrors)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while origin.url("/f") in await stored_names(mirrored):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    origin.add("/f", body=BODY, etag='"2"', headers=headers)
    answer = await mirrored.get(path, *lines)
    assert (answer.whole, answer.body) == (True, BODY)
    assert "fwd=uri-miss" in answer.cache_status


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Content-MD5", b64("md5", LIES[:10])),
        ("Content-Digest", f"sha-256=:{b64('sha256', LIES[:10])}:"),
        ("Digest", f"sha-256={b64('sha256', LIES[:10])}"),
        ("x-amz-checksum-sha256", b64("sha256", LIES[:10])),
    ],
)
async def test_what_is_told_of_a_part_is_not_held_against_the_whole(
    forebay: Running, origin: Origin, name: str, value: str
) -> None:
    file = origin.add("/f", body=BODY, etag='"1"', headers=[MAX_AGE, (name, value)])
    assert (await forebay.fetch("/f", "Range: bytes=0-9")).body == BODY[:10]
    file.headers = [MAX_AGE]
    whole = await forebay.fetch("/f")
    assert (whole.whole, whole.body) == (True, BODY)


async def test_what_passes_through_is_checked_against_upstreams_own_word_as_well(
    forebay: Running, origin: Origin
) -> None:
    headers = [("cache-control", "no-store"), ("content-md5", b64("md5"))]
    origin.add("/f", body=LIES, headers=headers)
    assert not (await forebay.fetch("/f")).whole
    origin.add("/f", body=BODY, headers=headers)
    assert (await forebay.fetch("/f")).whole


@pytest.mark.parametrize("storable", [True, False])
@pytest.mark.parametrize("source", ["content-md5", "goog md5", "repr-digest", "amz crc32"])
async def test_what_an_upstream_tells_wrongly_is_not_compared_where_its_mount_says_so(
    tmp_path: Path, origin: Origin, source: str, storable: bool, no_leaks: None
) -> None:
    kept = MAX_AGE if storable else ("cache-control", "no-store")
    origin.add("/f", body=LIES, etag='"1"', headers=[kept, SOURCES[source]["field"]])
    mount = {"name": "m", "upstream": origin.url("/"), "upstream_digests": "ignore"}
    async with running(tmp_path / "cache", origin, mounts=[mount]) as service:
        first = await service.get("/m/f")
        assert (first.whole, first.body) == (True, LIES)
        expecting = await service.get("/m/f", f"Repr-Digest: {TOLD}")
        assert not expecting.whole, "what the client expects counts all the same"
        if storable:
            hit = await told_hit(service, "/m/f")
            own = base64.b64encode(hashlib.sha256(LIES).digest()).decode()
            assert hit.body == LIES
            assert hit.fields["repr-digest"] == f"sha-256=:{own}:", "ours, not the upstream's"


@pytest.mark.parametrize("kept", [MAX_AGE, ("cache-control", "no-store")])
async def test_the_log_names_the_setting_where_an_upstream_contradicts_itself(
    mirrored: Running, origin: Origin, kept: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "forebay")
    origin.add("/f", body=LIES, etag='"1"', headers=[kept, ("content-md5", b64("md5"))])
    assert not (await mirrored.get("/m/f")).whole
    async with asyncio.timeout(PATIENCE_SECONDS):
        while 'set upstream_digests = "ignore"' not in caplog.text:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert "(cut: The md5 digest" in caplog.text


async def _on_one_connection(port: int, *requests: str) -> list[tuple[dict[str, str], bytes]]:
    """Requests one behind the other on a connection that stays, as the fast lane wants them."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers = []
    for request in requests:
        method = request.partition(" ")[0]
        writer.write(request.replace("\n", "\r\n").encode() + b"\r\nHost: x\r\n\r\n")
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[1:-2]
        fields = {n.lower(): v for n, v in (line.split(": ", 1) for line in head)}
        length = 0 if method == "HEAD" else int(fields["content-length"])
        answers.append((fields, await reader.readexactly(length)))
    writer.close()
    await writer.wait_closed()
    return answers


@pytest.mark.parametrize("size", [10, 1_000_000], ids=["from memory", "by sendfile"])
async def test_every_hit_carries_the_digest_of_the_whole(
    forebay: Running, origin: Origin, size: int
) -> None:
    body = b"%d" % size * (size // 2)
    origin.add("/f", body=body, etag='"1"', headers=[MAX_AGE, ("content-md5", b64("md5", body))])
    assert "repr-digest" not in (await forebay.fetch("/f")).fields
    await told_hit(forebay)
    path = forebay.path("/f")
    asked = [f"GET {path} HTTP/1.1", f"HEAD {path} HTTP/1.1", f"GET {path} HTTP/1.1"]
    asked += [f"GET {path} HTTP/1.1\nRange: bytes={ranges}" for ranges in ("2-3", "0-1,8-9")]
    for fields, _ in await _on_one_connection(forebay.port, *asked):
        assert fields["repr-digest"] == f"sha-256=:{b64('sha256', body)}:"
        assert "hit" in fields["cache-status"]


async def test_content_that_is_coded_has_the_digest_of_what_is_stored(
    forebay: Running, origin: Origin
) -> None:
    origin.add("/f", body=BODY, gzip=True, headers=[MAX_AGE])
    coded = (await forebay.fetch("/f")).body
    assert coded != BODY
    hit = await told_hit(forebay)
    assert hit.fields["content-encoding"] == "gzip"
    assert hit.fields["repr-digest"] == f"sha-256=:{b64('sha256', coded)}:"


async def test_nothing_is_computed_where_that_is_not_wanted(
    tmp_path: Path, origin: Origin, no_leaks: None
) -> None:
    origin.add("/f", body=BODY, etag='"1"', headers=[MAX_AGE])
    tables = {"cache": {"repr_digest": False}}
    async with running(tmp_path / "cache", origin, tables=tables) as service:
        await service.fetch("/f")
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await stored_names(service, complete=True) != {origin.url("/f")}:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        hit = await service.fetch("/f")
        assert "hit" in hit.cache_status
        assert "repr-digest" not in hit.fields
