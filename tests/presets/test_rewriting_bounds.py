"""What rewriting holds in memory, and what it lets pass."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from forebay.presets import PRESETS
from forebay.presets.contract import DEFAULT_MAX_BYTES
from forebay.service.rewriting import Memo
from tests.fakes.origin import Origin
from tests.live.running import running


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as server:
        yield server


def test_the_memo_is_bounded_by_bytes_and_the_least_recent_page_goes() -> None:
    memo = Memo(limit_bytes=10)
    memo.put("a", b"aaaa")
    memo.put("b", b"bbbb")
    assert memo.get("a") == b"aaaa"
    memo.put("c", b"cccc")
    assert (memo.get("a"), memo.get("b"), memo.get("c")) == (b"aaaa", None, b"cccc")


def test_a_page_that_is_larger_than_the_memo_is_not_remembered() -> None:
    memo = Memo(limit_bytes=10)
    memo.put("a", b"aaaa")
    memo.put("b", b"b" * 11)
    assert (memo.get("a"), memo.get("b")) == (b"aaaa", None)


def test_a_page_that_is_put_again_counts_once() -> None:
    memo = Memo(limit_bytes=10)
    for _ in range(5):
        memo.put("a", b"aaaa")
    memo.put("b", b"bbbb")
    assert memo.get("a") == b"aaaa"


def test_every_rewriting_has_a_bound() -> None:
    bounds = [rewrite.max_bytes for preset in PRESETS.values() for rewrite in preset.rewrites]
    assert bounds
    assert all(0 < bound <= DEFAULT_MAX_BYTES for bound in bounds)


@pytest.mark.parametrize("chunked", [True, False])
async def test_an_index_above_the_bound_is_passed_on_as_it_is(
    tmp_path: Path, origin: Origin, chunked: bool
) -> None:
    body = b'{"dl":"https://dl.example/","pad":"' + b"x" * 200_000 + b'"}'
    kind = [("content-type", "application/json"), ("cache-control", "max-age=60")]
    origin.add("/config.json", body=body, chunked=chunked, etag='"c"', headers=kind)
    mount = {"name": "m", "preset": "cargo", "upstream": origin.url()}
    async with running(tmp_path / "cache", origin, mounts=[mount]) as service:
        for _ in range(2):
            answer = await service.get("/m/config.json")
            assert (answer.status, answer.body, answer.whole) == (200, body, True)
        part = await service.get("/m/config.json", "Range: bytes=0-3")
        assert (part.status, part.body) == (206, body[:4])
