"""A fresh service and a fresh origin for each test, on real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.origin import Origin
from tests.live.running import Running, running


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as server:
        yield server


@pytest.fixture
async def forebay(tmp_path: Path, origin: Origin, no_leaks: None) -> AsyncIterator[Running]:
    async with running(tmp_path / "cache", origin) as service:
        yield service
