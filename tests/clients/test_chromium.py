"""A browser, as people use one: a download that breaks off, and a seek in a long recording."""

from __future__ import annotations

import asyncio
import hashlib
import io
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.clients.chromium import chromium
from tests.fakes.origin import Origin
from tests.fakes.registries import noise
from tests.live.running import Running

pytestmark = pytest.mark.clients

FRESH = ("cache-control", "max-age=600")


def recording(seconds: int) -> bytes:
    """A WAV file of 8000 bytes a second."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(8000)
        file.writeframes(noise(8000 * seconds, 11))
    return out.getvalue()


async def test_a_seek_in_a_recording_does_not_wait_for_what_lies_before(
    tmp_path: Path, origin: Origin, service: Running
) -> None:
    body = recording(2000)
    kind = ("content-type", "audio/wav")
    resource = origin.add("/long.wav", body=body, etag='"r"', headers=[FRESH, kind])
    resource.pace_bytes_per_second = 1_500_000.0
    address = f"http://127.0.0.1:{service.port}/{origin.url('/long.wav')}"
    play = """new Promise((done, fail) => {
        window.media = new Audio(%r);
        media.onerror = () => fail(media.error.message);
        media.oncanplay = () => { media.oncanplay = null; media.currentTime = %d; };
        media.onseeked = () => done(media.currentTime);
        media.load();
    })"""
    async with chromium(tmp_path) as browser:
        assert await browser.evaluate(play % (address, 1900)) == 1900
        cold = origin.body_bytes_sent
        assert cold < len(body), "the seek was over before the whole had come"
        far = [r.range for r in origin.requests if r.range not in {None, "bytes=0-"}]
        assert far, "the seek's place was asked of the origin by itself"
        resource.pace_bytes_per_second = None
        assert (await service.fetch("/long.wav")).body == body
    before = origin.body_bytes_sent
    async with chromium(tmp_path / "other") as browser:
        assert await browser.evaluate(play % (address, 1000)) == 1000
    assert origin.body_bytes_sent == before


@asynccontextmanager
async def cutting(port: int, after_bytes: int) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A way to this port that cuts the first download after so many bytes. Gives its own port
    and the requests that it saw."""
    heads: list[bytes] = []
    cuts = 1

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal cuts
        there, here = await asyncio.open_connection("127.0.0.1", port)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            heads.append(head)
            here.write(head.replace(b"keep-alive", b"close"))
            passed = 0
            while piece := await there.read(65536):
                passed += len(piece)
                writer.write(piece)
                await writer.drain()
                if cuts and b"/file.bin" in head and passed > after_bytes:
                    cuts -= 1
                    writer.transport.abort()
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            for end in (writer, here):
                end.close()

    server = await asyncio.start_server(carry, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], heads


async def test_a_download_that_breaks_off_is_resumed_with_our_validator(
    tmp_path: Path, origin: Origin, service: Running
) -> None:
    body = noise(6_000_000, 12)
    named = ("content-disposition", 'attachment; filename="a name.bin"')
    origin.add("/file.bin", body=body, etag='"d"', headers=[FRESH, named])
    async with cutting(service.port, 2_000_000) as (port, heads), chromium(tmp_path) as browser:
        await browser.call(
            "Browser.setDownloadBehavior", session=False, behavior="allow",
            downloadPath=str(tmp_path / "downloads"), eventsEnabled=True,
        )  # fmt: skip
        address = f"http://127.0.0.1:{port}/{origin.url('/file.bin')}"
        await browser.call("Page.navigate", url=address)
        begun = await browser.wait_for("Browser.downloadWillBegin")
        assert begun["suggestedFilename"] == "a name.bin"
        await browser.wait_for("Browser.downloadProgress", state="completed")
        file = tmp_path / "downloads" / "a name.bin"
        got = await asyncio.to_thread(file.read_bytes)
        assert hashlib.sha256(got).digest() == hashlib.sha256(body).digest()
    resumed = [head for head in heads if b"range: bytes=" in head.lower() and b'"d"' in head]
    assert resumed, heads
    assert origin.body_bytes_sent == len(body)
