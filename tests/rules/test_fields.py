"""RFC 9110 §5.6, §7.6.1, §8.6, §8.8.3; RFC 9111 §1.2.2."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.rules.fields import (
    DELTA_MAX_SECONDS,
    EntityTag,
    connection_specific,
    content_length,
    entity_tag_of,
    parse_delta_seconds,
    parse_digits,
    parse_entity_tag,
    parse_entity_tags,
    split_list,
    unquote,
)
from tests.rules.making import fields

TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=60)


@pytest.mark.parametrize(
    ("value", "elements"),
    [
        ("", ()),
        (" , ,\t,", ()),
        ("a", ("a",)),
        ("a,b , c", ("a", "b", "c")),
        ('a="x, y", b', ('a="x, y"', "b")),
        (r'a="x\", y", b', (r'a="x\", y"', "b")),
        ('a="b"c, d', ('a="b"c', "d")),
        ('a="never closed, b, c', ('a="never closed', "b", "c")),
        (r'a="x\", b', (r'a="x\"', "b")),
    ],
)
def test_a_comma_separates_only_outside_closed_quotes(
    value: str, elements: tuple[str, ...]
) -> None:
    assert split_list(value) == elements


@given(TEXT)
def test_no_element_of_a_list_is_empty_or_padded(value: str) -> None:
    assert all(element and element == element.strip(" \t") for element in split_list(value))


@given(st.lists(st.from_regex(r"[a-z]{1,5}(=\"[ -!#-\[\]-~]{0,6}\")?", fullmatch=True)))
def test_a_printed_list_is_read_back(elements: list[str]) -> None:
    assert split_list(" ,".join(elements)) == tuple(elements)


def test_a_list_of_escaped_quotes_takes_linear_work() -> None:
    assert len(split_list('"\\",' * 20_000)) >= 1


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("abc", "abc"),
        ('"a b"', "a b"),
        (r'"a\"b\\"', 'a"b\\'),
        ('""', ""),
        ("", None),
        ("a b", None),
        ('"a', None),
        ('"a"b', None),
        ("'a'b c", None),
    ],
)
def test_an_argument_is_a_token_or_a_quoted_string(value: str, said: str | None) -> None:
    assert unquote(value) == said


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("3600", 3600),
        ("003600", 3600),
        ("2147483648", DELTA_MAX_SECONDS),
        ("2147483649", DELTA_MAX_SECONDS),
        ("9" * 6000, DELTA_MAX_SECONDS),
        ("0" * 6000 + "7", 7),
        ("", None),
        ("-1", None),
        ("+1", None),
        ("1.0", None),
        ("1e3", None),
        (" 1", None),
        ("1_0", None),
        ("١", None),
        ("²", None),
    ],
)
def test_delta_seconds_are_ascii_digits_with_a_cap(value: str, seconds: int | None) -> None:
    assert parse_delta_seconds(value) == seconds


@given(st.integers(0, 10**30), st.integers(1, 2**63))
def test_a_number_is_itself_up_to_the_limit(number: int, limit: int) -> None:
    assert parse_digits(str(number), limit) == min(number, limit)


@pytest.mark.parametrize(
    ("lines", "length"),
    [
        ([], None),
        ([("Content-Length", "5")], 5),
        ([("Content-Length", "5, 5")], 5),
        ([("Content-Length", "5"), ("Content-Length", "5")], 5),
        ([("Content-Length", "5"), ("Content-Length", "6")], None),
        ([("Content-Length", "5, x")], None),
        ([("Content-Length", "-5")], None),
        ([("Content-Length", "")], None),
    ],
)
def test_a_content_length_in_doubt_is_none(
    lines: list[tuple[str, str]], length: int | None
) -> None:
    assert content_length(fields(lines)) == length


def test_connection_names_fields_in_any_case_on_any_line() -> None:
    names = connection_specific(
        fields([("Connection", "close, X-One"), ("connection", "x-two,,X-THREE")])
    )
    assert {"x-one", "x-two", "x-three", "connection", "transfer-encoding", "te"} <= names


def test_connection_cannot_take_away_what_governs_caching() -> None:
    names = connection_specific(fields({"Connection": "Cache-Control, Vary, Content-Encoding"}))
    assert not names & {"cache-control", "vary", "content-encoding"}


@pytest.mark.parametrize(
    ("value", "tag"),
    [
        ('"x"', EntityTag(False, '"x"')),
        ('W/"x"', EntityTag(True, '"x"')),
        ('""', EntityTag(False, '""')),
        (' "x"\t', EntityTag(False, '"x"')),
        ('"a,b\\"', EntityTag(False, '"a,b\\"')),
        ('"\xe9\xff"', EntityTag(False, '"\xe9\xff"')),
        ("x", EntityTag(False, "x")),
        ('w/"x"', None),
        ('W/ "x"', None),
        ('"x', None),
        ('"a b"', None),
        ('"x""y"', None),
        ("*", None),
        ("", None),
    ],
)
def test_an_entity_tag_is_read_octet_for_octet(value: str, tag: EntityTag | None) -> None:
    assert parse_entity_tag(value) == tag
    if tag is not None:
        assert str(tag) == value.strip(" \t")


@pytest.mark.parametrize(
    ("one", "other", "strongly", "weakly"),
    [  # RFC 9110 §8.8.3.2, its table, then what servers send without quotes
        ('W/"1"', 'W/"1"', False, True),
        ('W/"1"', 'W/"2"', False, False),
        ('W/"1"', '"1"', False, True),
        ('"1"', '"1"', True, True),
        ('"1"', '"2"', False, False),
        ('"a"', '"A"', False, False),
        ("1", "1", False, True),
        ("1", '"1"', False, False),
    ],
)
def test_entity_tags_compare_strongly_and_weakly(
    one: str, other: str, strongly: bool, weakly: bool
) -> None:
    a, b = parse_entity_tag(one), parse_entity_tag(other)
    assert a is not None
    assert b is not None
    assert a.matches_strongly(b) is b.matches_strongly(a) is strongly
    assert a.matches_weakly(b) is b.matches_weakly(a) is weakly


@pytest.mark.parametrize(
    ("values", "tags"),
    [
        (["*"], "*"),
        ([" * "], "*"),
        (['*, "x"'], ('"x"',)),
        ([], ()),
        ([""], ()),
        (['"x"'], ('"x"',)),
        (['"a,b", W/"c" ,, "d"'], ('"a,b"', 'W/"c"', '"d"')),
        (['"a"', 'W/"b"'], ('"a"', 'W/"b"')),
        (["abc, def"], ("abc", "def")),
        (['w/"x", "y"'], ('"y"',)),
        (['foo"x", "y"'], ('"y"',)),
        (['"x" "z", "y"'], ('"y"',)),
    ],
)
def test_a_list_of_tags_passes_over_what_is_none(
    values: list[str], tags: str | tuple[str, ...]
) -> None:
    parsed = parse_entity_tags(values)
    assert (parsed if parsed == "*" else tuple(map(str, parsed))) == tags


@given(st.lists(TEXT, max_size=4))
def test_any_list_of_tags_can_be_read(values: list[str]) -> None:
    parsed = parse_entity_tags(values)
    assert parsed == "*" or isinstance(parsed, tuple)


ENTITY_TAGS = st.builds(
    EntityTag,
    st.booleans(),
    st.text(
        st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters='"\x7f'),
        max_size=8,
    ).map(lambda opaque: f'"{opaque}"'),
)


@given(st.lists(ENTITY_TAGS, max_size=5))
def test_printed_tags_are_read_back(tags: list[EntityTag]) -> None:
    assert parse_entity_tags([", ".join(map(str, tags))]) == tuple(tags)


def test_a_doubled_etag_is_none() -> None:
    assert entity_tag_of(fields([("ETag", '"a"'), ("ETag", '"b"')])) is None
