"""A fresh scene for each test; nothing may be left open or running behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.service.scene import Scene


@pytest.fixture
async def scene(no_leaks: None) -> AsyncIterator[Scene]:
    made = Scene()
    yield made
    await made.close()
