"""Starting ``tests.store.worker`` and talking to it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.patience import PATIENCE_SECONDS

ROOT = Path(__file__).parents[2]


class WorkerFailed(Exception):
    """The worker answered with an error."""


class WorkerProcess:
    """A worker that has opened its store."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self, word: str, *values: Any) -> Any:
        """Let it do one thing; gives what it answers."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([word, *values]).encode() + b"\n")
        return (await self.answer()).get("answer")

    async def answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line or b'{"error": "it has died"}')
        if "error" in answer:
            raise WorkerFailed(answer["error"])
        return answer

    async def kill(self) -> None:
        """As the kernel does when memory runs out: no warning, no cleaning up."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


@asynccontextmanager
async def worker(
    directory: Path,
    *,
    shared: bool = False,
    max_size: int | None = None,
    through: Sequence[str] = (),
) -> AsyncIterator[WorkerProcess]:
    """A worker on this directory, started by the command ``through`` where one is given."""
    process = await asyncio.create_subprocess_exec(
        *through,
        sys.executable,
        "-m",
        "tests.store.worker",
        str(directory),
        "shared" if shared else "alone",
        *([str(max_size)] if max_size is not None else []),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    one = WorkerProcess(process)
    try:
        await one.answer()
        yield one
        assert process.stdin is not None
        process.stdin.close()
    finally:
        if process.returncode is None:
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
