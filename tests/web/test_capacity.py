"""What is refused, and what goes on, where descriptors or connections run short."""

from __future__ import annotations

import resource
import select
import subprocess
import sys
from collections.abc import Iterator

import pytest

from forebay.web.application import make_app
from forebay.web.capacity import LOOK_SECONDS, Descriptors, Shedder, open_descriptors
from forebay.web.heads import is_for_operators
from forebay.web.limits import DoorLimits
from forebay.web.protocol import protocol_with
from tests.fakes.service import FakeService, ScriptedBody, reply
from tests.web.conftest import TOKEN
from tests.web.servers import Client, ServerThread, wait_until


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Table:
    """A table of descriptors that counts how often it is counted."""

    def __init__(self, used: int) -> None:
        self.used = used
        self.looks = 0

    def count(self) -> int:
        self.looks += 1
        return self.used


def test_nothing_is_counted_while_there_is_plenty() -> None:
    table = Table(used=50)
    descriptors = Descriptors(1024, table.count)
    assert all(descriptors.take(4) for _ in range(200))
    assert table.looks == 1


def test_an_estimate_that_is_too_high_is_put_right_by_a_look() -> None:
    table = Table(used=50)
    descriptors = Descriptors(1024, table.count)
    assert all(descriptors.take(4) for _ in range(10_000))
    assert 40 < table.looks < 60


@pytest.mark.parametrize(("reserve_share", "left"), [(1.0, 128), (0.5, 64), (0.25, 32)])
def test_the_reserve_is_kept_from_new_work_and_a_part_of_it_from_new_connections(
    reserve_share: float, left: int
) -> None:
    for used in (1024 - left - 1, 1024 - left):
        descriptors = Descriptors(1024, Table(used).count)
        assert descriptors.take(1, reserve_share=reserve_share) == (used < 1024 - left)


def test_out_of_room_the_table_is_not_counted_for_each_who_asks() -> None:
    table, clock = Table(used=1020), Clock()
    descriptors = Descriptors(1024, table.count, clock)
    assert not any(descriptors.take(4) for _ in range(1000))
    assert table.looks == 1
    table.used = 10
    clock.advance(LOOK_SECONDS)
    assert descriptors.take(4)


def test_the_count_is_that_of_the_system() -> None:
    before = open_descriptors()
    with open("/proc/self/stat"):
        assert open_descriptors() == before + 1


def test_the_limit_is_raised_as_far_as_the_system_lets() -> None:
    program = (
        "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (64, 256));"
        "from forebay.web.capacity import raise_descriptor_limit as f;"
        "print(f(), *r.getrlimit(r.RLIMIT_NOFILE))"
    )
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard == resource.RLIM_INFINITY or hard >= 256
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.split() == [b"256"] * 3


@pytest.mark.parametrize(
    ("target", "spared"),
    [
        (b"/healthz", True),
        (b"/metrics?x", True),
        (b"/-/stats", True),
        (b"/-/fetch?url=http://a/", False),
        (b"/-/fetch", False),
        (b"/-/fetches", True),
        (b"/healthz/x", False),
        (b"/https://host/x", False),
        (b"/", False),
    ],
)
def test_operators_are_answered_where_downloads_are_refused(target: bytes, spared: bool) -> None:
    assert is_for_operators(target) == spared


class Resting:
    """A connection as ``Shedder`` sees it; it is its own timer and transport."""

    def __init__(self, resting_since: float | None) -> None:
        self.timeout_keep_alive_task = None if resting_since is None else self
        self.resting_since = resting_since
        self.transport = self
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


def test_of_connections_that_rest_those_go_that_rested_longest() -> None:
    clock = Clock()
    shedder = Shedder(clock)
    busy, *resting = [Resting(None), *(Resting(20.0 - number) for number in range(16))]
    for count in (2, 4):
        clock.advance(10)
        shedder.shed((c for c in (busy, *resting) if not c.is_closed), "full")
        shedder.shed((c for c in (busy, *resting) if not c.is_closed), "full at the same moment")
        left = [one for one in (busy, *resting) if not one.is_closed]
        assert left == [busy, *resting[:-count]]


# Over real sockets.

MOST = 4


class Scarce:
    """A server of which descriptors and connections can be had as the test says."""

    def __init__(self) -> None:
        self.table = Table(used=0)
        self.service = FakeService()
        base = protocol_with(DoorLimits(max_connections=MOST, linger_seconds=0.2))
        protocol = type(
            "Scarce",
            (base,),
            {"descriptors": Descriptors(1024, self.table.count), "shedder": Shedder()},
        )
        app = make_app(self.service, token=TOKEN)
        # Whoever rests goes on resting, however long the test takes.
        self.server = ServerThread(app, loop="uvloop", http=protocol, timeout_keep_alive=600)


@pytest.fixture
def scarce() -> Iterator[Scarce]:
    made = Scarce()
    made.service.answers["/f"] = lambda _: reply(ScriptedBody([b"done"]), 4)
    made.server.start()
    yield made
    made.server.stop()


def _assert_refused(client: Client) -> None:
    got = client.read()
    assert got.status == 503
    assert got.fields["retry-after"] == "1"
    assert got.fields["connection"] == "close"
    assert got.fields["content-type"] == "application/problem+json"
    assert client.is_closed_by_peer()


def test_a_connection_too_many_is_told_so_and_the_others_go_on(scarce: Scarce) -> None:
    clients = [scarce.server.connect() for _ in range(MOST)]
    for client in clients:
        client.send(b"G")
    wait_until(lambda: scarce.server.connections == MOST)
    with scarce.server.connect() as surplus:
        _assert_refused(surplus)
    for client in clients:
        client.send(b"ET /f HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.read().body == b"done"
        client.close()


def test_connections_that_rest_make_room(scarce: Scarce) -> None:
    resting = [scarce.server.connect() for _ in range(MOST)]
    for client in resting:
        assert client.get("/f").body == b"done"
    with scarce.server.connect() as surplus:
        _assert_refused(surplus)
    ended, _, _ = select.select([client.sock for client in resting], [], [], 10)
    assert len(ended) == 1
    assert next(client for client in resting if client.sock in ended).is_closed_by_peer()
    wait_until(lambda: scarce.server.connections < MOST)
    with scarce.server.connect() as late:
        assert late.get("/f").body == b"done"
    for client in resting:
        client.close()


def test_out_of_descriptors_downloads_are_refused_and_operators_answered(scarce: Scarce) -> None:
    with scarce.server.connect() as first, scarce.server.connect() as second:
        assert first.get("/f").body == b"done"
        scarce.table.used = 1024 - 100
        # More than an estimate has room for, so that the table is counted.
        statuses = {first.get("/livez").status}
        for _ in range(400):
            second.ask("/f")
            got = second.read()
            if got.status == 503:
                break
        assert got.fields["retry-after"] == "1"
        assert statuses == {200}
        scarce.table.used = 0
    wait_until(lambda: _status_now(scarce) == 200)


def _status_now(scarce: Scarce) -> int:
    with scarce.server.connect() as client:
        return client.get("/f").status
