"""RFC 9110 §13.1, §13.2.2, §15.4.5; RFC 9111 §4.3.2: preconditions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.rules.conditions import (
    NotModified,
    Outcome,
    PreconditionFailed,
    Proceed,
    evaluate,
    not_modified_fields,
)
from tests.rules.making import Lines, date, fields, head, request

GO, SAME, FAILED = Proceed(), NotModified(), PreconditionFailed()
OLD, MODIFIED, NEW = date(-2000), date(-1000), date()
STORED: Lines = {"ETag": '"x"', "Last-Modified": MODIFIED, "Date": NEW}
WEAK: Lines = {"ETag": 'W/"x"', "Last-Modified": MODIFIED, "Date": NEW}
BARE: Lines = {"Date": NEW}


@pytest.mark.parametrize(
    ("asked", "stored", "outcome"),
    [
        ({}, STORED, GO),
        # §13.1.1 If-Match
        ({"If-Match": '"x"'}, STORED, GO),
        ({"If-Match": '"y", "x"'}, STORED, GO),
        ([("If-Match", '"y"'), ("If-Match", '"x"')], STORED, GO),
        ({"If-Match": '"y"'}, STORED, FAILED),
        ({"If-Match": 'W/"x"'}, STORED, FAILED),
        ({"If-Match": 'W/"x"'}, WEAK, FAILED),
        ({"If-Match": '"x"'}, BARE, FAILED),
        ({"If-Match": "*"}, STORED, GO),
        ({"If-Match": "*"}, BARE, GO),
        ({"If-Match": ""}, STORED, FAILED),
        # §13.1.4 If-Unmodified-Since
        ({"If-Unmodified-Since": MODIFIED}, STORED, GO),
        ({"If-Unmodified-Since": NEW}, STORED, GO),
        ({"If-Unmodified-Since": OLD}, STORED, FAILED),
        ({"If-Unmodified-Since": OLD}, BARE, GO),
        ({"If-Unmodified-Since": "bad"}, STORED, GO),
        ([("If-Unmodified-Since", OLD), ("If-Unmodified-Since", OLD)], STORED, GO),
        ({"If-Match": '"x"', "If-Unmodified-Since": OLD}, STORED, GO),
        ({"If-Match": '"y"', "If-Unmodified-Since": NEW}, STORED, FAILED),
        # §13.1.2 If-None-Match
        ({"If-None-Match": '"x"'}, STORED, SAME),
        ({"If-None-Match": 'W/"x"'}, STORED, SAME),
        ({"If-None-Match": '"x"'}, WEAK, SAME),
        ({"If-None-Match": '"y", W/"x"'}, STORED, SAME),
        ({"If-None-Match": '"y"'}, STORED, GO),
        ({"If-None-Match": "x"}, STORED, GO),
        ({"If-None-Match": "x"}, {"ETag": "x"}, SAME),
        ({"If-None-Match": '"\xe9"'}, {"ETag": '"\xe9"'}, SAME),
        ({"If-None-Match": "*"}, STORED, SAME),
        ({"If-None-Match": "*"}, BARE, SAME),
        ({"If-None-Match": '"x"'}, BARE, GO),
        ({"If-None-Match": ""}, STORED, GO),
        # §13.1.3 If-Modified-Since
        ({"If-Modified-Since": MODIFIED}, STORED, SAME),
        ({"If-Modified-Since": NEW}, STORED, SAME),
        ({"If-Modified-Since": OLD}, STORED, GO),
        ({"If-Modified-Since": "bad"}, STORED, GO),
        ({"If-Modified-Since": MODIFIED.replace("GMT", "UTC")}, STORED, GO),
        ([("If-Modified-Since", NEW), ("If-Modified-Since", NEW)], STORED, GO),
        # RFC 9111 §4.3.2: without Last-Modified it is Date
        ({"If-Modified-Since": NEW}, BARE, SAME),
        ({"If-Modified-Since": MODIFIED}, BARE, GO),
        ({"If-Modified-Since": NEW}, {}, GO),
        ({"If-Modified-Since": NEW}, {"Last-Modified": "bad", "Date": OLD}, GO),
        # §13.2.2 precedence
        ({"If-None-Match": '"y"', "If-Modified-Since": NEW}, STORED, GO),
        ({"If-None-Match": '"x"', "If-Modified-Since": OLD}, STORED, SAME),
        ({"If-None-Match": "", "If-Modified-Since": NEW}, STORED, GO),
        ({"If-Match": '"x"', "If-None-Match": '"x"'}, STORED, SAME),
        ({"If-Match": '"y"', "If-None-Match": '"x"'}, STORED, FAILED),
        ({"If-Unmodified-Since": OLD, "If-Modified-Since": NEW}, STORED, FAILED),
        ({"If-Range": '"y"'}, STORED, GO),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_conditions_in_their_order(
    method: str, asked: Lines, stored: Lines, outcome: Outcome
) -> None:
    assert evaluate(request(asked, method), head(stored)) == outcome


@pytest.mark.parametrize("status", [300, 301, 404, 412, 500])
def test_conditions_count_only_over_a_success(status: int) -> None:
    for asked in ({"If-None-Match": "*"}, {"If-Match": '"y"'}):
        assert evaluate(request(asked), head(STORED, status)) == GO


@pytest.mark.parametrize("status", [200, 203, 204, 299])
def test_conditions_count_over_every_success(status: int) -> None:
    assert evaluate(request({"If-None-Match": "*"}), head(STORED, status)) == SAME


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
def test_conditions_of_other_methods_are_for_upstream(method: str) -> None:
    assert evaluate(request({"If-Match": '"y"'}, method), head(STORED)) == GO


CONDITIONS = st.dictionaries(
    st.sampled_from(["If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"]),
    st.sampled_from(['"x"', '"y"', 'W/"x"', "*", OLD, NEW, "bad", '"y" , "x"']),
)


@given(CONDITIONS, st.randoms(use_true_random=False))
def test_the_order_and_case_of_fields_mean_nothing(asked: dict[str, str], random: Any) -> None:
    expected = evaluate(request(asked), head(STORED))
    lines = [(name.upper(), value) for name, value in asked.items()]
    random.shuffle(lines)
    assert evaluate(request(lines), head(STORED)) == expected


def test_a_304_carries_what_updates_a_cache_and_no_metadata_of_the_body() -> None:
    whole = {"Cache-Control": "a", "Content-Location": "/", "Date": NEW, "ETag": '"x"'}
    whole |= {"Expires": NEW, "Vary": "a", "Age": "5", "Cache-Status": "x", "X-Repo": "y"}
    gone = {"Content-Length": "5", "Content-Type": "a", "Content-Encoding": "b"}
    gone |= {"Content-Range": "c", "Content-Language": "d", "Last-Modified": MODIFIED}
    assert not_modified_fields(fields(whole | gone)) == fields(whole)


def test_a_304_without_a_tag_keeps_last_modified() -> None:
    assert "last-modified" in not_modified_fields(fields({"Last-Modified": MODIFIED}))
