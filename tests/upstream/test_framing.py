"""Where a body ends (RFC 9112 §6.3), and that nothing ambiguous is guessed at."""

from __future__ import annotations

import pytest

from forebay.errors import UpstreamMisbehaved
from forebay.model import Fields
from forebay.upstream.framing import Framing, framing_of

LENGTH_5 = ("content-length", "5")
CHUNKED = ("transfer-encoding", "chunked")


@pytest.mark.parametrize(
    ("method", "status", "fields", "framing"),
    [
        ("GET", 200, [LENGTH_5], Framing(length_bytes=5)),
        ("GET", 200, [("content-length", "0")], Framing(length_bytes=0)),
        ("GET", 206, [CHUNKED], Framing(chunked=True)),
        ("GET", 200, [("transfer-encoding", "Chunked")], Framing(chunked=True)),
        ("GET", 200, [], Framing()),
        ("HEAD", 200, [LENGTH_5], Framing(length_bytes=0, bodiless=True)),
        ("HEAD", 200, [], Framing(length_bytes=0, bodiless=True)),
        ("HEAD", 200, [CHUNKED], Framing(length_bytes=0, bodiless=True)),
        ("GET", 304, [LENGTH_5], Framing(length_bytes=0, bodiless=True)),
        ("GET", 204, [LENGTH_5], Framing(length_bytes=0, bodiless=True)),
        ("POST", 200, [LENGTH_5], Framing(length_bytes=5)),
    ],
)
def test_the_end_of_a_body_is_known_from_method_status_and_fields(
    method: str, status: int, fields: list[tuple[str, str]], framing: Framing
) -> None:
    assert framing_of(method, status, Fields(fields)) == framing


def test_only_a_length_or_chunks_prove_the_end() -> None:
    assert Framing(length_bytes=0).proves_end
    assert Framing(chunked=True).proves_end
    assert not Framing().proves_end


@pytest.mark.parametrize(
    "fields",
    [
        [LENGTH_5, CHUNKED],
        [LENGTH_5, LENGTH_5],
        [LENGTH_5, ("content-length", "6")],
        [("content-length", "5, 5")],
        [("content-length", "")],
        [("content-length", "+5")],
        [("content-length", "-5")],
        [("content-length", "0x5")],
        [("content-length", "5_0")],
        [("content-length", "\xb2")],
        [("content-length", "1" * 19)],
        [("transfer-encoding", "gzip, chunked")],
        [("transfer-encoding", "identity")],
        [("transfer-encoding", "chunked, chunked")],
        [CHUNKED, CHUNKED],
        [("transfer-encoding", "")],
    ],
)
@pytest.mark.parametrize("status", [200, 206, 404])
def test_ambiguous_framing_is_refused(status: int, fields: list[tuple[str, str]]) -> None:
    with pytest.raises(UpstreamMisbehaved):
        framing_of("GET", status, Fields(fields))
