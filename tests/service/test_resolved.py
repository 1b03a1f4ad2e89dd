"""A remembered target is the one that would be resolved, and few are remembered."""

from __future__ import annotations

from dataclasses import replace

import pytest

from forebay.errors import InvalidTarget
from forebay.model import Fields, Mount, Request
from forebay.presets import resolving
from forebay.service.resolved import Targets

MOUNTS = (
    Mount(name="url", prefix="/"),
    Mount(name="a", prefix="/a/", upstreams=("http://a.example/",), hosts=("a.test",)),
)
ASKED = Request("GET", "/a/f", "q=1", Fields([("accept", "text/plain")]), authority="cache.test")

OTHERS = [
    ASKED,
    replace(ASKED, raw_path="/a/g"),
    replace(ASKED, raw_query=None),
    replace(ASKED, raw_query=""),
    replace(ASKED, authority="a.test"),
    replace(ASKED, absolute=True),
    replace(ASKED, absolute=True, scheme="https"),
    replace(ASKED, fields=Fields([("accept", "text/html")])),
    replace(ASKED, fields=Fields()),
    replace(ASKED, fields=Fields([("accept", "text/plain"), ("range", "bytes=0-1")])),
    replace(ASKED, method="HEAD"),
]


def test_each_request_gets_its_own_target_however_often_it_is_asked() -> None:
    targets = Targets(MOUNTS)
    for _ in range(3):
        for request in OTHERS:
            assert targets.of(request) == resolving.resolve(request, MOUNTS)
    digest = (("sha-256", "0" * 64),)
    for expected in ((), digest, ()):
        got = targets.of(ASKED, expected_digests=expected)
        assert got.expected_digests == expected
    assert targets.of(ASKED, url="http://b.example/").urls == ("http://b.example/",)


def test_what_selects_nothing_makes_no_other_target() -> None:
    targets = Targets(MOUNTS)
    assert targets.of(OTHERS[0]) is targets.of(OTHERS[-1]) is targets.of(OTHERS[-2])


def test_few_targets_and_no_long_ones_are_remembered() -> None:
    targets = Targets(MOUNTS, limit=2)
    first = targets.of(ASKED)
    for number in range(2):
        targets.of(replace(ASKED, raw_query=str(number)))
    assert targets.of(ASKED) is not first
    long = replace(ASKED, raw_query="x" * 2000)
    assert targets.of(long) is not targets.of(long)


def test_a_refusal_is_not_remembered() -> None:
    targets = Targets(MOUNTS)
    for _ in range(2):
        with pytest.raises(InvalidTarget):
            targets.of(replace(ASKED, raw_path="/https://"))
