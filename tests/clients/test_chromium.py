"""A browser, as people use one: a download that breaks off, and a seek in a video."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.clients.chromium import chromium
from tests.clients.conftest import python_with, run
from tests.fakes.origin import Origin
from tests.fakes.registries import noise
from tests.live.running import Running

pytestmark = pytest.mark.clients

FRESH = ("cache-control", "max-age=600")


SECONDS = 200


async def video(directory: Path) -> bytes:
    """A WebM of some 20 MB: VP8, its index at its end, by the ffmpeg beside the clients."""
    python = python_with("imageio_ffmpeg")
    where = "import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())"
    ffmpeg = (await run(python, "-c", where, cwd=directory)).output.strip()
    frames = directory / "frames"
    await asyncio.to_thread(frames.write_bytes, noise(96 * 96 * 3 // 2 * 10, 11))
    raw = ("-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", "96x96", "-r", "10", "-i", "frames")
    encoded = ("-c:v", "libvpx", "-b:v", "20M", "-deadline", "realtime", "-cpu-used", "8")
    repeated = ("-stream_loop", str(SECONDS - 1), "-i", "ten.webm", "-c", "copy")
    for words in ((*raw, *encoded, "-g", "1", "ten.webm"), (*repeated, "film.webm")):
        ran = await run(ffmpeg, "-v", "error", *words, cwd=directory)
        assert ran.status == 0, ran.output
    return await asyncio.to_thread((directory / "film.webm").read_bytes)


async def test_a_seek_in_a_video_does_not_wait_for_what_lies_before(
    tmp_path: Path, origin: Origin, service: Running
) -> None:
    body = await video(tmp_path)
    kind = ("content-type", "video/webm")
    resource = origin.add("/film.webm", body=body, etag='"r"', headers=[FRESH, kind])
    resource.pace_bytes_per_second = 500_000.0
    address = f"http://127.0.0.1:{service.port}/{origin.url('/film.webm')}"
    play = """new Promise((done, fail) => {
        window.media = document.createElement("video");
        media.src = %r;
        media.onerror = () => fail(media.error.message);
        media.oncanplay = () => { media.oncanplay = null; media.currentTime = %d; };
        media.onseeked = () => done([media.currentTime, media.videoWidth]);
        media.load();
    })"""
    async with chromium(tmp_path) as browser:
        assert await browser.evaluate(play % (address, SECONDS - 10)) == [SECONDS - 10, 96]
        cold = origin.body_bytes_sent
        assert cold < len(body), "the seek was over before the whole had come"
        far = [r.range for r in origin.requests if r.range not in {None, "bytes=0-"}]
        assert far, "the seek's place was asked of the origin by itself"
        resource.pace_bytes_per_second = None
        assert (await service.fetch("/film.webm")).body == body
    before = origin.body_bytes_sent
    async with chromium(tmp_path / "other") as browser:
        assert await browser.evaluate(play % (address, SECONDS // 2)) == [SECONDS // 2, 96]
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
