"""Real programs against a real service; what this machine does not have is skipped, and said."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fakes.origin import Origin
from tests.live.running import Running, running


@dataclass(frozen=True, slots=True)
class Ran:
    """What a program said and how it ended."""

    status: int
    output: str


async def run(*command: str, cwd: Path, timeout_seconds: float = 60.0, **environment: str) -> Ran:
    """Run a program with a clean environment; skips the test where the machine lacks it."""
    return await run_in(environment, *command, cwd=cwd, timeout_seconds=timeout_seconds)


async def run_in(
    environment: Mapping[str, str], *command: str, cwd: Path, timeout_seconds: float = 60.0
) -> Ran:
    """The same with the environment as it has been put together."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed here")
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "HOME": str(cwd), "LC_ALL": "C.UTF-8", **environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), timeout_seconds)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    return Ran(process.returncode, output.decode(errors="replace"))


def python_with(module: str) -> str:
    """An interpreter that has this module, among those on the PATH."""
    for directory in os.environ["PATH"].split(os.pathsep):
        python = Path(directory) / "python3"
        if python.exists() and list(Path(directory).parent.glob(f"lib/*/site-packages/{module}")):
            return str(python)
    pytest.skip(f"no interpreter here has {module}")


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as server:
        yield server


@pytest.fixture
async def service(tmp_path: Path, origin: Origin) -> AsyncIterator[Running]:
    async with running(tmp_path / "cache", origin) as made:
        yield made


@pytest.fixture
async def files() -> AsyncIterator[Origin]:
    """Where a registry keeps its files: another host than its index."""
    async with Origin() as server:
        yield server
