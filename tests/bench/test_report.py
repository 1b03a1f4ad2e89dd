"""From samples to the rows, cells and pictures that people read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal
from xml.etree import ElementTree

import pytest

from bench import plot
from bench.document import side_by_side
from bench.profiling import file_name
from bench.report import cpu_text, median_text, ratio_text, summary
from bench.workloads import Case, Sample

GIB = 1 << 30


def rows(
    samples: Mapping[str, list[Sample]],
    *,
    more_is_better: bool = True,
    cpu_per: Literal["GiB", "request"] = "GiB",
) -> dict[str, dict[str, Any]]:
    case = Case("case", "GiB/s", {}, "nginx", more_is_better, cpu_per)
    return {row["target"]: row for row in summary(case, samples)}


def values(*numbers: float) -> list[Sample]:
    return [Sample(number, 1.0, GIB) for number in numbers]


def test_the_ratio_is_taken_within_each_round_and_not_between_medians() -> None:
    found = rows({"nginx": values(1, 10, 4), "forebay": values(2, 10, 1)})["forebay"]
    assert (found["ratio_least"], found["ratio"], found["ratio_most"]) == (0.25, 1.0, 2.0)
    assert found["median"] == 2


@pytest.mark.parametrize(("value", "ratio"), [(0.0, 1.0), (3.0, math.inf)])
def test_beside_nothing_only_nothing_is_as_good(value: float, ratio: float) -> None:
    assert rows({"nginx": values(0), "forebay": values(value)})["forebay"]["ratio"] == ratio


@pytest.mark.parametrize(
    ("cpu_per", "requests", "text"),
    [
        ("GiB", 800, "0.50 s/GiB"),
        ("request", 800, "1,250 µs/request"),
        ("request", 2, "500 ms/request"),
    ],
)
def test_cpu_is_told_in_the_measure_of_the_case(
    cpu_per: Literal["GiB", "request"], requests: int, text: str
) -> None:
    samples = [Sample(1, 1, 2 * GIB, cpu, requests=requests) for cpu in (0.2, 1.0, 7.0)]
    assert cpu_text(rows({"nginx": samples}, cpu_per=cpu_per)["nginx"]) == text


def test_less_cpu_than_the_clock_can_tell_is_not_none() -> None:
    row = rows({"nginx": [Sample(1, 1, 1, 0.0, requests=1)]}, cpu_per="request")["nginx"]
    assert cpu_text(row) == "< 10 ms/request"


def test_where_no_cpu_is_known_or_nothing_was_got_none_is_told() -> None:
    unknown, nothing = [Sample(1, 1, GIB)], [Sample(1, 1, 0, 0.5)]
    for samples in (unknown, nothing):
        assert not cpu_text(rows({"nginx": samples})["nginx"])


@pytest.mark.parametrize(("value", "text"), [(0.268, "0.27 GiB/s"), (111965.7, "111,966 GiB/s")])
def test_hundredths_are_for_small_numbers(value: float, text: str) -> None:
    assert median_text(rows({"nginx": values(value)})["nginx"]) == text


def test_a_table_has_a_line_for_each_case_and_an_empty_cell_for_who_was_not_in_it() -> None:
    first = list(rows({"nginx": values(1), "forebay": values(2)}).values())
    second = list(rows({"nginx": values(1), "squid": values(3), "direct": values(9)}).values())
    for row in second:
        row["case"] = "other"
    assert list(side_by_side([*first, *second], ratio_text)) == [
        "| case | nginx | forebay | squid |",
        "|---|---:|---:|---:|",
        "| case | 1 | 2.00 (2.00 to 2.00) |  |",
        "| other | 1 |  | 3.00 (3.00 to 3.00) |",
    ]


@pytest.mark.parametrize(
    ("more_is_better", "expected"), [(True, (0.5, 1.0, 4.0)), (False, (0.25, 1.0, 2.0))]
)
def test_the_picture_turns_round_what_is_better_when_less(
    more_is_better: bool, expected: tuple[float, float, float]
) -> None:
    found = rows(
        {"nginx": values(2, 2, 2), "forebay": values(1, 2, 8)}, more_is_better=more_is_better
    )
    assert plot.better(found["forebay"]) == expected


def test_in_the_picture_one_stands_in_the_middle_and_extremes_at_the_ends() -> None:
    least, one, most = plot.place(0), plot.place(1), plot.place(math.inf)
    assert one == (least + most) / 2
    assert plot.place(0.01) == least
    assert plot.place(100) == most


def test_the_picture_is_well_formed_whatever_targets_and_ratios_there_are() -> None:
    found = rows(
        {"nginx": values(0, 1), "forebay": values(1, 0), "a <b> & c": values(5, 5)},
        more_is_better=False,
    )
    root = ElementTree.fromstring(plot.svg(list(found.values())))
    words = " ".join(node.text or "" for node in root.iter())
    assert "a <b> & c" in words
    assert "case" in words


def test_what_is_good_or_bad_by_itself_has_no_ratio_and_no_place_in_the_picture() -> None:
    case = Case("abort", "descriptors", {}, "nginx", compares=False)
    found = summary(case, {"nginx": values(1), "forebay": values(0)})
    assert [ratio_text(row) for row in found] == ["", ""]
    assert "forebay" not in plot.svg(found)


def test_a_case_gives_a_file_its_name() -> None:
    assert file_name("hot-range, 4 KiB, clients: 64") == "hot-range-4-kib-clients-64"
