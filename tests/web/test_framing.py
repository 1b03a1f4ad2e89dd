"""Heads of responses as octets."""

from __future__ import annotations

import pytest

from forebay.web.framing import Framing, render_head, status_line


def _render(
    status: int = 200, *fields: tuple[bytes, bytes], method: str = "GET", version: str = "1.1"
) -> tuple[bytes, Framing, bool]:
    head = render_head(status, fields, method=method, version=version, keep_alive=True)
    return head.octets, head.framing, head.keep_alive


@pytest.mark.parametrize(
    ("status", "method", "version", "length", "framing"),
    [
        (200, "GET", "1.1", b"5", Framing.LENGTH),
        (200, "GET", "1.0", b"5", Framing.LENGTH),
        (200, "GET", "1.1", None, Framing.CHUNKED),
        (200, "GET", "1.0", None, Framing.CLOSE),
        (200, "HEAD", "1.1", b"5", Framing.NONE),
        (204, "GET", "1.1", None, Framing.NONE),
        (304, "GET", "1.1", b"5", Framing.NONE),
        (103, "GET", "1.1", None, Framing.NONE),
        (999, "GET", "1.1", None, Framing.CHUNKED),
    ],
)
def test_the_end_of_a_body_is_told_as_rfc_9112_has_it(
    status: int, method: str, version: str, length: bytes | None, framing: Framing
) -> None:
    fields = [(b"content-length", length)] if length is not None else []
    octets, got, keep_alive = _render(status, *fields, method=method, version=version)
    assert got is framing
    assert (b"transfer-encoding: chunked\r\n" in octets) is (framing is Framing.CHUNKED)
    assert keep_alive is (framing is not Framing.CLOSE)


@pytest.mark.parametrize(
    "field",
    [(b"x", b"a\r\nb: c"), (b"x", b"\n"), (b"x", b"\x00"), (b"x y", b"1"), (b"", b"1"),
     (b"x:", b"1"), (b"x\r\n", b"1"), (b"content-length", b"-1"), (b"content-length", b"1, 1")],
)  # fmt: skip
def test_a_field_that_breaks_the_head_apart_is_refused(field: tuple[bytes, bytes]) -> None:
    with pytest.raises(ValueError, match=r"."):
        _render(200, field)


def test_two_lengths_are_one_only_if_they_agree() -> None:
    octets, _, _ = _render(200, (b"content-length", b"5"), (b"content-length", b"5"))
    assert octets.count(b"content-length") == 1
    with pytest.raises(ValueError, match="Content-Length"):
        _render(200, (b"content-length", b"5"), (b"content-length", b"6"))


def test_the_applications_transfer_encoding_is_left_out() -> None:
    octets, framing, _ = _render(200, (b"transfer-encoding", b"chunked"), (b"content-length", b"5"))
    assert framing is Framing.LENGTH
    assert b"chunked" not in octets


def test_close_is_said_once() -> None:
    octets, _, keep_alive = _render(200, (b"connection", b"x, Close"))
    assert not keep_alive
    assert octets.lower().count(b"close") == 1


@pytest.mark.parametrize("status", [0, 99, 1000, -200])
def test_a_status_has_three_digits(status: int) -> None:
    with pytest.raises(ValueError, match="status"):
        status_line(status)


def test_unregistered_statuses_have_an_empty_phrase_and_its_blank() -> None:
    assert status_line(799) == b"HTTP/1.1 799 \r\n"
    assert status_line(404) == b"HTTP/1.1 404 Not Found\r\n"
