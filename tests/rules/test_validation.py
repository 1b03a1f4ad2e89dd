"""RFC 9111 §3.2, §4.3, §4.4; RFC 9110 §8.8.1: validating, updating, invalidating."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.model import Identity
from forebay.rules.lifetimes import current_age
from forebay.rules.validation import (
    conditional_fields,
    freshens,
    head_updates,
    identity_of,
    invalidated_urls,
    refreshed,
    same_identity,
)
from tests.rules.making import NOW, Lines, date, entry, fields, head

OLD, MODIFIED = date(-2000), date(-1000)


@pytest.mark.parametrize(
    ("lines", "status", "conditions"),
    [
        ({}, 200, {}),
        ({"ETag": '"x"'}, 200, {"If-None-Match": '"x"'}),
        ({"ETag": 'W/"x"'}, 200, {"If-None-Match": 'W/"x"'}),
        ({"ETag": '"\xe9"'}, 200, {"If-None-Match": '"\xe9"'}),
        ({"ETag": "bare"}, 200, {"If-None-Match": "bare"}),
        ({"ETag": 'w/"x"'}, 200, {}),
        ([("ETag", '"x"'), ("ETag", '"y"')], 200, {}),
        ({"Last-Modified": OLD}, 200, {"If-Modified-Since": OLD}),
        ({"Last-Modified": "bad"}, 200, {}),
        (
            {"Last-Modified": OLD, "ETag": '"x"'},
            200,
            {"If-None-Match": '"x"', "If-Modified-Since": OLD},
        ),
        ({"ETag": '"x"'}, 404, {}),
        ({"ETag": '"x"'}, 301, {}),
    ],
)
def test_a_validation_names_what_is_stored(
    lines: Lines, status: int, conditions: dict[str, str]
) -> None:
    assert conditional_fields(entry(lines, status)) == fields(conditions)


@pytest.mark.parametrize(
    ("stored", "news", "about_it"),
    [  # §4.3.4
        ({"ETag": '"x"'}, {"ETag": '"x"'}, True),
        ({"ETag": '"x"'}, {"ETag": '"y"'}, False),
        ({"ETag": 'W/"x"'}, {"ETag": 'W/"x"'}, True),
        ({"ETag": 'W/"x"'}, {"ETag": 'W/"y"'}, False),
        ({"ETag": '"x"'}, {"ETag": 'W/"x"'}, True),
        ({"ETag": 'W/"x"'}, {"ETag": '"x"'}, False),
        ({"ETag": '"x"'}, {}, True),
        ({"ETag": '"x"', "Last-Modified": OLD}, {"Last-Modified": OLD}, True),
        ({"ETag": '"x"', "Last-Modified": OLD}, {"Last-Modified": MODIFIED}, False),
        ({"ETag": '"x"', "Last-Modified": OLD}, {"ETag": '"x"', "Last-Modified": MODIFIED}, True),
        ({"Last-Modified": OLD}, {"ETag": '"x"', "Last-Modified": OLD}, True),
        ({"Last-Modified": OLD}, {"ETag": '"x"'}, False),
        ({"Last-Modified": OLD}, {"ETag": 'W/"x"'}, True),
        ({"Last-Modified": OLD}, {}, True),
        ({}, {}, True),
        ({}, {"ETag": '"x"'}, False),
    ],
)
def test_a_304_freshens_what_its_validators_name(
    stored: Lines, news: Lines, about_it: bool
) -> None:
    assert freshens(entry(stored), head(news, 304)) is about_it


STORED: Lines = {
    "ETag": '"x"',
    "Date": date(-500),
    "Age": "400",
    "Content-Length": "10",
    "Content-Type": "a/b",
    "Content-Encoding": "gzip",
    "Cache-Control": "max-age=5",
    "Expires": OLD,
    "X-Old": "1",
    "X-Both": "old",
}


def updated(news: Lines, stored: Lines = STORED) -> dict[str, str]:
    changed = refreshed(entry(stored), head(news, 304), NOW + 90, NOW + 100)
    return dict(changed.head.fields)


def test_a_304_replaces_and_adds_fields() -> None:
    after = updated({"X-Both": "new", "X-New": "1", "Cache-Control": "max-age=9", "Expires": "0"})
    assert after["x-both"] == "new"
    assert after["x-new"] == after["x-old"] == "1"
    assert after["cache-control"] == "max-age=9"
    assert after["expires"] == "0"
    assert after["content-type"] == "a/b"


@pytest.mark.parametrize("name", ["Content-Length", "Content-Encoding", "Content-Range"])
def test_a_304_never_takes_over_what_the_bytes_depend_on(name: str) -> None:
    lines = dict(STORED) | {"Content-Range": "bytes 0-1/2"}
    before = dict(fields(lines))
    assert updated({name: "3"}, lines)[name.lower()] == before[name.lower()]
    assert name.lower() not in updated({name: "3"}, {"ETag": '"x"'})


def test_a_304_may_change_the_content_type() -> None:
    assert updated({"Content-Type": "c/d"})["content-type"] == "c/d"


def test_a_304_leaves_out_what_is_never_stored() -> None:
    news = {"Connection": "X-Hop", "X-Hop": "1", "Set-Cookie": "a=b", "Transfer-Encoding": "x"}
    news |= {"Content-Digest": "d", "Warning": "110", "Alt-Svc": "x"}
    assert not set(updated(news)) & {name.lower() for name in news}


def test_a_304_may_name_stored_fields_that_are_to_go() -> None:
    after = updated({"Cache-Control": 'no-cache="X-Old, X-New"', "X-New": "1"})
    assert not {"x-old", "x-new"} & set(after)
    assert after["x-both"] == "old"


def test_a_304_replaces_every_line_of_a_field() -> None:
    stored = [("ETag", '"x"'), ("X-A", "1"), ("X-A", "2")]
    changed = refreshed(entry(stored), head([("X-A", "3"), ("X-A", "4")], 304), NOW, NOW)
    assert changed.head.fields.get_all("x-a") == ("3", "4")


def test_age_and_date_begin_anew_with_a_304() -> None:
    assert updated({})["date"] == date(100)
    assert "age" not in updated({})
    assert updated({"Date": date(50), "Age": "7"})["date"] == date(50)
    changed = refreshed(entry(STORED), head({"Date": date(98)}, 304), NOW + 90, NOW + 100)
    assert current_age(changed, NOW + 100) == 10


def test_a_strong_tag_is_not_weakened_by_its_own_weak_spelling() -> None:
    assert updated({"ETag": 'W/"x"'})["etag"] == '"x"'
    assert updated({"ETag": '"x"'}, {"ETag": '"x"'})["etag"] == '"x"'


def test_a_304_changes_nothing_but_head_and_times() -> None:
    before = entry(STORED, vary=(("a", "b"),), identity=Identity(10, '"x"', OLD))
    after = refreshed(before, head({"Last-Modified": MODIFIED}, 304), NOW + 90, NOW + 100)
    assert (after.request_time, after.response_time) == (NOW + 90, NOW + 100)
    assert (after.identity, after.vary, after.coverage) == (
        before.identity,
        before.vary,
        before.coverage,
    )
    assert after.head.status == 200


@given(st.lists(st.sampled_from([("X-A", "1"), ("ETag", '"x"'), ("Age", "3"), ("Date", OLD)])))
def test_refreshing_twice_with_the_same_304_is_refreshing_once(
    lines: list[tuple[str, str]],
) -> None:
    news = head(lines, 304)
    once = refreshed(entry(STORED), news, NOW, NOW)
    assert dict(refreshed(once, news, NOW, NOW).head.fields) == dict(once.head.fields)


@pytest.mark.parametrize(
    ("news", "status", "kept"),
    [  # §4.3.5
        ({}, 200, True),
        ({"ETag": '"x"'}, 200, True),
        ({"ETag": '"y"'}, 200, False),
        ({"ETag": 'W/"x"'}, 200, False),
        ({"Last-Modified": OLD}, 200, True),
        ({"Last-Modified": MODIFIED}, 200, False),
        ({"Content-Length": "10"}, 200, True),
        ({"Content-Length": "11"}, 200, False),
        ({"Content-Length": "x"}, 200, False),
        ({"ETag": '"x"', "Content-Length": "11"}, 200, False),
        ({"ETag": '"y"'}, 404, True),
        ({"ETag": '"y"'}, 304, True),
    ],
)
def test_a_head_updates_what_it_agrees_with(news: Lines, status: int, kept: bool) -> None:
    stored = entry({"ETag": '"x"', "Last-Modified": OLD})
    lines = dict(fields(news)) | {"x-new": "1"}
    after = head_updates(stored, head(lines, status), NOW + 1, NOW + 2)
    assert (after is not None) is kept
    if after is not None:
        assert ("x-new" in after.head.fields) is (status == 200)


def test_a_head_s_length_says_nothing_of_an_entry_without_one() -> None:
    stored = entry({"ETag": '"x"'}, identity=Identity())
    assert head_updates(stored, head({"Content-Length": "7"}), NOW, NOW) is not None


@pytest.mark.parametrize(
    ("lines", "status", "complete", "identity"),
    [
        ({}, 200, None, Identity()),
        ({"Content-Length": "5"}, 200, None, Identity(5)),
        ({"Content-Length": "5"}, 200, 9, Identity(9)),
        ({"ETag": '"x"', "Last-Modified": OLD}, 200, None, Identity(None, '"x"', OLD)),
        ({"ETag": 'W/"x"'}, 200, None, Identity()),
        ({"ETag": "x"}, 200, None, Identity()),
        ({"Last-Modified": "bad"}, 200, None, Identity()),
        ({"Content-Length": "3", "Content-Range": "bytes 2-4/10"}, 206, None, Identity(10)),
        ({"Content-Length": "3", "Content-Range": "bytes 2-4/*"}, 206, None, Identity()),
        ({"Content-Length": "3"}, 206, None, Identity()),
        ([("Content-Length", "3"), ("Content-Length", "4")], 200, None, Identity()),
    ],
)
def test_identity_is_what_can_be_proved(
    lines: Lines, status: int, complete: int | None, identity: Identity
) -> None:
    assert identity_of(head(lines, status), complete_length=complete) == identity


ALL = frozenset({"etag", "last-modified", "length"})


@pytest.mark.parametrize(
    ("a", "b", "which", "same"),
    [
        (Identity(5, '"x"', OLD), Identity(5, '"x"', OLD), ALL, True),
        (Identity(5, '"x"', OLD), Identity(5, '"y"', OLD), ALL, False),
        (Identity(5, '"x"', OLD), Identity(6, '"x"', OLD), ALL, False),
        (Identity(5, '"x"', OLD), Identity(5, '"x"', MODIFIED), ALL, False),
        (Identity(5, '"x"'), Identity(None, '"x"', OLD), ALL, True),
        (Identity(5, '"x"'), Identity(5, None, OLD), ALL, False),
        (Identity(5), Identity(5), ALL, False),
        (Identity(), Identity(), ALL, False),
        (Identity(5), Identity(5), frozenset({"length"}), True),
        (Identity(5, '"x"', OLD), Identity(5, '"y"', OLD), ALL - {"etag"}, True),
        (Identity(5, '"x"', OLD), Identity(5, '"y"'), ALL - {"etag"}, False),
        (Identity(5, '"x"'), Identity(5, '"x"'), frozenset(), False),
    ],
)
def test_two_responses_are_one_only_on_agreeing_evidence(
    a: Identity, b: Identity, which: frozenset[str], same: bool
) -> None:
    assert same_identity(a, b, which) is same_identity(b, a, which) is same


TARGET = "http://up.example/dir/f?q"


@pytest.mark.parametrize(
    ("method", "status", "lines", "urls"),
    [
        ("GET", 200, {"Location": "/x"}, ()),
        ("HEAD", 200, {}, ()),
        ("OPTIONS", 200, {}, ()),
        ("POST", 200, {}, (TARGET,)),
        ("PUT", 201, {}, (TARGET,)),
        ("DELETE", 204, {}, (TARGET,)),
        ("M-SEARCH", 200, {}, (TARGET,)),
        ("get", 200, {}, (TARGET,)),
        ("POST", 303, {"Location": "/x"}, (TARGET, "http://up.example/x")),
        ("POST", 404, {"Location": "/x"}, ()),
        ("POST", 500, {}, ()),
        ("POST", 100, {}, ()),
        ("POST", 200, {"Content-Location": "g"}, (TARGET, "http://up.example/dir/g")),
        ("POST", 200, {"Location": "#frag"}, (TARGET,)),
        ("POST", 200, {"Location": "http://UP.example:80/x"}, (TARGET, "http://UP.example:80/x")),
        ("POST", 200, {"Location": "https://up.example/x"}, (TARGET,)),
        ("POST", 200, {"Location": "http://up.example:81/x"}, (TARGET,)),
        ("POST", 200, {"Location": "//other.example/x"}, (TARGET,)),
        ("POST", 200, {"Location": "http://up.example:bad/x"}, (TARGET,)),
        ("POST", 200, {"Location": "http://[bad/x"}, (TARGET,)),
        ("POST", 200, {"Location": "mailto:a@up.example"}, (TARGET,)),
        ("POST", 200, [("Location", "/x"), ("Location", "/y")], (TARGET,)),
        (
            "POST",
            200,
            {"Location": "/x", "Content-Location": "/x"},
            (TARGET, "http://up.example/x"),
        ),
    ],
)
def test_an_unsafe_request_invalidates_its_target_and_what_it_names(
    method: str, status: int, lines: Lines, urls: tuple[str, ...]
) -> None:
    assert invalidated_urls(method, TARGET, head(lines, status)) == urls
