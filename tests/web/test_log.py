"""Log lines: one each, for people, without secrets."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Iterator

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


class _Counting(io.StringIO):
    """A stream that counts how often it is written to."""

    writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        return super().write(text)


@pytest.fixture
def stream() -> Iterator[_Counting]:
    """What the access log is written to, in batches, while a test runs."""
    stream = _Counting()
    handler = log.BatchingHandler(stream)
    handler.setFormatter(log.TimedFormatter("%(asctime)s %(levelname)-7s %(message)s"))
    log.access_logger.addHandler(handler)
    log.access_logger.setLevel(logging.INFO)
    yield stream
    log.access_logger.removeHandler(handler)
    log.access_logger.setLevel(logging.NOTSET)
    handler.close()


def test_lines_are_written_together_a_moment_later(stream: _Counting) -> None:
    for _ in range(10):
        log.write(_line())
    assert stream.writes == 0
    end = time.monotonic() + 5
    while not stream.writes and time.monotonic() < end:
        time.sleep(0.01)
    assert stream.writes == 1
    assert stream.getvalue().count("192.0.2.1 GET https://h/f 200 1.5KiB in 12ms hit\n") == 10


def test_a_warning_is_written_at_once_and_in_order(stream: _Counting) -> None:
    log.write(_line())
    log.access_logger.warning("trouble")
    first, second = stream.getvalue().splitlines()
    assert first.endswith("INFO    192.0.2.1 GET https://h/f 200 1.5KiB in 12ms hit")
    assert second.endswith("WARNING trouble")


def test_many_lines_do_not_wait_for_the_moment(stream: _Counting) -> None:
    for _ in range(2 * log.FLUSH_CHARACTERS // len(str(_line()))):
        log.write(_line())
    assert stream.writes >= 2


def test_the_last_lines_are_written_at_the_end(stream: _Counting) -> None:
    log.write(_line())
    log.access_logger.handlers[-1].close()
    assert stream.getvalue().endswith(" hit\n")


def test_a_closed_stream_hurts_nobody(stream: _Counting) -> None:
    stream.close()
    log.access_logger.warning("trouble")


def test_each_second_is_spelt_as_it_is() -> None:
    formatter = log.TimedFormatter("%(asctime)s")
    spelt = []
    for created in (1_700_000_000.0, 1_700_000_000.9, 1_700_000_001.0):
        record = logging.makeLogRecord({"created": created})
        spelt.append(formatter.format(record))
    assert spelt[0] == spelt[1] != spelt[2]
    assert len(spelt[0]) == len("2023-11-14 22:13:20")
