"""Request targets taken apart, and the heads that are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.web.heads import RawTarget, check_head, split_target
from tests.fakes.service import FakeService
from tests.web.servers import ServerThread

HOST = (b"host", b"a.test")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"/", RawTarget(b"/", None)),
        (b"/a?b?c", RawTarget(b"/a", b"b?c")),
        (b"/?", RawTarget(b"/", b"")),
        (b"*", RawTarget(b"*", None)),
        (b"/https://h/p?q", RawTarget(b"/https://h/p", b"q")),
        (b"//h/p", RawTarget(b"//h/p", None)),
        (b"http://h", RawTarget(b"/", None, b"http", b"h")),
        (b"HtTp://h:1/p?q", RawTarget(b"/p", b"q", b"http", b"h:1")),
        (b"https://u@h?q/x", RawTarget(b"/", b"q/x", b"https", b"u@h")),
        (b"ftp://h/p", RawTarget(b"/p", None, b"ftp", b"h")),
        (b"http:/h/p", RawTarget(b"http:/h/p", None)),
    ],
)
def test_a_target_is_split_and_nothing_decoded(raw: bytes, expected: RawTarget) -> None:
    assert split_target(raw) == expected
    assert expected.absolute == bool(expected.scheme)


@given(st.from_regex(rb"/[\x21-\x7e]*", fullmatch=True))
def test_an_origin_form_target_is_put_together_again_unchanged(raw: bytes) -> None:
    target = split_target(raw)
    query = b"" if target.query is None else b"?" + target.query
    assert target.path + query == raw
    assert not target.absolute


@pytest.mark.parametrize("host", [b"a.test", b"a.test:80", b"[::1]:8000", b"127.0.0.1", b""])
def test_every_ordinary_host_is_let_in(host: bytes) -> None:
    assert check_head("1.1", "GET", b"/", [(b"host", host)]) is None


@pytest.mark.parametrize("host", [b"a b", b"a/b", b"u@a", b"a\\b", b"a\xff", b'a"', b"<a>"])
def test_a_host_with_anything_else_in_it_is_refused(host: bytes) -> None:
    refusal = check_head("1.1", "GET", b"/", [(b"host", host)])
    assert refusal is not None
    assert refusal.status == 400


def test_http_1_0_may_come_without_host_but_not_with_two() -> None:
    assert check_head("1.0", "GET", b"/", []) is None
    assert check_head("1.0", "GET", b"/", [HOST, HOST]) is not None
    assert check_head("1.1", "GET", b"/", []) is not None


@pytest.mark.parametrize(
    ("fields", "accepted"),
    [
        ([(b"content-length", b"0")], True),
        ([(b"content-length", b"12")], True),
        ([(b"content-length", b"-1")], False),
        ([(b"content-length", b"1_0")], False),
        ([(b"content-length", b"")], False),
        ([(b"transfer-encoding", b"Chunked")], True),
        ([(b"transfer-encoding", b"identity")], False),
        ([(b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"chunked")], False),
        ([(b"transfer-encoding", b"chunked"), (b"content-length", b"1")], False),
    ],
)
def test_a_body_is_framed_in_one_way_only(
    fields: list[tuple[bytes, bytes]], accepted: bool
) -> None:
    assert (check_head("1.1", "POST", b"/", [HOST, *fields]) is None) is accepted


_DECEPTIVE = {
    "no Host": b"GET /f HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET /f HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "Host with a path": b"GET /f HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "length and chunks": b"POST /f HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/0.9": b"GET /f\r\n\r\n",
}


@pytest.mark.parametrize("octets", _DECEPTIVE.values(), ids=_DECEPTIVE.keys())
def test_no_server_gets_a_deceptive_head_to_the_service(
    any_server: ServerThread, any_service: FakeService, octets: bytes
) -> None:
    with any_server.connect() as client:
        client.send(octets)
        assert client.read_head()[0] == 400
    assert any_service.requests == []
