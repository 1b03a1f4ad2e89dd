"""What clients need of a cache and no other test of the service holds: gzip asked for first, and
paths that stay as they were written."""

from __future__ import annotations

import gzip

import pytest

from tests.fakes.origin import Origin, OriginRequest, Resource
from tests.live.running import Running

BODY = b"one representation for all " * 4000
MAX_AGE = ("cache-control", "max-age=600")


def negotiated(request: OriginRequest) -> Resource:
    """What a server sends that packs for whoever lets it."""
    headers = [MAX_AGE, ("vary", "accept-encoding")]
    if "gzip" in (request.fields.get("accept-encoding") or ""):
        packed = gzip.compress(BODY)
        return Resource(
            body=packed, etag='"packed"', headers=[*headers, ("content-encoding", "gzip")]
        )
    return Resource(body=BODY, etag='"plain"', headers=headers)


async def test_a_client_that_offers_gzip_first_and_resumes_without_gets_one_representation(
    forebay: Running, origin: Origin
) -> None:
    origin.add("/f", handler=negotiated)
    first = await forebay.fetch("/f", "Accept-Encoding: gzip")
    assert (first.body, first.fields["etag"]) == (BODY, '"plain"')
    assert "content-encoding" not in first.fields
    rest = await forebay.fetch(
        "/f", "Accept-Encoding: identity", "Range: bytes=1000-", 'If-Range: "plain"'
    )
    assert (rest.status, rest.body) == (206, BODY[1000:])
    assert len(origin.requests) == 1


@pytest.mark.parametrize(
    "path", ["/@scope%2fname", "/@v/%21sirupsen/list", "/a+b%25c_1.0%2b1.deb", "/a%20b;v=1?x=%2F&y"]
)
async def test_a_path_reaches_the_origin_as_it_was_written(
    forebay: Running, origin: Origin, path: str
) -> None:
    await forebay.fetch(path)
    assert [request.target for request in origin.requests] == [path]
