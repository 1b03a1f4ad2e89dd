"""Responses out of octets: the same however they are cut, strict, bounded, no surplus missed."""

from __future__ import annotations

import contextlib
import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from forebay.errors import UpstreamMisbehaved
from forebay.upstream.incoming import MAX_FIELDS, MAX_HEAD_BYTES, MAX_INTERIM, Incoming

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def read(octets: bytes, method: str = "GET", cuts: tuple[int, ...] = ()) -> tuple[Incoming, bytes]:
    """The response after these octets came, cut at these positions; and its body so far."""
    incoming = Incoming(method)
    edges = [0, *sorted(cuts), len(octets)]
    for start, stop in itertools.pairwise(edges):
        incoming.feed(octets[start:stop])
    body = b""
    while piece := incoming.next_piece():
        body += piece
    assert incoming.queued_bytes == 0
    return incoming, body


WHOLE = [
    ("GET", OK + b"Content-Length: 5\r\n\r\nhello", b"hello"),
    ("GET", OK + b"content-length:5\r\nX:\t y \r\n\r\nhello", b"hello"),
    ("GET", OK + b"Content-Length: 0\r\n\r\n", b""),
    ("HEAD", OK + b"Content-Length: 5\r\n\r\n", b""),
    ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b""),
    ("GET", b"HTTP/1.1 204 \r\n\r\n", b""),
    ("GET", CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    ("GET", CHUNKED + b"2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nTrailer: x\r\n\r\n", b"hello"),
    ("GET", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + CHUNKED + b"0\r\n\r\n", b""),
    ("GET", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    ("GET", b"HTTP/1.1 799 \r\nContent-Length: 2\r\n\r\nok", b"ok"),
]


@given(st.sampled_from(WHOLE), st.lists(st.integers(0, 150), max_size=8))
def test_a_response_is_the_same_however_it_is_cut(
    case: tuple[str, bytes, bytes], cuts: list[int]
) -> None:
    method, octets, body = case
    incoming, found = read(octets, method, tuple(min(cut, len(octets)) for cut in cuts))
    assert incoming.complete
    assert not incoming.surplus
    assert found == body
    incoming.end()


@pytest.mark.parametrize(("method", "octets", "_"), WHOLE)
def test_a_response_can_come_octet_by_octet(method: str, octets: bytes, _: bytes) -> None:
    assert read(octets, method, tuple(range(1, len(octets))))[0].complete


@given(
    st.sampled_from(WHOLE),
    st.binary(min_size=1, max_size=20).filter(lambda surplus: surplus.strip(b"\r\n")),
    st.integers(0, 200),
)
@example(WHOLE[6], b"H", 200)
@example(WHOLE[6], OK + b"Content-Length: 4\r\n\r\nEVIL", 200)
@example(WHOLE[6], CHUNKED + b"4\r\nEVIL\r\n0\r\n\r\n", 200)
@example(WHOLE[0], OK + b"Content-Length: 4\r\n\r\nEVIL", 200)
def test_whatever_follows_a_message_is_seen_as_surplus(
    case: tuple[str, bytes, bytes], surplus: bytes, cut: int
) -> None:
    method, octets, body = case
    incoming, found = read(octets + surplus, method, (min(cut, len(octets)),))
    assert incoming.complete
    assert incoming.surplus
    assert found == body


@given(st.sampled_from(WHOLE), st.data())
def test_a_response_that_is_cut_short_never_passes_for_whole(
    case: tuple[str, bytes, bytes], data: st.DataObject
) -> None:
    method, octets, _ = case
    cut = data.draw(st.integers(1, len(octets) - 1))
    incoming, _ = read(octets[:cut], method)
    assert not incoming.complete
    with pytest.raises(UpstreamMisbehaved):
        incoming.end()


def test_a_body_without_framing_ends_with_the_connection() -> None:
    incoming, body = read(OK + b"\r\nsome bytes")
    assert (body, incoming.complete) == (b"some bytes", False)
    incoming.end()
    assert incoming.complete


def test_head_fields_keep_their_octets_and_order() -> None:
    incoming, _ = read(OK + b'ETag: "\xe9"\r\nB: 2\r\nB: 1\r\nContent-Length: 0\r\n\r\n')
    assert incoming.received is not None
    assert list(incoming.received.head.fields) == [
        ("etag", '"\xe9"'), ("b", "2"), ("b", "1"), ("content-length", "0"),
    ]  # fmt: skip
    assert incoming.received.head.reason == "OK"


def test_trailers_do_not_become_fields() -> None:
    incoming, _ = read(CHUNKED + b"0\r\nETag: x\r\n\r\n")
    assert incoming.received is not None
    assert "etag" not in incoming.received.head.fields


def test_interim_responses_are_kept_apart_from_the_final_one() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nETag: x\r\n\r\n"
    incoming, _ = read(b"HTTP/1.1 100 Continue\r\n\r\n" + hints + OK + b"Content-Length: 0\r\n\r\n")
    assert incoming.received is not None
    assert [head.status for head in incoming.received.interim] == [100, 103]
    assert incoming.received.interim[1].fields.get("link") == "</a>"
    assert "etag" not in incoming.received.head.fields


@pytest.mark.parametrize(
    ("octets", "keep"),
    [
        (OK + b"Content-Length: 0\r\n\r\n", True),
        (OK + b"Content-Length: 0\r\nConnection: x, Close\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: Keep-Alive\r\n\r\n", True),
    ],
)
def test_the_connection_lives_on_as_version_and_options_say(octets: bytes, keep: bool) -> None:
    received = read(octets)[0].received
    assert received is not None
    assert received.keep_alive is keep


BROKEN = [
    OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
    OK + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\n",
    OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n",
    OK + b"Content-Length: 3, 3\r\n\r\n",
    OK + b"Content-Length: +3\r\n\r\n",
    OK + b"Content-Length: -3\r\n\r\n",
    OK + b"Content-Length: 99999999999999999999\r\n\r\n",
    OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    OK + b"Transfer-Encoding: gzip\r\n\r\n",
    OK + b"Transfer-Encoding: xchunked\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    OK + b"A : b\r\n\r\n",
    OK + b": b\r\n\r\n",
    OK + b"A\r\n\r\n",
    OK + b"A: b\r\n folded\r\n\r\n",
    OK + b"A: b\nB: c\r\n\r\n",
    OK + b"A: b\rB: c\r\n\r\n",
    OK + b"A: b\x00c\r\n\r\n",
    OK + b"A: b\x01c\r\n\r\n",
    OK + b"A: b\x7fc\r\n\r\n",
    OK + b"A\xe9: b\r\n\r\n",
    b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    b"HTTP/0.9 200 OK\r\n\r\n",
    b"HTTP/2.0 200 OK\r\n\r\n",
    b"HTTP/1.1 099 Low\r\n\r\n",
    b"HTTP/1.1 20 OK\r\n\r\n",
    b"HTTP/1.1 abc OK\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
    b"ICY 200 OK\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"\r\n\r\n",
    b"<html>\r\n\r\n",
    CHUNKED + b"xyz\r\n",
    CHUNKED + b"-1\r\n",
    CHUNKED + b"5\r\nhello0\r\n\r\n",
    CHUNKED + b"5\nhello\n0\n\n",
    CHUNKED + b"fffffffffffffffff\r\n",
]


@pytest.mark.parametrize("octets", BROKEN)
def test_what_breaks_http_is_refused_in_one_piece_and_in_octets(octets: bytes) -> None:
    for cuts in ((), tuple(range(1, len(octets)))):
        with pytest.raises(UpstreamMisbehaved):
            read(octets, cuts=cuts)


@pytest.mark.parametrize(
    "octets",
    [
        OK + b"A: " + b"x" * MAX_HEAD_BYTES,
        OK + b"A: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n",
        OK + b"A: b\r\n" * (MAX_FIELDS + 1) + b"\r\n",
        b"HTTP/1.1 103 Early\r\n\r\n" * (MAX_INTERIM + 1),
    ],
)
def test_heads_and_interim_responses_are_bounded(octets: bytes) -> None:
    with pytest.raises(UpstreamMisbehaved):
        read(octets)


def test_many_tiny_chunks_are_given_out_in_few_pieces() -> None:
    incoming = Incoming("GET")
    incoming.feed(CHUNKED + b"1\r\nx\r\n" * 5000)
    assert incoming.queued_bytes == 5000
    assert incoming.next_piece() == b"x" * 5000
    assert incoming.next_piece() == b""


@pytest.mark.parametrize(
    "endless",
    [b"0\r\nX: " + b"x" * 1000, b"0\r\n" + b"X: y\r\n" * 200, b"5;" + b"x" * 1000],
    ids=["a trailer", "trailers", "an extension"],
)
def test_what_comes_without_bytes_of_the_body_is_bounded(endless: bytes) -> None:
    incoming = Incoming("GET")
    incoming.feed(CHUNKED + endless)
    fed = 0
    with contextlib.suppress(UpstreamMisbehaved):
        while fed <= 2 * MAX_HEAD_BYTES:
            incoming.feed(endless[2:])
            fed += len(endless[2:])
    assert fed <= MAX_HEAD_BYTES


def test_extensions_of_chunks_that_bring_bytes_are_not_counted_together() -> None:
    incoming = Incoming("GET")
    incoming.feed(CHUNKED)
    for _ in range(2 * MAX_HEAD_BYTES // 1000):
        incoming.feed(b"1;" + b"x" * 1000 + b"\r\ny\r\n")
    assert incoming.queued_bytes == 2 * MAX_HEAD_BYTES // 1000
