"""Finding what a test leaves behind it: open descriptors and running tasks."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

from tests.patience import PATIENCE_SECONDS


def open_descriptors() -> dict[int, str]:
    """Every open descriptor of this process, with what it leads to."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        # The descriptor of the listing itself is gone by now.
        with contextlib.suppress(FileNotFoundError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


@contextlib.asynccontextmanager
async def assert_no_leaks(patience_seconds: float = PATIENCE_SECONDS) -> AsyncIterator[None]:
    """Raise ``AssertionError`` where the block leaves a descriptor open or a task running.

    What it opened has time to close: an upstream connection is released by a task
    for which the block does not wait.
    """
    tasks_before = asyncio.all_tasks()
    descriptors_before = open_descriptors()
    yield
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_seconds
    while True:
        tasks = asyncio.all_tasks() - tasks_before - {asyncio.current_task()}
        descriptors = dict(open_descriptors().items() - descriptors_before.items())
        if not tasks and not descriptors:
            return
        if loop.time() > deadline:
            raise AssertionError(f"left behind: descriptors {descriptors}, tasks {tasks}")
        await asyncio.sleep(0.02)
