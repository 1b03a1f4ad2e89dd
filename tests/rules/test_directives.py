"""RFC 9111 §5.2 and §4.2.1, RFC 9213 §2: cache directives however they are spelled."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.model import Policy
from forebay.rules.directives import caching_fields, parse_cache_control, parse_targeted
from forebay.rules.fields import DELTA_MAX_SECONDS
from tests.rules.making import fields


@pytest.mark.parametrize(
    ("lines", "seconds"),
    [
        (["max-age=60"], 60),
        (["MaX-aGe=60"], 60),
        (['max-age="60"'], 60),
        (["max-age=0060"], 60),
        (["max-age=99999999999999999999"], DELTA_MAX_SECONDS),
        (["public", "max-age=60"], 60),
        (["max-age=60;x"], 0),
        (["max-age=-1"], 0),
        (["max-age=1.5"], 0),
        (["max-age='60'"], 0),
        (["max-age="], 0),
        (["max-age"], 0),
        (["max-age =60"], 0),
        (["max-age= 60"], 0),
        (['max-age="60'], 0),
        (["max-age=60, max-age=60"], 60),
        (["max-age=60, max-age=5"], 5),
        (["max-age=5", "max-age=60"], 5),
        (["max-age=60, max-age=x"], 0),
        (["public max-age=60"], 0),
        (['x="max-age=60"'], None),
        (['x="a, max-age=60, b"'], None),
        (["x-max-age=60"], None),
        (["max-age-x=60"], None),
        ([], None),
        ([",, ,"], None),
    ],
)
def test_a_lifetime_that_is_unclear_is_the_least_it_can_be(
    lines: list[str], seconds: int | None
) -> None:
    assert parse_cache_control(lines).shortest_seconds("max-age") == seconds


@pytest.mark.parametrize(
    "value",
    [
        "no-store",
        "No-Store",
        "no-store=x",
        'no-store="x"',
        "no-store=",
        "foo, no-store ,bar",
        "no-cache no-store",
        "no-store; max-age=60",
        'x="never closed, no-store',
    ],
)
def test_a_restriction_counts_in_any_spelling(value: str) -> None:
    assert "no-store" in parse_cache_control([value])


@pytest.mark.parametrize("value", ["public=1", 'public=""', "public max-age=1", "x-public"])
def test_a_permission_counts_only_well_written(value: str) -> None:
    assert not parse_cache_control([value]).permits("public")


@pytest.mark.parametrize(
    ("value", "is_whole", "names"),
    [
        ("no-cache", True, set()),
        ('no-cache="X-One, x-two"', False, {"x-one", "x-two"}),
        ("no-cache=x-one", False, {"x-one"}),
        ('no-cache=""', True, set()),
        ('no-cache=","', True, set()),
        ('no-cache="x one"', True, set()),
        ('no-cache="x-one", no-cache', True, set()),
        ('no-cache="x-one", no-cache="x-two"', False, {"x-one", "x-two"}),
        ('no-cache="Content-Encoding"', True, set()),
        ('no-cache="x-one', True, set()),
        ("max-age=1", False, set()),
    ],
)
def test_no_cache_is_limited_only_by_readable_field_names(
    value: str, is_whole: bool, names: set[str]
) -> None:
    directives = parse_cache_control([value])
    assert directives.is_whole("no-cache") is is_whole
    assert directives.field_names("no-cache") == names


DIRECTIVES = st.sampled_from(
    [
        "max-age=60",
        "max-age=5",
        "max-age=x",
        "s-maxage=9",
        "no-store",
        "no-cache",
        "public",
        'no-cache="set-cookie"',
        'private="x-a, x-b"',
        "immutable",
        'ext="a, b"',
        "must-revalidate",
    ]
)


def meaning(lines: list[str]) -> object:
    parsed = parse_cache_control(lines)
    return {
        name: (
            parsed.shortest_seconds(name),
            parsed.permits(name),
            parsed.is_whole(name),
            parsed.field_names(name),
        )
        for name in parsed.arguments
    }


@given(st.lists(DIRECTIVES, max_size=6), st.randoms(use_true_random=False))
def test_order_case_and_lines_of_directives_mean_nothing(given_: list[str], random: object) -> None:
    shuffled = list(given_)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    expected = meaning([", ".join(given_)])
    assert meaning([" ,".join(shuffled)]) == expected
    assert meaning(shuffled) == expected
    assert meaning([d.upper() for d in shuffled]) == expected


@given(st.lists(st.text(st.characters(max_codepoint=255), max_size=300), max_size=3))
def test_any_cache_control_can_be_read(lines: list[str]) -> None:
    parsed = parse_cache_control(lines)
    assert all(name == name.lower() for name in parsed.arguments)
    assert (parsed.shortest_seconds("max-age") or 0) >= 0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("max-age=60", 60),
        ("max-age=60;ext=1", 60),
        ("no-store, max-age=60", 60),
        ('max-age="60"', 0),
        ("max-age=1.5", 0),
        ("max-age=-1", 0),
        ("max-age", 0),
        ("max-age=60, max-age=5", 5),
        ("max-age=5, max-age=60", 60),
    ],
)
def test_a_targeted_value_of_the_wrong_type_is_not_coerced(value: str, seconds: int) -> None:
    directives = parse_targeted([value])
    assert directives is not None
    assert directives.shortest_seconds("max-age") == seconds


@pytest.mark.parametrize(
    "value",
    [
        "",
        "  ",
        "max-age=60,",
        "Max-Age=60",
        "max-age=",
        "max-age=60 x",
        "no-store, &",
        "a=ÿ",
        "max-age=99999999999999999999",
        "max-age=60;",
        "=1",
        "Ā=1",
    ],
)
def test_a_malformed_targeted_field_is_ignored_as_a_whole(value: str) -> None:
    assert parse_targeted([value]) is None


def test_a_targeted_field_reads_lists_of_names_and_denials() -> None:
    directives = parse_targeted(['private="a, b"', "no-store=?0, no-cache=x"])
    assert directives is not None
    assert directives.field_names("private") == {"a", "b"}
    assert directives.field_names("no-cache") == {"x"}
    assert "no-store" not in directives


def test_the_most_specific_valid_targeted_field_wins() -> None:
    lines = {
        "Cache-Control": "no-store",
        "CDN-Cache-Control": "max-age=60",
        "Forebay-Cache-Control": "max-age=7",
        "Other-Cache-Control": "max-age=1",
    }
    caching = caching_fields(fields(lines), Policy())
    assert caching.targeted
    assert caching.directives.shortest_seconds("max-age") == 7
    lines["Forebay-Cache-Control"] = "&"
    assert caching_fields(fields(lines), Policy()).directives.shortest_seconds("max-age") == 60
    lines["CDN-Cache-Control"] = ""
    assert "no-store" in caching_fields(fields(lines), Policy()).directives


def test_targeted_fields_are_obeyed_by_a_setting() -> None:
    lines = {"Cache-Control": "max-age=5", "CDN-Cache-Control": "max-age=60"}
    caching = caching_fields(fields(lines), Policy(obey_targeted=False))
    assert not caching.targeted
    assert caching.directives.shortest_seconds("max-age") == 5


def test_a_mount_may_ignore_them_all() -> None:
    lines = {"Cache-Control": "no-store", "CDN-Cache-Control": "no-store"}
    caching = caching_fields(fields(lines), Policy(ignore_cache_control=True))
    assert caching.ignored
    assert not caching.directives
