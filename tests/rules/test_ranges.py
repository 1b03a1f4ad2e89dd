"""RFC 9110 §14.1, §14.2, §13.1.5, §15.3.7: which bytes a request gets."""

from __future__ import annotations

import itertools
from email import message_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.model import Interval
from forebay.rules.fields import POSITION_MAX
from forebay.rules.ranges import (
    COALESCE_GAP_BYTES,
    MAX_PARTS,
    MAX_SPECS,
    IntRange,
    Part,
    Parts,
    RangeSpec,
    RangeSpecs,
    Selected,
    SuffixRange,
    Unsatisfiable,
    Whole,
    format_specs,
    multipart_layout,
    parse_range,
    part_fields,
    parts_fields,
    plain_part,
    range_bounds_hint,
    select,
    select_specs,
    strong_last_modified,
)
from tests.rules.making import Lines, date, fields, head, request

BIG = 2**62


@pytest.mark.parametrize(
    ("value", "specs"),
    [
        ("bytes=0-4", (IntRange(0, 4),)),
        ("bytes=5-", (IntRange(5),)),
        ("bytes=-5", (SuffixRange(5),)),
        ("bytes=-0", (SuffixRange(0),)),
        ("BYTES=0-4", (IntRange(0, 4),)),
        (" bytes=0-4\t", (IntRange(0, 4),)),
        ("bytes=00-004", (IntRange(0, 4),)),
        ("bytes=0-0,5-,-2", (IntRange(0, 0), IntRange(5), SuffixRange(2))),
        ("bytes= 0-1 ,\t2-3 , ", (IntRange(0, 1), IntRange(2, 3))),
        ("bytes=,,0-1,,", (IntRange(0, 1),)),
        (f"bytes=0-{'9' * 5000}", (IntRange(0, POSITION_MAX),)),
        (f"bytes={'9' * 5000}-", (IntRange(POSITION_MAX),)),
        ("bytes=4-0", None),
        ("bytes=0-1,4-0", None),
        ("bytes=", None),
        ("bytes=,", None),
        ("bytes=-", None),
        ("bytes", None),
        ("", None),
        ("bytes 0-4", None),
        ("bytes =0-4", None),
        ("bytes=0 - 4", None),
        ("bytes=0-4 5-6", None),
        ("bytes=0--4", None),
        ("bytes=+0-4", None),
        ("bytes=0x0-4", None),
        ("bytes=0-4;x", None),
        ("bytes=0-4/10", None),
        ("bytes=0-1, bytes=2-3", None),
        ("bytes=0-1,x", None),
        ("items=0-4", None),
        ("none=", None),
        ("bytes=٠-٤", None),
        ('bytes="0-4"', None),
    ],
)
def test_range_is_read_or_ignored_as_a_whole(value: str, specs: RangeSpecs | None) -> None:
    assert parse_range(value) == specs


def test_too_many_specs_are_ignored() -> None:
    assert len(parse_range("bytes=" + ",".join(["1-2"] * MAX_SPECS)) or ()) == MAX_SPECS
    assert parse_range("bytes=" + ",".join(["1-2"] * (MAX_SPECS + 1))) is None
    assert parse_range("bytes=0-1" + "," * 100_000) is None


SPEC: st.SearchStrategy[RangeSpec] = st.one_of(
    st.builds(IntRange, st.integers(0, 3000)),
    st.tuples(st.integers(0, 3000), st.integers(0, 2000)).map(lambda p: IntRange(p[0], sum(p))),
    st.builds(SuffixRange, st.integers(0, 3000)),
)
SPECS = st.lists(SPEC, min_size=1, max_size=20).map(tuple)


@given(SPECS)
def test_printed_specs_are_read_back(specs: RangeSpecs) -> None:
    assert parse_range(format_specs(specs)) == specs


@given(st.text(max_size=60))
def test_any_range_can_be_read(value: str) -> None:
    specs = parse_range("bytes=" + value)
    assert specs is None or parse_range(format_specs(specs)) == specs


def asked(range_value: str, length: int, lines: Lines | None = None) -> Selected:
    return select(request({"Range": range_value}), head(lines), length)


@pytest.mark.parametrize(
    ("value", "length", "selected"),
    [
        ("bytes=0-4", 10, Part(Interval(0, 5))),
        ("bytes=0-0", 10, Part(Interval(0, 1))),
        ("bytes=9-9", 10, Part(Interval(9, 10))),
        ("bytes=9-99", 10, Part(Interval(9, 10))),
        ("bytes=0-", 10, Part(Interval(0, 10))),
        ("bytes=5-", 10, Part(Interval(5, 10))),
        ("bytes=-3", 10, Part(Interval(7, 10))),
        ("bytes=-10", 10, Part(Interval(0, 10))),
        ("bytes=-99", 10, Part(Interval(0, 10))),
        ("bytes=10-", 10, Unsatisfiable()),
        ("bytes=10-20", 10, Unsatisfiable()),
        (f"bytes={'9' * 99}-", 10, Unsatisfiable()),
        ("bytes=-0", 10, Unsatisfiable()),
        ("bytes=10-, -0, 99-100", 10, Unsatisfiable()),
        ("bytes=10-, 0-1", 10, Part(Interval(0, 2))),
        ("bytes=0-", 0, Unsatisfiable()),
        ("bytes=-0", 0, Unsatisfiable()),
        ("bytes=-5", 0, Whole()),
        ("bytes=0-, -5", 0, Whole()),
        ("bytes=4-0", 10, Whole()),
        ("bytes=x", 10, Whole()),
        ("items=0-1", 10, Whole()),
        ("bytes=0-1, 2-3", 10, Part(Interval(0, 4))),  # touching
        ("bytes=0-5, 3-8", 10, Part(Interval(0, 9))),  # overlapping
        ("bytes=0-1, 0-1, 0-1", 10, Part(Interval(0, 2))),  # the same
        ("bytes=0-1, 5-6", 10, Part(Interval(0, 7))),  # a gap not worth a part
        ("bytes=0-0, 1000-1000", BIG, Parts((Interval(0, 1), Interval(1000, 1001)))),
        ("bytes=1000-1000, 0-0", BIG, Parts((Interval(1000, 1001), Interval(0, 1)))),
        ("bytes=-1, 0-0", BIG, Parts((Interval(BIG - 1, BIG), Interval(0, 1)))),
        (
            "bytes=5000-5001, 0-1, 2-3, 4000-4999",
            BIG,
            Parts((Interval(4000, 5002), Interval(0, 4))),
        ),
    ],
)
def test_a_range_selects(value: str, length: int, selected: Selected) -> None:
    assert asked(value, length) == selected


@pytest.mark.parametrize("method", ["HEAD", "POST"])
def test_range_is_for_get_alone(method: str) -> None:
    asking = request({"Range": "bytes=0-1"}, method)
    assert select(asking, head(), 10) == Whole()
    assert range_bounds_hint(asking) is None


@pytest.mark.parametrize("status", [203, 204, 206, 301, 404, 500])
def test_range_is_for_a_200_alone(status: int) -> None:
    assert select(request({"Range": "bytes=0-1"}), head(status=status), 10) == Whole()


def test_several_range_fields_are_ignored() -> None:
    asking = request([("Range", "bytes=0-1"), ("Range", "bytes=0-1")])
    assert select(asking, head(), 10) == Whole()


def test_a_hint_is_known_before_the_length() -> None:
    assert range_bounds_hint(request({"Range": "bytes=7-, -3"})) == (IntRange(7), SuffixRange(3))
    assert range_bounds_hint(request()) is None


def spread(count: int) -> str:
    return "bytes=" + ",".join(f"{n * 1000}-{n * 1000}" for n in range(count))


def test_more_parts_than_the_limit_give_the_whole() -> None:
    parts = asked(spread(MAX_PARTS), BIG)
    assert isinstance(parts, Parts)
    assert len(parts.intervals) == MAX_PARTS
    assert asked(spread(MAX_PARTS + 1), BIG) == Whole()


@given(
    st.one_of(
        st.from_regex(r"\A(bytes|BYTES)=[0-9]{0,20}-[0-9]{0,20}\Z"),
        st.text("bytes=0123456789-, \t\u0663_+", max_size=30),
        st.builds("bytes={}-{}".format, st.integers(0, 999), st.integers(0, 999)),
    ),
    st.one_of(st.integers(0, 999), st.integers(0, POSITION_MAX)),
)
def test_a_part_read_at_a_glance_is_what_the_whole_rule_selects(value: str, length: int) -> None:
    plain = plain_part(value, length)
    specs = parse_range(value)
    if plain is not None:
        assert specs is not None
        assert select_specs(specs, length) == Part(plain)


@given(st.integers(0, 999), st.integers(0, 999), st.integers(0, 999))
def test_a_part_of_what_exists_is_read_at_a_glance(first: int, last: int, length: int) -> None:
    plain = plain_part(f"bytes={first}-{last}", length)
    assert plain == (Interval(first, last + 1) if first <= last < length else None)


@given(SPECS, st.integers(0, 4000))
def test_what_is_selected_lies_within_and_covers_what_was_asked(
    specs: RangeSpecs, length: int
) -> None:
    selected = asked(format_specs(specs), length)
    wanted: set[int] = set()
    for spec in specs:
        if isinstance(spec, SuffixRange):
            wanted.update(range(max(0, length - spec.length_bytes), length))
        else:
            last = length - 1 if spec.last is None else spec.last
            wanted.update(range(spec.first, min(last + 1, length)))
    if isinstance(selected, Whole):
        assert length == 0
        return
    if isinstance(selected, Unsatisfiable):
        assert not wanted
        return
    intervals = (selected.interval,) if isinstance(selected, Part) else selected.intervals
    ordered = sorted(intervals)
    assert all(0 <= i.start < i.stop <= length for i in intervals)
    pairs = itertools.pairwise(ordered)
    assert all(b.start - a.stop >= COALESCE_GAP_BYTES for a, b in pairs)
    got = {position for i in intervals for position in range(*i)}
    assert wanted <= got
    assert len(got - wanted) < COALESCE_GAP_BYTES * len(specs)
    assert isinstance(selected, Part) is (len(intervals) == 1)


OLD, NEW = date(-1000), date()
STRONG: Lines = {"ETag": '"x"', "Last-Modified": OLD, "Date": NEW}


@pytest.mark.parametrize(
    ("if_range", "lines", "holds"),
    [
        ('"x"', STRONG, True),
        ('"y"', STRONG, False),
        ('W/"x"', STRONG, False),
        ("x", STRONG, False),
        ('"x", "y"', STRONG, False),
        ("*", STRONG, False),
        ("", STRONG, False),
        ('W/"x"', {"ETag": 'W/"x"'}, False),
        ('"x"', {"ETag": 'W/"x"'}, False),
        ("x", {"ETag": "x"}, False),
        ('"x"', {}, False),
        ('"\xe9"', {"ETag": '"\xe9"'}, True),
        (OLD, STRONG, True),
        (date(-999), STRONG, False),
        (date(-1001), STRONG, False),
        (OLD, {"Last-Modified": OLD, "Date": date(-999)}, True),
        (OLD, {"Last-Modified": OLD, "Date": OLD}, False),
        (OLD, {"Last-Modified": OLD}, False),
        (OLD, {"Date": NEW}, False),
        ("bad", {"Last-Modified": "bad", "Date": NEW}, False),
    ],
)
def test_if_range_holds_for_one_strong_validator(if_range: str, lines: Lines, holds: bool) -> None:
    asking = request({"Range": "bytes=0-1", "If-Range": if_range})
    selected = select(asking, head(lines), 10)
    assert selected == (Part(Interval(0, 2)) if holds else Whole())


def test_if_range_goes_before_416_and_alone_says_nothing() -> None:
    asking = request({"Range": "bytes=99-", "If-Range": '"y"'})
    assert select(asking, head(STRONG), 10) == Whole()
    assert select(request({"If-Range": '"x"'}), head(STRONG), 10) == Whole()
    twice = request([("Range", "bytes=0-1"), ("If-Range", '"x"'), ("If-Range", '"x"')])
    assert select(twice, head(STRONG), 10) == Whole()


def test_a_last_modified_in_the_second_of_date_is_weak() -> None:
    assert strong_last_modified(fields({"Last-Modified": NEW, "Date": NEW})) is None
    assert strong_last_modified(fields({"Last-Modified": OLD, "Date": NEW})) is not None


INTERVALS = st.lists(
    st.tuples(st.integers(0, 50), st.integers(1, 30)).map(lambda p: Interval(p[0], sum(p))),
    min_size=2,
    max_size=5,
)


@given(INTERVALS, st.sampled_from([None, "text/plain", "application/octet-stream"]))
def test_a_multipart_body_is_read_back_by_a_mime_parser(
    parts: list[Interval], content_type: str | None
) -> None:
    body = bytes(range(33, 33 + 80))
    layout = multipart_layout(parts, len(body), content_type, "0123456789abcdef")
    sent = b"".join(p if isinstance(p, bytes) else body[p.start : p.stop] for p in layout.pieces)
    assert len(sent) == layout.length_bytes
    message = message_from_bytes(f"Content-Type: {layout.content_type}\r\n\r\n".encode() + sent)
    assert message.get_content_type() == "multipart/byteranges"
    received = message.get_payload()
    assert isinstance(received, list)
    assert len(received) == len(parts)
    for got, part in zip(received, parts, strict=True):
        assert not isinstance(got, str)
        assert got["Content-Range"] == f"bytes {part.start}-{part.stop - 1}/{len(body)}"
        assert got["Content-Type"] == content_type
        assert got.get_payload(decode=True) == body[part.start : part.stop]


@pytest.mark.parametrize("boundary", ["", "a b", 'a"b', "a\r\nb", "x" * 71])
def test_a_boundary_that_would_need_quoting_is_refused(boundary: str) -> None:
    with pytest.raises(ValueError, match="boundary"):
        multipart_layout([Interval(0, 1)], 10, None, boundary)


def test_partial_answers_frame_themselves() -> None:
    whole = fields(
        {"Content-Length": "10", "Content-Type": "a/b", "ETag": '"x"', "Content-Digest": "d"}
    )
    single = part_fields(whole, Interval(2, 5), 10)
    assert dict(single) == {
        "content-type": "a/b",
        "etag": '"x"',
        "content-range": "bytes 2-4/10",
        "content-length": "3",
    }
    layout = multipart_layout([Interval(0, 1), Interval(5, 6)], 10, "a/b", "x")
    several = parts_fields(whole, layout)
    assert dict(several) == {
        "etag": '"x"',
        "content-type": "multipart/byteranges; boundary=x",
        "content-length": str(layout.length_bytes),
    }
