"""RFC 9111 §4.1, RFC 9110 §12.5.5: selecting a stored response."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.model import Entry, Policy
from forebay.rules.vary import select_variant, selecting_values, vary_names
from tests.rules.making import NOW, Lines, date, entry, head, request

POLICY = Policy()


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        ([], ()),
        ([("Vary", "")], ()),
        ([("Vary", "Foo, accept")], ("accept", "foo")),
        ([("Vary", "Foo"), ("vary", "foo, BAR")], ("bar", "foo")),
        ([("Vary", "*")], None),
        ([("Vary", "Foo, *")], None),
        ([("Vary", "*, Foo")], None),
        ([("Vary", ",*")], None),
        ([("Vary", "Foo"), ("Vary", "*")], None),
        ([("Vary", "Foo Bar")], None),
        ([("Vary", '"Foo"')], None),
    ],
)
def test_vary_names_fields_or_nothing_matches(
    lines: list[tuple[str, str]], names: tuple[str, ...] | None
) -> None:
    assert vary_names(head(lines)) == names


def stored(asked: Lines, vary: str, policy: Policy = POLICY, **changes: Any) -> Entry:
    names = vary_names(head({"Vary": vary})) or ()
    values = selecting_values(request(asked), names, policy)
    return entry({"Vary": vary, "Date": date(changes.pop("dated", 0))}, vary=values, **changes)


@pytest.mark.parametrize(
    ("vary", "first", "second", "same"),
    [
        ("Foo", {"Foo": "1"}, {"foo": "1"}, True),
        ("Foo", {"Foo": "1"}, {"Foo": "2"}, False),
        ("Foo", {"Foo": "a"}, {"Foo": "A"}, False),
        ("Foo", {"Foo": "1"}, {}, False),
        ("Foo", {}, {"Foo": "1"}, False),
        ("Foo", {}, {}, True),
        ("Foo", {}, {"Foo": ""}, False),
        ("Foo", {"Foo": ""}, {"Foo": " , "}, True),
        ("Foo", {}, {"Bar": "1"}, True),
        ("Foo", {"Foo": "1, 2"}, {"Foo": "1,2 "}, True),
        ("Foo", {"Foo": "1, 2"}, [("Foo", "1"), ("Foo", "2")], True),
        ("Foo", {"Foo": "1, 2"}, {"Foo": "2, 1"}, False),
        ("Foo", {"Foo": '"1, 2"'}, {"Foo": '"1,2"'}, False),
        ("Foo, Bar", {"Foo": "1", "Bar": "2"}, {"Bar": "2", "Foo": "1"}, True),
        ("Foo, Bar", {"Foo": "1", "Bar": "2"}, {"Foo": "1", "Bar": "3"}, False),
        ("Accept", {"Accept": "a/b;q=0.5, c/d"}, {"Accept": "c/d, a/b ; q=0.5"}, True),
        ("Accept", {"Accept": 'a/b;p="x y"'}, {"Accept": 'a/b;p="xy"'}, False),
        ("Accept-Language", {"Accept-Language": "en, DE"}, {"Accept-Language": "de,EN"}, True),
        ("Accept-Encoding", {"Accept-Encoding": "gzip"}, {"Accept-Encoding": "br"}, True),
        ("User-Agent, Host", {"User-Agent": "a", "Host": "a"}, {"Host": "b"}, True),
        ("Range", {"Range": "bytes=0-1"}, {}, True),
        ("Authorization", {"Authorization": "a"}, {"Authorization": "b"}, False),
        ("Authorization", {"Authorization": "a"}, {"Authorization": "a"}, True),
    ],
)
def test_a_request_selects_what_was_stored_for_its_like(
    vary: str, first: Lines, second: Lines, same: bool
) -> None:
    kept = stored(first, vary)
    assert (select_variant(request(second), [kept], POLICY) is kept) is same


def test_vary_star_is_never_selected() -> None:
    assert select_variant(request(), [entry({"Vary": "Foo, *"})], POLICY) is None


def test_a_mount_may_ignore_vary() -> None:
    policy = Policy(ignore_vary=("FOO",))
    kept = stored({"Foo": "1", "Bar": "2"}, "Foo, Bar")
    assert select_variant(request({"Foo": "9", "Bar": "2"}), [kept], policy) is kept
    assert select_variant(request({"Foo": "1", "Bar": "9"}), [kept], policy) is None
    everything = Policy(ignore_vary=("*",))
    assert select_variant(request(), [kept], everything) is kept
    star = entry({"Vary": "*"})
    assert select_variant(request(), [star], everything) is star


def test_a_name_that_was_not_recorded_is_no_match() -> None:
    kept = stored({"Foo": "1"}, "Foo", Policy(ignore_vary=("foo",)))
    assert select_variant(request({"Foo": "1"}), [kept], POLICY) is None


@pytest.mark.parametrize("name", ["Cookie", "Authorization", "X-Api-Key", "PRIVATE-TOKEN"])
def test_credentials_are_not_kept_in_the_clear(name: str) -> None:
    values = selecting_values(request({name: "secret"}), [name], POLICY)
    assert "secret" not in str(values)


def test_the_newest_by_date_of_those_that_match_is_chosen() -> None:
    old = stored({"Foo": "1"}, "Foo", dated=-50, response_time=NOW + 5, entry_id="old")
    new = stored({}, "", dated=-10, entry_id="new")
    other = stored({"Foo": "2"}, "Foo", dated=0, entry_id="other")
    for order in ([old, new, other], [other, new, old]):
        assert select_variant(request({"Foo": "1"}), order, POLICY) is new
    assert select_variant(request(), [], POLICY) is None


VALUES = st.dictionaries(
    st.sampled_from(["foo", "accept", "bar", "accept-language"]),
    st.text("ab,; =", max_size=6),
    max_size=4,
)


@given(VALUES, st.lists(st.sampled_from(["foo", "accept", "bar", "Accept-Language"])), st.randoms())
def test_a_request_always_selects_its_own_response(
    asked: dict[str, str], names: list[str], random: Any
) -> None:
    kept = stored(asked, ", ".join(names))
    lines = [(name.title(), f" {value} ") for name, value in asked.items()]
    random.shuffle(lines)
    assert select_variant(request(lines), [kept], POLICY) is kept


@given(VALUES, VALUES)
def test_requests_that_differ_in_a_plain_field_select_nothing_of_each_other(
    one: dict[str, str], other: dict[str, str]
) -> None:
    kept = stored({**one, "Plain": "1"}, "Plain, Foo")
    assert select_variant(request({**other, "Plain": "2"}), [kept], POLICY) is None
