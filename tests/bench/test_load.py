"""What the load generator asks for, seen by the server that it asks."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bench.load import Load, run
from bench.peers import purge

BODY = b"0123456789" * 100


class Site(ThreadingHTTPServer):
    """Counts what it was asked: method and target. PURGE knows nothing; ``/gone`` is not there."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: Counter[tuple[str, str, str | None]] = Counter()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves when its time is over is no event."""

    def of(self, method: str) -> Counter[str]:
        return Counter({t: n for (m, t, _), n in list(self.asked.items()) if m == method})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Site

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked[self.command, self.path, wanted] += 1
        gone = self.path == "/gone" or self.command == "PURGE"
        self.send_response(404 if gone else 206 if wanted else 200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    do_PURGE = do_GET  # noqa: N815 - the base class calls it so

    def log_message(self, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as site:
        thread = threading.Thread(target=site.serve_forever, args=(0.01,))
        thread.start()
        yield site
        site.shutdown()
        thread.join()


@pytest.mark.parametrize("clients", [1, 7, 30])
def test_a_sweep_asks_for_each_key_once_whatever_the_number_of_clients(
    site: Site, clients: int
) -> None:
    result = run(Load(f"{site.url}/x", clients, keys=20, sweep=True, label="fresh"))
    assert site.of("GET") == {f"/x?fresh={key}": 1 for key in range(20)}
    assert result.requests == 20
    assert result.body_bytes == 20 * len(BODY)


def test_a_sweep_ends_with_its_keys_though_there_is_time_left(site: Site) -> None:
    assert run(Load(f"{site.url}/x", 2, seconds=3600, keys=20, sweep=True)).requests == 20


def test_a_sweep_ends_with_its_time_though_there_are_keys_left(site: Site) -> None:
    result = run(Load(f"{site.url}/x", 2, seconds=0.05, keys=10**9, sweep=True))
    assert result.requests < 10**9
    assert site.of("GET")


def test_a_purge_names_what_a_swept_load_asked_for_and_takes_404_for_an_answer(
    site: Site,
) -> None:
    load = Load(f"{site.url}/x", 64, seconds=1.0, keys=20, sweep=True, label="fresh")
    purge(load)
    assert site.of("PURGE") == {f"/x?fresh={key}": 1 for key in range(20)}


def test_a_purge_of_one_object_is_sent_once_and_without_a_range(site: Site) -> None:
    purge(Load(f"{site.url}/x?1", 64, range_bytes=10, range_start=0))
    assert site.asked == {("PURGE", "/x?1", None): 1}


def test_an_answer_that_is_no_success_is_an_error(site: Site) -> None:
    with pytest.raises(RuntimeError, match="404"):
        run(Load(f"{site.url}/gone"))


def test_ranges_lie_within_the_object(site: Site) -> None:
    run(Load(f"{site.url}/x", 2, seconds=0.05, range_bytes=40, size_bytes=100))
    assert site.asked
    for _, _, wanted in list(site.asked):
        assert wanted is not None
        first, last = map(int, wanted.removeprefix("bytes=").split("-"))
        assert 0 <= first <= last < 100
        assert last - first == 39
