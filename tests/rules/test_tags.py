"""Tags of responses, by which they can be purged."""

from __future__ import annotations

from forebay.model import Fields, Head
from forebay.rules.tags import MAX_TAGS, surrogate_keys


def tags(*fields: tuple[str, str]) -> tuple[str, ...]:
    return surrogate_keys(Head(200, Fields(fields)))


def test_both_spellings_of_tags_are_read_and_each_tag_counts_once() -> None:
    assert tags(
        ("surrogate-key", "a b  c"), ("surrogate-key", "d"), ("cache-tag", "a, e f ,g")
    ) == ("a", "b", "c", "d", "e f", "g")


def test_a_response_without_tags_has_none() -> None:
    assert tags(("etag", '"x"')) == ()


def test_what_an_upstream_can_make_us_remember_is_bounded() -> None:
    assert len(tags(("surrogate-key", " ".join(str(n) for n in range(1000))))) == MAX_TAGS
    assert tags(("surrogate-key", "x" * 10_000)) == ()
