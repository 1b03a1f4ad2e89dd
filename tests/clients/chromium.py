"""Chromium without a window, driven over its debugging pipe: JSON that ends with NUL."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.patience import PATIENCE_SECONDS

PROGRAMS = ("chromium-headless-shell", "chromium", "google-chrome")


class Chromium:
    """One browser with one page."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.WriteTransport) -> None:
        self.events: list[dict[str, Any]] = []
        self._reader = reader
        self._writer = writer
        self._session = ""
        self._numbers = itertools.count(1)

    async def call(self, method: str, *, session: bool = True, **parameters: Any) -> dict[str, Any]:
        """The result of one command; events that come meanwhile are kept."""
        number = next(self._numbers)
        order: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session and self._session:
            order["sessionId"] = self._session
        self._writer.write(json.dumps(order).encode() + b"\0")
        while True:
            said = await self._hear()
            if said.get("id") == number:
                assert "error" not in said, said
                result: dict[str, Any] = said["result"]
                return result

    async def wait_for(self, method: str, **having: Any) -> dict[str, Any]:
        """The parameters of the next event of this kind with these values."""
        while True:
            for event in self.events:
                if event["method"] == method and having.items() <= event["params"].items():
                    self.events.remove(event)
                    found: dict[str, Any] = event["params"]
                    return found
            await self._hear()

    async def evaluate(self, script: str) -> Any:
        """The value of a script in the page, awaited."""
        found = await self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True,
            userGesture=True,
        )  # fmt: skip
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def attach(self) -> None:
        """Open the page."""
        made = await self.call("Target.createTarget", url="about:blank")
        target = made["targetId"]
        held = await self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = held["sessionId"]

    async def _hear(self) -> dict[str, Any]:
        raw = await asyncio.wait_for(self._reader.readuntil(b"\0"), PATIENCE_SECONDS)
        said: dict[str, Any] = json.loads(raw[:-1])
        if "method" in said:
            self.events.append(said)
        return said


@asynccontextmanager
async def chromium(home: Path) -> AsyncIterator[Chromium]:
    """A browser with its profile in this directory; skips where none is installed."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("no Chromium is installed here")
    (ours_in, theirs_out), (theirs_in, ours_out) = os.pipe(), os.pipe()
    # The debugging pipe is descriptors 3 (in) and 4 (out) of the browser.
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "bash",
        program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--no-first-run", "--disable-background-networking", "--mute-audio",
        "--autoplay-policy=no-user-gesture-required", "--remote-debugging-pipe",
        f"--user-data-dir={home / 'profile'}", "about:blank",
        pass_fds=(theirs_in, theirs_out), stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    os.close(theirs_in)
    os.close(theirs_out)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=2**24)
    source, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ours_in, "rb", 0)
    )
    sink, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(ours_out, "wb", 0))
    try:
        browser = Chromium(reader, sink)
        await browser.attach()
        yield browser
    finally:
        sink.close()
        source.close()
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
