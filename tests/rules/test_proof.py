"""What an answer to a range request is worth: everything that cannot be proved is refused."""

from __future__ import annotations

import pytest

from forebay.model import Fields, Head, Interval
from forebay.rules.proof import (
    EVERY_PART,
    MAX_RETRY_AFTER_SECONDS,
    Busy,
    Changed,
    Proven,
    Unusable,
    Verdict,
    brings_what_was_asked,
    joining_validator,
    may_join,
    prove,
    retry_after_seconds,
)
from forebay.rules.validation import identity_of
from tests.rules.making import NOW, Lines, date, head

OLD = date(-3600)
OURS = {"content-length": "1000", "etag": '"a"', "last-modified": OLD, "date": date()}
ASKED = Interval(100, 300)
PART = {
    "content-range": "bytes 100-299/1000",
    "content-length": "200",
    "etag": '"a"',
    "last-modified": OLD,
}


def judged(
    answer: Lines, status: int = 206, ours: Lines | None = None, which: frozenset[str] = EVERY_PART
) -> Verdict:
    own = head(OURS if ours is None else ours)
    return prove(head(answer, status), ASKED, own, identity_of(own), which, NOW)


def part(**changes: str | None) -> dict[str, str]:
    """The honest part with some fields changed, or left out."""
    lines = {**PART, **{name.replace("_", "-"): value for name, value in changes.items()}}
    return {name: value for name, value in lines.items() if value is not None}


@pytest.mark.parametrize(
    ("answer", "interval"),
    [
        (part(), ASKED),
        (part(content_length=None), ASKED),
        (part(last_modified=None), ASKED),
        (part(etag=None), ASKED),
        (part(content_range="bytes 100-149/1000", content_length="50"), Interval(100, 150)),
        (part(content_range="BYTES 100-299/1000"), ASKED),
    ],
)
def test_a_part_that_says_what_it_is_is_proven(answer: Lines, interval: Interval) -> None:
    assert judged(answer) == Proven(interval)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (part(content_range=None), Unusable),
        (part(content_range="bytes 100-299/*"), Changed),
        (part(content_range="bytes 100-299/1001"), Changed),
        (part(content_range="bytes 99-299/1000", content_length="201"), Unusable),
        (part(content_range="bytes 101-299/1000", content_length="199"), Unusable),
        (part(content_range="bytes 100-300/1000", content_length="201"), Unusable),
        (part(content_range="bytes */1000"), Unusable),
        (part(content_range="bytes 100-299"), Unusable),
        (part(content_length="199"), Unusable),
        (part(etag='"b"'), Changed),
        (part(etag='W/"a"', last_modified=None), Changed),
        (part(last_modified=date(-7200)), Changed),
        (part(etag=None, last_modified=None), Changed),
        (part(content_encoding="gzip"), Changed),
        ([*PART.items(), ("content-range", "bytes 0-199/1000")], Unusable),
    ],
)
def test_a_part_of_which_anything_is_in_doubt_is_refused(
    answer: Lines, kind: type[Verdict]
) -> None:
    assert isinstance(judged(answer), kind)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (OURS, Proven),
        ({**OURS, "etag": '"b"'}, Changed),
        ({**OURS, "content-length": "999"}, Changed),
        ({**OURS, "content-encoding": "br"}, Changed),
        ({"content-length": "1000"}, Changed),
        ({"etag": '"a"'}, Proven),
    ],
)
def test_the_whole_instead_of_the_part_counts_where_it_is_the_same(
    answer: Lines, kind: type[Verdict]
) -> None:
    verdict = judged(answer, 200)
    assert isinstance(verdict, kind)
    if isinstance(verdict, Proven):
        assert verdict == Proven(Interval(0, ASKED.stop), whole=True)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(412, Changed), (416, Changed), (404, Unusable), (500, Unusable), (304, Unusable)],
)
def test_other_statuses(status: int, kind: type[Verdict]) -> None:
    assert isinstance(judged(PART, status), kind)


@pytest.mark.parametrize("status", [429, 503])
def test_an_overloaded_upstream_says_nothing_about_the_representation(status: int) -> None:
    assert judged({"etag": '"b"', "retry-after": "7"}, status) == Busy(7.0)
    assert judged({}, status) == Busy(None)


@pytest.mark.parametrize(
    "ours",
    [
        {**OURS, "etag": 'W/"a"'},
        {"content-length": "1000", "last-modified": OLD},
        {"content-length": "1000", "last-modified": date(-30), "date": date()},
        {"content-length": "1000"},
    ],
)
def test_without_a_strong_validator_nothing_is_joined(ours: Lines) -> None:
    answer = {**dict(ours), "content-range": "bytes 100-299/1000", "content-length": "200"}
    assert isinstance(judged(answer, 206, ours), Changed)
    assert isinstance(judged(ours, 200, ours), Changed)


@pytest.mark.parametrize(
    ("which", "answer", "kind"),
    [
        ({"length"}, part(etag='"b"', last_modified=None), Proven),
        ({"length"}, part(content_range="bytes 100-299/1001"), Changed),
        ({"length", "last-modified"}, part(etag='"b"'), Proven),
        ({"length", "last-modified"}, part(last_modified=date(-7200)), Changed),
        ({"length", "etag"}, part(last_modified=date(-7200)), Proven),
        ({"length", "etag"}, part(etag='"b"'), Changed),
    ],
)
def test_the_operator_says_which_parts_of_an_identity_count(
    which: set[str], answer: Lines, kind: type[Verdict]
) -> None:
    assert isinstance(judged(answer, which=frozenset(which)), kind)


NO_TAG = EVERY_PART - {"etag"}


@pytest.mark.parametrize(
    ("lines", "which", "validator", "joins"),
    [
        (OURS, EVERY_PART, '"a"', True),
        ({**OURS, "etag": 'W/"a"'}, EVERY_PART, None, False),
        ({"last-modified": OLD, "date": date()}, EVERY_PART, OLD, True),
        ({"last-modified": date(-59), "date": date()}, EVERY_PART, None, False),
        ({"last-modified": date(-60), "date": date()}, EVERY_PART, date(-60), True),
        ({"last-modified": "yesterday", "date": date()}, EVERY_PART, None, False),
        ({"last-modified": OLD}, EVERY_PART, None, False),
        ({}, EVERY_PART, None, False),
        (OURS, NO_TAG, OLD, True),
        ({"etag": '"a"'}, NO_TAG, None, True),
        ({"last-modified": OLD, "date": date()}, frozenset({"etag", "length"}), None, False),
    ],
)
def test_what_may_be_joined_and_under_which_condition(
    lines: Lines, which: frozenset[str], validator: str | None, joins: bool
) -> None:
    assert joining_validator(head(lines), which) == validator
    assert may_join(head(lines), which) is joins


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        ("99999999999999999999", MAX_RETRY_AFTER_SECONDS),
        (date(30), 30.0),
        (date(-30), 0.0),
        (date(10**6), MAX_RETRY_AFTER_SECONDS),
        ("-1", None),
        ("soon", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_bounded(value: str, seconds: float | None) -> None:
    assert retry_after_seconds(head({"retry-after": value}, 503), NOW) == seconds


@pytest.mark.parametrize(
    ("asked", "content_range", "length", "right"),
    [
        ("bytes=10-19", "bytes 10-19/100", "10", True),
        ("bytes=10-19", "bytes 10-14/100", "5", True),
        ("bytes=10-19", "bytes 10-19/100", None, True),
        ("bytes=10-", "bytes 10-99/100", "90", True),
        ("bytes=-10", "bytes 90-99/100", "10", True),
        ("bytes=-200", "bytes 0-99/100", "100", True),
        ("bytes=10-19", "bytes 11-19/100", "9", False),
        ("bytes=10-19", "bytes 10-20/100", "11", False),
        ("bytes=10-19", "bytes 10-19/100", "11", False),
        ("bytes=-10", "bytes 80-89/100", "10", False),
        ("bytes=-10", "bytes 90-99/*", "10", False),
        (None, "bytes 0-9/100", "10", False),
        ("bytes=10-19", "10-19/100", "10", False),
    ],
)
def test_a_first_part_counts_only_if_it_is_what_was_asked(
    asked: str | None, content_range: str, length: str | None, right: bool
) -> None:
    fields = [("content-range", content_range)]
    if length is not None:
        fields.append(("content-length", length))
    assert brings_what_was_asked(Head(206, Fields(fields)), asked) is right
