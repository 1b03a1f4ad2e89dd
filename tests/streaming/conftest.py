"""Every test of this room runs in virtual time, and must leave nothing behind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping

import pytest

from tests.fakes.clock import VirtualTimeLoop
from tests.leaks import assert_no_leaks


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], VirtualTimeLoop]]:
    return {"virtual": VirtualTimeLoop}


@pytest.fixture(autouse=True)
async def _nothing_is_left_behind() -> AsyncIterator[None]:
    async with assert_no_leaks():
        yield
