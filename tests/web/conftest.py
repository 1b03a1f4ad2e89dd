"""Servers of every kind that must give the same bytes, and files to give."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from forebay.web.application import make_app
from forebay.web.limits import DoorLimits
from tests.fakes.service import FakeService
from tests.web.servers import HURRIED, PATIENT, ServerThread

TOKEN = "the admin token"
MIB = 1024 * 1024

OURS = [("asyncio", "ours"), ("uvloop", "ours")]
EVERY = [*OURS, ("asyncio", "h11"), ("uvloop", "httptools")]


def serving(
    kind: tuple[str, str], limits: DoorLimits = PATIENT
) -> Iterator[tuple[ServerThread, FakeService]]:
    """A server of this kind and its service, until the caller is done with them."""
    service = FakeService()
    loop, http = kind
    app = make_app(service, token=TOKEN, limits=limits)
    server = ServerThread(app, loop=loop, http=http, limits=limits)
    server.start()
    try:
        yield server, service
    finally:
        server.stop()


@pytest.fixture(scope="package", params=EVERY, ids="-".join)
def _any_server(request: pytest.FixtureRequest) -> Iterator[tuple[ServerThread, FakeService]]:
    yield from serving(request.param)


@pytest.fixture(scope="package", params=OURS, ids="-".join)
def _our_server(request: pytest.FixtureRequest) -> Iterator[tuple[ServerThread, FakeService]]:
    yield from serving(request.param)


@pytest.fixture(scope="package", params=OURS, ids="-".join)
def _hurried_server(request: pytest.FixtureRequest) -> Iterator[tuple[ServerThread, FakeService]]:
    yield from serving(request.param, HURRIED)


@pytest.fixture
def any_server(_any_server: tuple[ServerThread, FakeService]) -> ServerThread:
    """A server of each kind in turn, its service's script empty."""
    server, service = _any_server
    service.__init__()  # type: ignore[misc]
    return server


@pytest.fixture
def our_server(_our_server: tuple[ServerThread, FakeService]) -> ServerThread:
    """A server with our protocol, under each loop, its service's script empty."""
    server, service = _our_server
    service.__init__()  # type: ignore[misc]
    return server


@pytest.fixture
def hurried_server(_hurried_server: tuple[ServerThread, FakeService]) -> ServerThread:
    """As ``our_server``, with deadlines that a test can wait for."""
    server, service = _hurried_server
    service.__init__()  # type: ignore[misc]
    return server


@pytest.fixture
def any_service(_any_server: tuple[ServerThread, FakeService]) -> FakeService:
    return _any_server[1]


@pytest.fixture
def our_service(_our_server: tuple[ServerThread, FakeService]) -> FakeService:
    return _our_server[1]


@pytest.fixture
def hurried_service(_hurried_server: tuple[ServerThread, FakeService]) -> FakeService:
    return _hurried_server[1]


@pytest.fixture
def tmp_path(disk: Path) -> Iterator[Path]:
    """On a disk here: of files in memory the kernel does not say whether they are there."""
    with tempfile.TemporaryDirectory(dir=disk) as directory:
        yield Path(directory)


@pytest.fixture(scope="package")
def content() -> bytes:
    """50 MiB of which every part is different."""
    return random.Random(2).randbytes(50 * MIB)


@pytest.fixture(scope="package")
def content_file(content: bytes, disk: Path) -> Path:
    path = disk / "content"
    path.write_bytes(content)
    return path
