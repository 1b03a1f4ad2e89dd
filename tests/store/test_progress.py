"""The note that a draft leaves for other workers, and half of one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.model import Interval, Intervals
from forebay.rules import coverage as cov
from forebay.store.blobs import Blobs
from forebay.store.progress import MOST_RUNS, Following, Note, Progress, _packed, _unpacked

positions = st.integers(0, 1 << 40)
coverages = st.lists(st.builds(Interval, positions, positions), max_size=20).map(cov.normalise)


@given(coverages, st.none() | positions)
def test_a_note_says_what_was_written_into_it(coverage: Intervals, length: int | None) -> None:
    assert _unpacked(_packed(Note(coverage, length))) == (coverage, length)


@given(coverages, coverages, st.integers(0, 400))
def test_a_torn_note_says_nothing(one: Intervals, other: Intervals, at: int) -> None:
    old, new = _packed(Note(one)), _packed(Note(other))
    torn = new[:at] + old[at:]
    assert _unpacked(torn) in {None, Note(one), Note(other)}


@pytest.mark.parametrize("note", [b"", b"short", bytes(16)[:15], b"\xff" * 64])
def test_what_is_no_note_says_nothing(note: bytes) -> None:
    assert _unpacked(note) is None


def test_more_runs_than_fit_are_left_to_the_checkpoint() -> None:
    coverage = tuple(Interval(2 * n, 2 * n + 1) for n in range(MOST_RUNS + 5))
    assert _unpacked(_packed(Note(coverage))) == Note(coverage[:MOST_RUNS])


def test_what_was_seen_is_not_lost_to_a_torn_note(tmp_path: Path) -> None:
    path = tmp_path / "progress" / "abcd"
    progress = Progress(path, (Interval(0, 5),))
    progress.add(Interval(5, 9))
    blobs = Blobs(tmp_path)
    os.close(blobs.create("abcd"))
    following = Following(path, blobs, "abcd", lambda job: job())
    assert following.coverage() == ((0, 9),)
    path.write_bytes(b"\xff" * 40)
    assert following.coverage() == ((0, 9),)
    progress.add(Interval(20, 30))
    assert following.coverage() == ((0, 9), (20, 30))
    following.close()
    following.close()
    progress.close()
    progress.close()
    assert not path.exists()


def test_a_note_that_cannot_be_written_disturbs_nobody(tmp_path: Path) -> None:
    (tmp_path / "progress").write_text("in the way")
    progress = Progress(tmp_path / "progress" / "abcd", ())
    progress.add(Interval(0, 5))
    progress.close()


def test_a_note_from_before_a_power_cut_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    note = _packed(Note((Interval(0, 5),)))
    monkeypatch.setattr("forebay.store.progress._THIS_BOOT", 12345)
    assert _unpacked(note) is None


def test_what_followers_wish_for_is_heard_once_and_together(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    os.close(blobs.create("abcd"))
    path = tmp_path / "progress" / "abcd"
    progress = Progress(path, ())
    progress.begin()
    assert progress.wishes() == ()
    one, other = (Following(path, blobs, "abcd", lambda job: job()) for _ in range(2))
    one.wish(Interval(5, 9))
    other.wish(Interval(9, 20))
    assert progress.wishes() == ((5, 20),)
    progress.add(Interval(0, 5))
    other.wish(Interval(100, 1 << 70))
    assert progress.wishes() == ((100, (1 << 63) - 1),)
    assert (one.coverage(), one.proven_length_bytes()) == (((0, 5),), None)
    progress.finish(5)
    assert (one.coverage(), one.proven_length_bytes()) == (((0, 5),), 5)
    for following in (one, other):
        following.close()
    progress.close()
