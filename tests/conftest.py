"""What every test gets: a clean environment, a watched event loop, and a check for leaks."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.blocking import RecordedBlockingError, watched_event_loop
from tests.directories import chosen_for_temporary_files, on_a_disk
from tests.leaks import assert_no_leaks

# The same examples for everyone, so that a failure is the change's; --hypothesis-profile=explore
# draws new ones. How long drawing takes says something of the machine only.
_UNTIMED = hypothesis.settings(
    deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile("dev", _UNTIMED, derandomize=True)
hypothesis.settings.register_profile("explore", _UNTIMED)
hypothesis.settings.register_profile("ci", _UNTIMED, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_configure() -> None:
    """Let caches live in memory: what hundreds of them sync would take minutes of a busy disk."""
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", chosen_for_temporary_files())


@pytest.fixture(scope="session")
def disk() -> Iterator[Path]:
    """A directory on a real disk, where one can ask whether a page is in memory."""
    with tempfile.TemporaryDirectory(prefix="forebay-", dir=on_a_disk()) as directory:
        yield Path(directory)


@pytest.fixture(scope="session", autouse=True)
def _watch_the_event_loop() -> Iterator[None]:
    with watched_event_loop():
        yield


@pytest.fixture(autouse=True)
def _fail_on_swallowed_blocking_calls() -> Iterator[None]:
    RecordedBlockingError.seen.clear()
    yield
    if RecordedBlockingError.seen:
        pytest.fail("blocking call on the event loop:\n" + "\n".join(RecordedBlockingError.seen))


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting or proxy of the developer's shell reaches a test."""
    for name in list(os.environ):
        if name.upper().startswith("FOREBAY_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
async def no_leaks() -> AsyncIterator[None]:
    """Fail where the test leaves a descriptor open or a task running."""
    async with assert_no_leaks():
        yield
