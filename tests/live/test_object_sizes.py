"""``max_object_size``: what is larger is passed on or refused, what grows larger is broken off."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.origin import Origin
from tests.live.running import Running, running
from tests.patience import PATIENCE_SECONDS

MOST = 100_000
BODY = random.Random(23).randbytes(MOST)
LARGER = BODY + b"x"
MAX_AGE = ("cache-control", "max-age=600")


@pytest.fixture
async def bounded(tmp_path: Path, origin: Origin, no_leaks: None) -> AsyncIterator[Running]:
    upstream, size = origin.url("/"), MOST
    mounts: list[dict[str, Any]] = [
        {"name": "pass", "upstream": upstream, "max_object_size": size},
        {"name": "refuse", "upstream": upstream, "max_object_size": size, "refuse_larger": True},
    ]
    async with running(tmp_path / "cache", origin, mounts=mounts) as service:
        yield service


@pytest.mark.parametrize("mount", ["pass", "refuse"])
@pytest.mark.parametrize("chunked", [False, True])
async def test_what_is_just_as_large_is_kept(
    bounded: Running, origin: Origin, mount: str, chunked: bool
) -> None:
    origin.add("/f", body=BODY, chunked=chunked, headers=[MAX_AGE])
    for _ in range(2):
        assert (await bounded.get(f"/{mount}/f")).body == BODY
    assert len(origin.requests) == 1


async def test_what_is_larger_is_passed_on_and_not_kept(bounded: Running, origin: Origin) -> None:
    origin.add("/f", body=LARGER, etag='"one"', headers=[MAX_AGE])
    for number in range(1, 3):
        answer = await bounded.get("/pass/f")
        assert (answer.body, answer.whole) == (LARGER, True)
        assert len(origin.requests) == number
    part = await bounded.get("/pass/f", "Range: bytes=10-19")
    assert (part.status, part.body) == (206, BODY[10:20])
    assert (await bounded.admin("/-/objects")).json()["objects"] == []


async def test_what_is_larger_is_refused_where_the_mount_says_so(
    bounded: Running, origin: Origin
) -> None:
    for headers in ([MAX_AGE], [("cache-control", "no-store")]):
        origin.add("/f", body=LARGER, etag='"one"', headers=headers)
        for lines in ((), ("Range: bytes=10-19",)):
            answer = await bounded.get("/refuse/f", *lines)
            assert answer.status == 403
            assert "max_object_size" in answer.json()["detail"]


@pytest.mark.parametrize("script", [{"chunked": True}, {"content_length": False}])
async def test_what_grows_too_large_is_broken_off_and_the_next_time_passed_on(
    bounded: Running, origin: Origin, script: dict[str, bool]
) -> None:
    origin.add("/f", body=LARGER, headers=[MAX_AGE], **script)
    answer = await bounded.get("/pass/f")
    if "chunked" in script:
        assert not answer.whole
        assert LARGER.startswith(answer.body)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await bounded.admin("/-/transfers")).json()["transfers"]:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        answer = await bounded.get("/pass/f")
    assert (answer.body, answer.whole) == (LARGER, True)
    assert (await bounded.admin("/-/objects")).json()["objects"] == []


@pytest.mark.parametrize("headers", [[MAX_AGE], [("cache-control", "no-store")]])
async def test_what_grows_too_large_is_broken_off_where_larger_is_refused(
    bounded: Running, origin: Origin, headers: list[tuple[str, str]]
) -> None:
    origin.add("/f", body=LARGER, chunked=True, headers=headers)
    for _ in range(2):
        answer = await bounded.get("/refuse/f")
        assert not answer.whole
        assert len(answer.body) <= MOST
