"""What only our protocol promises, over raw sockets and on both event loops."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from forebay.errors import UpstreamMisbehaved
from forebay.model import Window
from forebay.web.application import make_app
from tests.fakes.service import FakeService, Hang, ScriptedBody, file_body, file_reply, reply
from tests.patience import PATIENCE_SECONDS
from tests.web.conftest import MIB, OURS, serving
from tests.web.servers import HURRIED, PATIENT, Client, ServerThread, wait_until

# Pipelining and the order of answers.


def test_pipelined_requests_are_answered_in_order(
    our_server: ServerThread, our_service: FakeService, content: bytes, content_file: Path
) -> None:
    for index in range(10):
        our_service.answers[f"/{index}"] = lambda _, i=index: file_reply(  # type: ignore[misc]
            content_file, i, i + 200_000
        )
    with our_server.connect() as client:
        client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % index for index in range(10)))
        for index in range(10):
            assert client.read().body == content[index : index + 200_000]


def test_what_is_no_request_is_refused_after_the_answers_before_it(
    our_server: ServerThread, our_service: FakeService, content: bytes, content_file: Path
) -> None:
    our_service.answers["/slow"] = lambda _: reply(ScriptedBody([b"a" * 10, 0.1, b"b" * 10]), 20)
    our_service.answers["/f"] = lambda _: file_reply(content_file, 0, 3 * MIB)
    with our_server.connect() as client:
        client.send(
            b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\nGET /f HTTP/1.1\r\nHost: a\r\n\r\n"
            b"nonsense\r\n\r\n"
        )
        assert client.read().body == b"a" * 10 + b"b" * 10
        assert client.read().body == content[: 3 * MIB]
        assert client.read().status == 400
        assert client.is_closed_by_peer()


def test_too_many_pipelined_requests_end_the_connection(
    our_server: ServerThread, our_service: FakeService
) -> None:
    body = ScriptedBody([Hang()])
    our_service.answers["/f"] = lambda _: reply(body, 5)
    with our_server.connect() as client:
        client.send(b"GET /f HTTP/1.1\r\nHost: a\r\n\r\n" * (PATIENT.max_pipelined + 2))
        assert client.is_closed_by_peer()
    assert len(our_service.requests) <= 1


def test_a_client_that_leaves_takes_its_pipelined_requests_along(
    our_server: ServerThread, our_service: FakeService
) -> None:
    body = ScriptedBody([b"x", 0.2, Hang()])
    our_service.answers["/f"] = lambda _: reply(body, 5)
    client = our_server.connect()
    client.send(b"GET /f HTTP/1.1\r\nHost: a\r\n\r\n" * 3)
    client.read_head()
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    assert body.closed.wait(PATIENCE_SECONDS)
    wait_until(lambda: our_server.connections == 0)
    assert len(our_service.requests) == 1


# What is refused, and how.

_MALFORMED = {
    "bare LF after the request line": b"GET / HTTP/1.1\nHost: a\n\n",
    "bare LF between fields": b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
    "bare CR in a field": b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
    "LF in the target": b"GET /a\nb HTTP/1.1\r\nHost: a\r\n\r\n",
    "tab in the target": b"GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n",
    "control byte in the target": b"GET /a\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
    "blank in the target": b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    "octets beyond ASCII in the target": b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n",
    "fragment in the target": b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    "blank before the colon": b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    "folded field": b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
    "NUL in a field": b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "Host with a path": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "Host with userinfo": b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
    "length and coding": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding and length": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
    b"Content-Length: 3\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
    b"Content-Length: 3\r\n\r\nabc",
    "signed length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
    "list of lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc",
    "coding that is not chunked": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
    "chunked not last": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
    "coding in HTTP/1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/0.9 with a version": b"GET / HTTP/0.9\r\n\r\n",
    "HTTP/0.9 without": b"GET /\r\n\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
    "unknown method": b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "a response": b"HTTP/1.1 200 OK\r\n\r\n",
    "chunk size that is no number": b"POST /p HTTP/1.1\r\nHost: a\r\n"
    b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
}


@pytest.mark.parametrize("octets", _MALFORMED.values(), ids=_MALFORMED.keys())
def test_malformed_requests_get_400_and_the_connection_closes(
    our_server: ServerThread, our_service: FakeService, octets: bytes
) -> None:
    with our_server.connect() as client:
        client.send(octets + b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
        got = client.read()
        assert got.status == 400
        assert got.fields["content-type"] == "application/problem+json"
        assert got.fields["connection"] == "close"
        assert client.is_closed_by_peer()
    assert "/next" not in [request.raw_path for request in our_service.requests]


@pytest.mark.parametrize(
    ("octets", "status"),
    [
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET /" + b"a" * 5000, 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 40 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 20_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + (b"X: " + b"y" * 1000 + b"\r\n") * 20 + b"\r\n", 431),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405),
    ],
)
def test_what_is_too_long_or_not_offered_has_its_own_status(
    our_server: ServerThread, our_service: FakeService, octets: bytes, status: int
) -> None:
    with our_server.connect() as client:
        client.send(octets)
        got = client.read()
        assert got.status == status
        assert got.whole
        assert client.is_closed_by_peer()
    assert our_service.requests == []


def test_an_unfinished_field_without_end_is_refused_while_it_comes(
    our_server: ServerThread,
) -> None:
    with our_server.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
        try:
            for _ in range(100):
                client.send(b"y" * 4096)
        except (BrokenPipeError, ConnectionResetError):
            return
        assert client.read().status == 431


def test_a_long_request_body_does_not_count_against_the_next_head(
    our_server: ServerThread, our_service: FakeService
) -> None:
    our_service.answers["/p"] = lambda _: reply(None, status=204)
    with our_server.connect() as client:
        client.ask("/p", "Content-Length: 100000", method="POST")
        client.send(b"z" * 100_000 + b"GET /p HTTP/1.1\r\nHo")
        assert client.read().status == 204
        client.send(b"st: a\r\n\r\n")
        assert client.read().status == 204


def test_trailers_never_become_fields(our_server: ServerThread, our_service: FakeService) -> None:
    our_service.answers["/p"] = lambda _: reply(None, status=204)
    with our_server.connect() as client:
        client.ask("/p", "Transfer-Encoding: chunked", method="POST")
        client.send(b"1\r\na\r\n0\r\nAuthorization: sneaky\r\nX-Late: 1\r\n\r\n")
        assert client.read().status == 204
        assert client.get("/p").status == 204
    assert "authorization" not in our_service.requests[0].fields
    assert "x-late" not in our_service.requests[1].fields


@pytest.mark.parametrize("endless", [b"0\r\nX: ", b"5;x="], ids=["a trailer", "an extension"])
def test_what_comes_with_chunks_is_bounded(
    our_server: ServerThread, our_service: FakeService, endless: bytes
) -> None:
    our_service.answers["/p"] = lambda _: reply(None, status=204)
    with our_server.connect() as client:
        head = b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.send(head + b"1\r\na\r\n" + endless + b"y" * MIB)  # more than one read
        assert client.read().status == 431
        assert client.is_closed_by_peer()
    assert our_service.bodies == []


# Deadlines.


def test_a_head_that_drips_is_answered_408_however_steady(hurried_server: ServerThread) -> None:
    with hurried_server.connect() as client:
        client.sock.settimeout(0.1)
        client.send(b"GET / HTTP/1.1\r\n")
        answer = b""
        for _ in range(60):
            try:
                answer = client.sock.recv(65536)
                break
            except TimeoutError:
                client.send(b"X: y\r\n"[:1])
        assert answer.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("octets", [b"", b"\r\n", b"\r\n" * 3])
def test_a_connection_that_never_asks_is_closed_without_a_word(
    hurried_server: ServerThread, octets: bytes
) -> None:
    with hurried_server.connect() as client:
        client.send(octets)
        assert client.is_closed_by_peer()


def test_a_pipelined_head_that_never_ends_does_not_hurt_the_answer_before_it(
    hurried_server: ServerThread, hurried_service: FakeService
) -> None:
    hurried_service.answers["/f"] = lambda _: reply(
        ScriptedBody([b"a", HURRIED.head_seconds * 1.5, b"b"]), 2
    )
    with hurried_server.connect() as client:
        client.send(b"GET /f HTTP/1.1\r\nHost: a\r\n\r\nGET /half HTTP/1.1\r\n")
        assert client.read().body == b"ab"
        assert client.read().status == 408


def test_a_request_body_that_stops_is_answered_408(
    hurried_server: ServerThread, hurried_service: FakeService
) -> None:
    hurried_service.answers["/p"] = lambda _: reply(None, status=204)
    with hurried_server.connect() as client:
        client.ask("/p", "Content-Length: 10", method="POST")
        client.send(b"abc")
        got = client.read()
        assert got.status == 408
        assert client.is_closed_by_peer()


def test_a_request_body_that_drips_is_answered_408(
    hurried_server: ServerThread, hurried_service: FakeService
) -> None:
    hurried_service.answers["/p"] = lambda _: reply(None, status=204)
    with hurried_server.connect() as client:
        client.ask("/p", "Content-Length: 100000", method="POST")
        client.sock.settimeout(HURRIED.body_stall_seconds / 4)
        answer = b""
        for _ in range(400):
            client.send(b"x")
            try:
                answer = client.sock.recv(65536)
                break
            except TimeoutError:
                continue
        assert answer.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("kind", ["window", "bytes", "chunked window"])
def test_a_client_that_accepts_nothing_is_dropped(
    hurried_server: ServerThread, hurried_service: FakeService, content_file: Path, kind: str
) -> None:
    if kind == "bytes":
        body = ScriptedBody([b"x" * (30 * MIB)])
    else:
        body = file_body(content_file, [(0, 50 * MIB)])
    length = {"window": 50 * MIB, "bytes": 30 * MIB}.get(kind)
    hurried_service.answers["/f"] = lambda _: reply(body, length)
    with hurried_server.connect(receive_buffer_bytes=4096) as client:
        client.ask("/f")
        assert body.closed.wait(PATIENCE_SECONDS)
        wait_until(lambda: hurried_server.connections == 0)
        assert not client.read().whole


def test_a_client_that_crawls_is_not_dropped(
    hurried_server: ServerThread, hurried_service: FakeService, content: bytes, content_file: Path
) -> None:
    size = 8 * MIB
    body = file_body(content_file, [(0, size)])
    hurried_service.answers["/f"] = lambda _: reply(body, size)
    with hurried_server.connect(receive_buffer_bytes=65536) as client:
        client.ask("/f")
        client.read_head()
        got = bytearray()
        for _ in range(9):  # More than two stall times long, some bytes in each.
            assert not body.closed.wait(HURRIED.stall_seconds / 4)
            got += client.file.read1(16_384)
        got += client.file.read(size - len(got))
    assert bytes(got) == content[:size]


def test_a_stalled_client_does_not_hold_up_others(
    our_server: ServerThread, our_service: FakeService, content: bytes, content_file: Path
) -> None:
    our_service.answers["/f"] = lambda _: file_reply(content_file, 0, 50 * MIB)
    with our_server.connect(receive_buffer_bytes=4096) as stalled, our_server.connect() as other:
        stalled.ask("/f")
        stalled.read_head()
        assert other.get("/f").body == content


# Ways to leave.


@pytest.fixture(params=OURS, ids="-".join)
def lenient_server(request: pytest.FixtureRequest) -> Iterator[tuple[ServerThread, FakeService]]:
    """One that waits for long before it takes a half-closed client for gone."""
    limits = replace(PATIENT, half_close_seconds=PATIENCE_SECONDS)
    yield from serving(request.param, limits)


def test_a_half_closed_client_gets_its_whole_answer(
    lenient_server: tuple[ServerThread, FakeService], content: bytes, content_file: Path
) -> None:
    server, service = lenient_server
    step = MIB // 2

    def answer(_: object) -> object:
        fd = os.open(content_file, os.O_RDONLY)
        steps: list[object] = []
        for start in range(0, 4 * MIB, step):
            steps += [0.05, Window(fd, start, start + step)]
        return reply(ScriptedBody(steps, [fd]), 4 * MIB)  # type: ignore[arg-type]

    service.answers["/f"] = answer  # type: ignore[assignment]
    with server.connect() as client:
        client.ask("/f")
        client.sock.shutdown(socket.SHUT_WR)
        got = client.read()
        assert got.whole
        assert got.body == content[: 4 * MIB]
        assert client.is_closed_by_peer()


def test_a_half_closed_client_gets_all_its_pipelined_answers(
    lenient_server: tuple[ServerThread, FakeService],
) -> None:
    server, service = lenient_server
    service.answers["/f"] = lambda _: reply(ScriptedBody([0.05, b"abc"]), 3)
    with server.connect() as client:
        client.send(b"GET /f HTTP/1.1\r\nHost: a\r\n\r\n" * 3)
        client.sock.shutdown(socket.SHUT_WR)
        assert [client.read().body for _ in range(3)] == [b"abc"] * 3
        assert client.is_closed_by_peer()


def test_a_reset_in_mid_window_releases_everything(
    our_server: ServerThread, our_service: FakeService, content_file: Path
) -> None:
    body = file_body(content_file, [(0, 50 * MIB)])
    our_service.answers["/f"] = lambda _: reply(body, 50 * MIB)
    client = our_server.connect(receive_buffer_bytes=4096)
    client.ask("/f")
    client.read_head()
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    assert body.closed.wait(PATIENCE_SECONDS)
    wait_until(lambda: our_server.connections == 0)


def test_a_refused_upload_reads_its_answer(
    our_server: ServerThread, our_service: FakeService
) -> None:
    our_service.read_bodies = False
    with our_server.connect() as client:
        client.ask("/nothing", "Content-Length: 1000000", method="POST")
        client.send(b"z" * 200_000)
        got = client.read()
        assert got.status == 404
        assert got.fields["connection"] == "close"
        assert got.whole
        assert client.is_closed_by_peer()


def test_a_request_whose_chunks_break_never_reaches_an_answer(
    our_server: ServerThread, our_service: FakeService
) -> None:
    our_service.answers["/p"] = lambda _: reply(None, status=204)
    with our_server.connect() as client:
        client.ask("/p", "Transfer-Encoding: chunked", method="POST")
        client.send(b"3\r\nabc\r\n")
        assert our_service.asked.wait(PATIENCE_SECONDS)
        client.send(b"nonsense\r\n")
        assert client.read().status == 400
        assert client.is_closed_by_peer()
    assert our_service.bodies == []


# What the head says.


@pytest.mark.parametrize("status", [200, 299, 418, 451, 599, 600, 799, 999])
def test_any_three_digit_status_passes(
    our_server: ServerThread, our_service: FakeService, status: int
) -> None:
    our_service.answers["/f"] = lambda _: reply(ScriptedBody([b"ok"]), 2, status=status)
    with our_server.connect() as client:
        got = client.get("/f")
        assert (got.status, got.body) == (status, b"ok")
        assert client.get("/f").status == status


def test_the_upstreams_date_is_the_only_one_and_no_server_is_named(
    our_server: ServerThread, our_service: FakeService
) -> None:
    our_service.answers["/f"] = lambda _: reply(
        None, status=204, fields=[("date", "Thu, 01 Jan 2004 00:00:00 GMT")]
    )
    with our_server.connect() as client:
        got = client.get("/f")
        assert got.fields["date"] == "Thu, 01 Jan 2004 00:00:00 GMT"
        assert "server" not in got.fields
        assert client.get("/none").fields["date"].endswith(" GMT")


def test_a_field_that_would_split_the_head_is_never_sent(
    our_server: ServerThread, our_service: FakeService
) -> None:
    our_service.answers["/f"] = lambda _: reply(
        ScriptedBody([b"x"]), 1, fields=[("x-split", "a\r\nset-cookie: b")]
    )
    with our_server.connect() as client:
        got = client.get("/f")
        assert got.status == 503
        assert "set-cookie" not in got.fields


@pytest.mark.parametrize(
    ("octets", "path", "query", "authority"),
    [
        (b"http://h.test:81/a%2fb?c=%20", "/a%2fb", "c=%20", "h.test:81"),
        (b"http://h.test", "/", None, "h.test"),
        (b"HTTP://h.test?q", "/", "q", "h.test"),
        (b"http://h.test/?", "/", "", "h.test"),
    ],
)
def test_absolute_form_reaches_the_service_as_such(
    our_server: ServerThread, our_service: FakeService,
    octets: bytes, path: str, query: str | None, authority: str,
) -> None:  # fmt: skip
    with our_server.connect() as client:
        client.send(b"GET %b HTTP/1.1\r\nHost: other.test\r\n\r\n" % octets)
        client.read()
    (request,) = our_service.requests
    assert request.absolute
    assert (request.raw_path, request.raw_query) == (path, query)
    assert (request.scheme, request.authority) == ("http", authority)


def test_absolute_form_never_reaches_the_admin_side(
    our_server: ServerThread, our_service: FakeService
) -> None:
    with our_server.connect() as client:
        client.send(b"GET http://h.test/metrics HTTP/1.1\r\nHost: h.test\r\n\r\n")
        assert client.read().status == 404
    assert our_service.requests[0].raw_path == "/metrics"


@pytest.mark.parametrize("target", [b"*", b"/"])
def test_methods_that_few_know_pass_through(
    our_server: ServerThread, our_service: FakeService, target: bytes
) -> None:
    our_service.answers[target.decode()] = lambda _: reply(None, status=204)
    with our_server.connect() as client:
        client.send(b"M-SEARCH %b HTTP/1.1\r\nHost: a\r\n\r\n" % target)
        assert client.read().status == 204
    assert our_service.requests[0].method == "M-SEARCH"


def test_requests_behind_an_offer_to_upgrade_are_answered(
    our_server: ServerThread, our_service: FakeService
) -> None:
    our_service.answers["/f"] = lambda _: reply(ScriptedBody([b"abc"]), 3)
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    websocket = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n"
    with our_server.connect() as client:
        for lines in (offer, websocket, b""):
            client.send(b"GET /f HTTP/1.1\r\nHost: a\r\n%b\r\n" % lines)
        assert [client.read().body for _ in range(3)] == [b"abc"] * 3


# HTTP/1.0, which knows no chunks.


def test_http_1_0_gets_a_body_that_ends_with_the_connection(
    our_server: ServerThread, our_service: FakeService, content: bytes, content_file: Path
) -> None:
    our_service.answers["/f"] = lambda _: reply(file_body(content_file, [(0, MIB)]), None)
    with our_server.connect() as client:
        got = client.get("/f", version="1.0")
        assert "transfer-encoding" not in got.fields
        assert (got.body, got.whole) == (content[:MIB], True)


def test_http_1_0_sees_a_reset_where_a_close_would_look_complete(
    our_server: ServerThread, our_service: FakeService
) -> None:
    our_service.answers["/f"] = lambda _: reply(
        ScriptedBody([b"x", 0.05, UpstreamMisbehaved("It broke.")]), None
    )
    with our_server.connect() as client:
        got = client.get("/f", version="1.0")
        assert not got.whole


# Stopping.


def test_a_running_answer_is_finished_when_the_server_stops(
    content: bytes, content_file: Path
) -> None:
    service = FakeService()
    service.answers["/f"] = lambda _: reply(ScriptedBody([b"early", 0.3, b"late!"]), 10)
    server = ServerThread(make_app(service, token="t"), loop="asyncio", http="ours")
    server.start()
    with server.connect() as client, server.connect() as idle:
        client.ask("/f")
        client.read_head()
        server.server.should_exit = True
        assert client.file.read(10) == b"earlylate!"
        assert client.is_closed_by_peer()
        assert idle.is_closed_by_peer()
    server.stop()


# TLS, where the kernel cannot send files.


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate and its key, made by openssl where there is one."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl here")
    folder: Path = tmp_path_factory.mktemp("tls")
    command = (
        f"{openssl} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 "
        f"-subj /CN=cache.test -keyout {folder}/key -out {folder}/certificate"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    return folder / "certificate", folder / "key"


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_under_tls_the_same_bytes_are_copied(
    certificate: tuple[Path, Path], content: bytes, content_file: Path, loop: str
) -> None:
    service = FakeService()
    service.answers["/f"] = lambda _: file_reply(content_file, 0, 10 * MIB)
    app = make_app(service, token="t")
    server = ServerThread(
        app, loop=loop, http="ours",
        ssl_certfile=str(certificate[0]), ssl_keyfile=str(certificate[1]),
    )  # fmt: skip
    server.start()
    try:
        context = ssl.create_default_context(cafile=str(certificate[0]))
        plain = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS)
        with Client(context.wrap_socket(plain, server_hostname="cache.test")) as client:
            for _ in range(2):
                assert client.get("/f").body == content[: 10 * MIB]
        assert service.requests[0].scheme == "https"
    finally:
        server.stop()
