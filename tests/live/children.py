"""``forebay serve`` as a real process: to be killed, stopped, or run with several workers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.fakes.origin import Origin
from tests.live.running import TOKEN, Download, Running
from tests.patience import PATIENCE_SECONDS

PROGRAM = Path(sys.executable).with_name("forebay")
_ADDRESS = re.compile(r"listens on http://127\.0\.0\.1:(\d+)")


class Child(Running):
    """A service in a process of its own; everything that can be asked of ``Running`` works."""

    def __init__(
        self, process: subprocess.Popen[str], port: int, origin: Origin, cache: Path
    ) -> None:
        super().__init__(port, origin, cache)
        self.process = process

    async def kill(self) -> None:
        """``kill -9``, and wait until the process is gone."""
        self.process.kill()
        await asyncio.to_thread(self.process.wait)

    def workers(self) -> list[int]:
        """The processes that answer: the children of the one that was started."""
        found = []
        for process in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                state = (process / "stat").read_text().rpartition(")")[2].split()
                is_worker = b"spawn_main" in (process / "cmdline").read_bytes()
                if int(state[1]) == self.process.pid and is_worker:
                    found.append(int(process.name))
        return sorted(found)

    async def stats(self) -> dict[str, Any]:
        """What the service has counted."""
        found: dict[str, Any] = (await self.admin("/-/stats")).json()
        return found

    async def kill_worker(self, worker: int) -> None:
        """``kill -9`` for one of them; gone when this returns."""
        os.kill(worker, signal.SIGKILL)
        while await asyncio.to_thread(self.workers) and worker in self.workers():
            pass

    async def all_workers(self, count: int) -> None:
        """Wait until so many workers take connections."""
        idle: list[Download] = []
        while len(await self.holders(idle)) < count:
            for _ in range(4):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                idle.append(Download(0, {}, reader, writer))
            await asyncio.sleep(0.05)  # a worker that starts accepts nothing yet
        for connection in idle:
            connection.leave()

    async def holders(self, downloads: list[Download]) -> dict[int, list[Download]]:
        """Which worker has which of these connections, which must be open."""
        return await asyncio.to_thread(self._holders, downloads)

    def _holders(self, downloads: list[Download]) -> dict[int, list[Download]]:
        ports = {d.writer.get_extra_info("sockname")[1]: d for d in downloads}
        inodes = {}
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            here, there = (int(end.rpartition(":")[2], 16) for end in fields[1:3])
            if here == self.port and there in ports:
                inodes[f"socket:[{fields[9]}]"] = ports[there]
        held: dict[int, list[Download]] = {}
        for worker in self.workers():
            for fileno in Path(f"/proc/{worker}/fd").iterdir():
                with contextlib.suppress(OSError):
                    download = inodes.get(os.readlink(fileno))
                    if download is not None:
                        held.setdefault(worker, []).append(download)
        return held

    async def end(self, timeout_seconds: float = PATIENCE_SECONDS) -> int:
        """SIGTERM, and the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, timeout_seconds)


@contextlib.asynccontextmanager
async def child(
    cache: Path,
    origin: Origin,
    *arguments: str,
    config: Path | None = None,
    descriptors: int | None = None,
) -> AsyncIterator[Child]:
    """Start ``forebay serve`` on a free port; kill whatever of it is left at the end.

    ``descriptors`` is the most that it may have open.
    """
    command = [str(PROGRAM), "serve", "--port", "0", "--cache-dir", str(cache), *arguments]
    if descriptors is not None:
        command = ["sh", "-c", f'ulimit -n {descriptors} && exec "$0" "$@"', *command]
    if config is not None:
        command += ["--config", str(config)]
    environment = {
        **os.environ,
        "FOREBAY_ADMIN__TOKEN": TOKEN,
        "FOREBAY_CACHE__MIN_FREE": "0",
        "FOREBAY_UPSTREAM__ALLOW_NETWORKS": '["127.0.0.0/8"]',
        "FOREBAY_UPSTREAM__ALLOW_PORTS": f"[{origin.port}]",
        "FOREBAY_SERVER__STOP_TIMEOUT": "5s",
    }
    process = await asyncio.to_thread(_start, command, environment)
    try:
        port = await asyncio.to_thread(_port_of, process)
        service = Child(process, port, origin, cache)
        yield service
        for download in service.downloads:
            download.leave()
    finally:
        await asyncio.to_thread(_finish, process)


def _start(command: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def _port_of(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    for line in process.stdout:
        match = _ADDRESS.search(line)
        if match is not None:
            return int(match[1])
    raise AssertionError(f"it ended with {process.wait()} before it listened")


def _finish(process: subprocess.Popen[str]) -> None:
    """End the process and, by its session, its workers: those that do not go when asked, too."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
