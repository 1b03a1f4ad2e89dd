"""The text of an index row."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.model import Entry, Fields, Head, Identity, Interval
from forebay.store.codec import claims_complete, decode, encode, whole_coverage

texts = st.text(max_size=20)
octets = st.text(st.characters(max_codepoint=255), max_size=20)
pairs = st.lists(st.tuples(texts, texts), max_size=3).map(tuple)
times = st.floats(0, 4e9)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    length = draw(st.none() | st.integers(0, 1 << 50))
    complete = length is not None and draw(st.booleans())
    if complete:
        assert length is not None
        coverage = whole_coverage(length)
    else:
        ends = sorted(draw(st.sets(st.integers(0, length or 1 << 50), max_size=8)))
        coverage = tuple(
            Interval(a, b) for a, b in zip(ends[::2], ends[1::2], strict=False) if a < b
        )
    return Entry(
        key=draw(texts),
        entry_id=draw(texts),
        name=draw(texts),
        mount=draw(texts),
        head=Head(
            draw(st.integers(100, 599)),
            Fields(draw(st.lists(st.tuples(texts, octets), max_size=4))),
            draw(octets),
        ),
        identity=Identity(length, draw(st.none() | octets), draw(st.none() | octets)),
        request_time=draw(times),
        response_time=draw(times),
        coverage=coverage,
        complete=complete,
        vary=draw(pairs),
        tags=tuple(draw(st.lists(texts, max_size=3))),
        digests=draw(pairs),
        stored_time=draw(times),
    )


@given(entries())
def test_an_entry_comes_back_as_it_was(entry: Entry) -> None:
    assert decode(encode(entry)) == entry


@given(entries())
def test_completeness_is_seen_without_parsing(entry: Entry) -> None:
    assert claims_complete(encode(entry)) == entry.complete


def sample() -> Entry:
    return Entry(
        key="k",
        entry_id="id",
        name='"complete":true',
        mount='{"complete":true}',
        head=Head(200, Fields([("x", '"complete":true,')])),
        identity=Identity(10, '"complete":true'),
        request_time=1.0,
        response_time=2.0,
        coverage=(Interval(0, 4), Interval(6, 10)),
        tags=("complete", "true"),
    )


def test_text_that_looks_like_the_mark_is_not_the_mark() -> None:
    assert not claims_complete(encode(sample()))


def test_keys_of_a_later_version_are_ignored() -> None:
    data = json.loads(encode(sample()))
    data["blocks"] = {"size": 1}
    assert decode(json.dumps(data)) == sample()


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"v": None},
        {"key": 1},
        {"status": "200"},
        {"status": True},
        {"status": -1},
        {"fields": [["a"]]},
        {"fields": "abc"},
        {"fields": [["a", 1]]},
        {"length": -1},
        {"length": 1.5},
        {"length": 9},
        {"etag": 5},
        {"requested": "soon"},
        {"requested": None},
        {"coverage": [[0, 0]]},
        {"coverage": [[4, 2]]},
        {"coverage": [[-1, 2]]},
        {"coverage": [[0, 4], [4, 6]]},
        {"coverage": [[6, 8], [0, 4]]},
        {"coverage": [[0, 11]]},
        {"coverage": None},
        {"complete": True},
        {"complete": True, "length": None, "coverage": []},
        {"tags": [1]},
        {"vary": [["a"]]},
        {"digests": 7},
    ],
)
def test_what_cannot_be_is_damage(change: dict[str, object]) -> None:
    data = json.loads(encode(sample())) | change
    with pytest.raises(ValueError):  # noqa: PT011  (damage of every kind is one to the caller)
        decode(json.dumps(data))


@pytest.mark.parametrize("text", ["", "null", "[]", "7", '"x"', "{}", "{", "[" * 100_000, "\0"])
def test_what_is_not_an_object_is_damage(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        decode(text)


@pytest.mark.parametrize("missing", sorted(json.loads(encode(sample()))))
def test_a_missing_key_is_damage(missing: str) -> None:
    data = json.loads(encode(sample()))
    del data[missing]
    with pytest.raises(ValueError):  # noqa: PT011
        decode(json.dumps(data))
