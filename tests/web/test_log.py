"""Log lines: one each, for people, without secrets."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.web import log


def _line(**changes: object) -> log.AccessLine:
    known: dict[str, object] = {
        "client": "192.0.2.1",
        "method": "GET",
        "name": "https://h/f",
        "status": 200,
        "sent_bytes": 1536,
        "duration_seconds": 0.0123,
        "cache": "hit",
    }
    return log.AccessLine(**{**known, **changes})  # type: ignore[arg-type]


def test_a_line_reads_from_client_to_cache() -> None:
    assert str(_line()) == "192.0.2.1 GET https://h/f 200 1.5KiB in 12ms hit"
    assert str(_line(note="client left")).endswith(" hit (client left)")
    assert str(_line(client="")).startswith("- GET ")


@given(st.text())
def test_nothing_in_a_name_can_make_a_second_line(name: str) -> None:
    text = str(_line(name=name, note=name))
    assert len(text.splitlines()) == 1
    assert text.isprintable() or not any(ord(c) < 32 or ord(c) == 127 for c in text)


@pytest.mark.parametrize(
    ("path", "query", "shown"),
    [
        ("/f", None, "/f"),
        ("/f", "", "/f?***"),
        ("/f", "sig=abc", "/f?***"),
        ("/https://u:p@h/f", None, "/https://***@h/f"),
        ("/https:/u:p@h/f", None, "/https:/***@h/f"),
        ("/https://h/a@b", None, "/https://h/a@b"),
    ],
)
def test_userinfo_and_queries_are_masked(path: str, query: str | None, shown: str) -> None:
    assert log.masked_name(path, query) == shown


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0B"), (1023, "1023B"), (1024, "1.0KiB"), (5 * 2**20, "5.0MiB"), (2**50, "1024.0TiB")],
)
def test_sizes_are_for_people(size: int, shown: str) -> None:
    assert log.human_size(size) == shown


@pytest.mark.parametrize(("seconds", "shown"), [(0.0, "0ms"), (0.25, "250ms"), (61.2, "61.2s")])
def test_durations_are_for_people(seconds: float, shown: str) -> None:
    assert log.human_duration(seconds) == shown


def test_the_record_carries_the_line_for_structured_handlers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="forebay.access")
    line = _line()
    log.write(line)
    log.write(line, logging.DEBUG)
    (record,) = caplog.records
    assert record.__dict__["access"] is line
