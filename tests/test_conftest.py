"""The nets that other tests rely on catch what they are for."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from forebay import tokens
from tests.blocking import RecordedBlockingError
from tests.leaks import assert_no_leaks


async def test_a_file_read_by_forebay_on_the_event_loop_raises(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("secret")
    with pytest.raises(RecordedBlockingError, match=r"io\.BufferedReader\.read"):
        tokens.read_token(file)
    assert RecordedBlockingError.seen, "a swallowed error must still fail the test"
    RecordedBlockingError.seen.clear()


async def test_the_same_read_in_a_thread_is_fine(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("secret")
    assert await asyncio.to_thread(tokens.read_token, file) == "secret"


async def test_a_descriptor_left_open_is_reported() -> None:
    descriptor = -1
    with pytest.raises(AssertionError, match="/dev/null"):
        async with assert_no_leaks(patience_seconds=0.0):
            descriptor = os.open(os.devnull, os.O_RDONLY)
    os.close(descriptor)


async def test_a_task_left_running_is_reported() -> None:
    async def linger() -> None:
        await asyncio.Event().wait()

    with pytest.raises(AssertionError, match="linger"):
        async with assert_no_leaks(patience_seconds=0.0):
            task = asyncio.create_task(linger())
    task.cancel()


async def test_what_is_released_a_moment_later_is_no_leak(no_leaks: None) -> None:
    descriptor = os.open(os.devnull, os.O_RDONLY)
    asyncio.get_running_loop().call_later(0.05, os.close, descriptor)
