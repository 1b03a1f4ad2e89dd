"""Every server gives the same bytes: ours by zero-copy on two loops, two others by copying."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from forebay.errors import UpstreamMisbehaved
from forebay.model import Window
from tests.fakes.service import FakeService, Hang, ScriptedBody, Step, file_body, file_reply, reply
from tests.patience import PATIENCE_SECONDS
from tests.web.conftest import MIB
from tests.web.servers import ServerThread, open_descriptors, wait_until


@pytest.mark.parametrize("size", [0, 1, 1000, 64 * 1024, 64 * 1024 + 1, MIB, 50 * MIB])
def test_a_window_of_any_size_arrives_whole(
    any_server: ServerThread,
    any_service: FakeService,
    content: bytes,
    content_file: Path,
    size: int,
) -> None:
    any_service.answers["/f"] = lambda _: file_reply(content_file, 0, size)
    with any_server.connect() as client:
        got = client.get("/f")
    assert got.whole
    assert got.fields["content-length"] == str(size)
    assert got.body == content[:size]
    wait_until(any_service.noted.is_set)
    assert any_service.served[0][1] == size


def test_windows_and_bytes_mix_in_order(
    any_server: ServerThread, any_service: FakeService, content: bytes, content_file: Path
) -> None:
    def answer(_: object) -> object:
        fd = os.open(content_file, os.O_RDONLY)
        steps: list[Step] = [
            b"one",
            Window(fd, 5, 3 * MIB),
            b"two" * 100_000,
            Window(fd, 0, 10),
            Window(fd, 7, 7),
            b"",
            Window(fd, 40 * MIB, 40 * MIB + 70_000),
        ]
        return reply(ScriptedBody(steps, [fd]), None)

    expected = (
        b"one" + content[5 : 3 * MIB] + b"two" * 100_000 + content[:10]
        + content[40 * MIB : 40 * MIB + 70_000]
    )  # fmt: skip
    any_service.answers["/f"] = answer  # type: ignore[assignment]
    with any_server.connect() as client:
        got = client.get("/f")
        again = client.get("/f", method="HEAD")
    assert got.fields["transfer-encoding"] == "chunked"
    assert got.whole
    assert got.body == expected
    assert again.status == 200


@pytest.mark.parametrize("known", [True, False])
def test_a_growing_body_arrives_as_it_grows(
    any_server: ServerThread, any_service: FakeService, content: bytes, content_file: Path,
    known: bool,
) -> None:  # fmt: skip
    def answer(_: object) -> object:
        fd = os.open(content_file, os.O_RDONLY)
        steps: list[object] = []
        for start in range(0, MIB, MIB // 8):
            steps += [0.01, Window(fd, start, start + MIB // 8)]
        body = ScriptedBody(steps, [fd])  # type: ignore[arg-type]
        return reply(body, MIB if known else None)

    any_service.answers["/f"] = answer  # type: ignore[assignment]
    with any_server.connect() as client:
        got = client.get("/f")
    assert got.whole
    assert got.body == content[:MIB]


def test_the_head_leaves_before_the_first_piece_is_there(
    any_server: ServerThread, any_service: FakeService
) -> None:
    any_service.answers["/f"] = lambda _: reply(ScriptedBody([Hang()]), 10)
    with any_server.connect() as client:
        client.ask("/f")
        assert client.read_head()[0] == 200


def test_a_piece_leaves_before_the_next_is_there(
    any_server: ServerThread, any_service: FakeService
) -> None:
    any_service.answers["/f"] = lambda _: reply(ScriptedBody([b"early", Hang()]), 10)
    with any_server.connect() as client:
        client.ask("/f")
        client.read_head()
        assert client.file.read(5) == b"early"


def test_a_connection_goes_on_after_every_kind_of_answer(
    any_server: ServerThread, any_service: FakeService, content: bytes, content_file: Path
) -> None:
    any_service.answers["/f"] = lambda r: (
        reply(None, 1000) if r.method == "HEAD" else file_reply(content_file, 0, 1000)
    )
    any_service.answers["/304"] = lambda _: reply(None, 1000, status=304)
    any_service.answers["/204"] = lambda _: reply(None, status=204)
    any_service.answers["/206"] = lambda _: file_reply(content_file, 100, 300_000, status=206)
    any_service.answers["/unknown"] = lambda _: reply(
        file_body(content_file, [(0, 9), (9, 200_000)]), None
    )
    with any_server.connect() as client:
        for _ in range(2):
            assert client.get("/f", method="HEAD").fields["content-length"] == "1000"
            assert client.get("/304").status == 304
            assert client.get("/204").status == 204
            assert client.get("/206").body == content[100:300_000]
            assert client.get("/unknown").body == content[:200_000]
            assert client.get("/nothing").status == 404
            assert client.get("/f").body == content[:1000]
    assert all(r.client_host == "127.0.0.1" for r in any_service.requests)


def test_a_head_request_never_touches_the_body(
    any_server: ServerThread, any_service: FakeService
) -> None:
    body = ScriptedBody([Hang()])
    any_service.answers["/f"] = lambda _: reply(body, 1000)
    with any_server.connect() as client:
        assert client.get("/f", method="HEAD").fields["content-length"] == "1000"
    wait_until(body.closed.is_set)


@pytest.mark.parametrize("length", [300_000, None], ids=["length", "chunked"])
@pytest.mark.parametrize("before", [b"", b"x" * 1000, b"x" * 200_000])
def test_a_body_that_fails_is_seen_to_be_short(
    any_server: ServerThread, any_service: FakeService, length: int | None, before: bytes
) -> None:
    body = ScriptedBody([before, 0.01, UpstreamMisbehaved("It broke.")])
    any_service.answers["/f"] = lambda _: reply(body, length)
    with any_server.connect() as client:
        got = client.get("/f")
        assert not got.whole
        assert before.startswith(got.body)
        assert client.is_closed_by_peer()
    wait_until(body.closed.is_set)


def test_a_body_shorter_than_promised_is_cut(
    any_server: ServerThread, any_service: FakeService
) -> None:
    any_service.answers["/f"] = lambda _: reply(ScriptedBody([b"five!"]), 10)
    with any_server.connect() as client:
        got = client.get("/f")
        assert not got.whole
        assert client.is_closed_by_peer()


@pytest.mark.parametrize("missing", [10, 3 * MIB])
def test_a_file_shorter_than_its_window_is_cut(
    any_server: ServerThread, any_service: FakeService, tmp_path: Path, missing: int
) -> None:
    path = tmp_path / "short"
    path.write_bytes(b"y" * 500_000)
    any_service.answers["/f"] = lambda _: file_reply(path, 0, 500_000 + missing)
    with any_server.connect() as client:
        got = client.get("/f")
        assert not got.whole
        assert client.is_closed_by_peer()


@pytest.mark.parametrize("started", [False, True], ids=["before a byte", "after a byte"])
def test_a_client_that_leaves_releases_a_body_that_waits(
    any_server: ServerThread, any_service: FakeService, started: bool
) -> None:
    body = ScriptedBody([b"early", Hang()] if started else [Hang()])
    any_service.answers["/f"] = lambda _: reply(body, 10)
    with any_server.connect() as client:
        client.ask("/f")
        client.read_head()
    assert body.closed.wait(PATIENCE_SECONDS)
    wait_until(any_service.noted.is_set)


def test_a_client_that_leaves_releases_a_service_that_waits(
    any_server: ServerThread, any_service: FakeService
) -> None:
    any_service.wait_seconds = 60.0
    with any_server.connect() as client:
        client.ask("/f")
        assert any_service.asked.wait(PATIENCE_SECONDS)
    assert any_service.cancelled.wait(PATIENCE_SECONDS)


def test_a_client_that_leaves_in_mid_window_releases_everything(
    any_server: ServerThread, any_service: FakeService, content_file: Path
) -> None:
    wait_until(lambda: any_server.connections == 0)
    before = open_descriptors()
    bodies = []

    def answer(_: object) -> object:
        body = file_body(content_file, [(0, 50 * MIB)])
        bodies.append(body)
        return reply(body, 50 * MIB)

    any_service.answers["/f"] = answer  # type: ignore[assignment]
    for _ in range(5):
        with any_server.connect() as client:
            client.ask("/f")
            client.file.read(200_000)
    wait_until(lambda: len(any_service.served) == 5)
    wait_until(lambda: any_server.connections == 0)
    assert [body.close_calls for body in bodies] == [1] * 5
    if any_server.http == "ours":  # The others take bytes for a client that is gone.
        assert all(0 < sent < 50 * MIB for _, sent in any_service.served)
    wait_until(lambda: len(open_descriptors()) <= len(before))


def test_descriptors_are_back_after_many_answers(
    any_server: ServerThread, any_service: FakeService, content_file: Path
) -> None:
    any_service.answers["/f"] = lambda _: file_reply(content_file, 0, 2 * MIB)
    wait_until(lambda: any_server.connections == 0)
    before = open_descriptors()
    for _ in range(5):
        with any_server.connect() as client:
            for _ in range(4):
                assert client.get("/f").whole
    wait_until(lambda: any_server.connections == 0)
    wait_until(lambda: len(open_descriptors()) <= len(before))
    wait_until(lambda: len(any_service.served) == 20)  # noted when the answer is over for us


def test_request_bodies_reach_the_service_as_sent(
    any_server: ServerThread, any_service: FakeService
) -> None:
    any_service.answers["/p"] = lambda _: reply(ScriptedBody([b"done"]), 4, status=201)
    sent = b"z" * 300_000
    with any_server.connect() as client:
        client.ask("/p", "Content-Length: 300000", method="POST")
        client.send(sent)
        assert client.read().status == 201
        client.ask("/p", "Transfer-Encoding: chunked", method="POST")
        client.send(b"3\r\nabc\r\n")
        client.send(b"2\r\nde\r\n0\r\n\r\n")
        assert client.read().status == 201
        assert client.get("/p", method="OPTIONS").status == 201
    assert any_service.bodies == [sent, b"abcde", None]
    assert any_service.body_lengths == [300_000, None, None]


def test_a_get_with_a_body_is_refused(any_server: ServerThread, any_service: FakeService) -> None:
    with any_server.connect() as client:
        client.ask("/p", "Content-Length: 3")
        client.send(b"abc")
        assert client.read().status == 400
    assert any_service.requests == []


def test_expect_continue_is_answered_when_the_body_is_wanted(
    any_server: ServerThread, any_service: FakeService
) -> None:
    any_service.answers["/p"] = lambda _: reply(ScriptedBody([b"done"]), 4)
    with any_server.connect() as client:
        client.ask("/p", "Content-Length: 3", "Expect: 100-continue", method="PUT")
        assert client.read_head()[0] == 100
        client.send(b"abc")
        assert client.read().body == b"done"
    assert any_service.bodies == [b"abc"]


def test_fields_travel_as_octets(any_server: ServerThread, any_service: FakeService) -> None:
    any_service.answers["/f"] = lambda _: reply(None, status=204, fields=[("etag", '"\xe9\xff"')])
    with any_server.connect() as client:
        got = client.get("/f", 'If-None-Match: "\xe9"', "Accept: a", "Accept: b")
    assert got.fields["etag"] == '"\xe9\xff"'
    request = any_service.requests[0]
    assert request.fields.get("if-none-match") == '"\xe9"'
    assert request.fields.get_all("accept") == ("a", "b")


def test_paths_and_queries_travel_undecoded(
    any_server: ServerThread, any_service: FakeService
) -> None:
    with any_server.connect() as client:
        client.get("/https://h.test//a%2Fb/%21x/../%FF+c?q=%26&&r")
        client.get("/p")
    first, second = any_service.requests
    assert first.raw_path == "/https://h.test//a%2Fb/%21x/../%FF+c"
    assert first.raw_query == "q=%26&&r"
    assert second.raw_query is None
    assert first.authority == "cache.test"
    assert not first.absolute
