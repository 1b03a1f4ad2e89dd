"""A short memory: it forgets by itself, and is bounded."""

from __future__ import annotations

from forebay.service.remembering import Remembered


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_key_leaves_after_its_time_and_noting_it_again_begins_anew() -> None:
    clock = Clock()
    seen = Remembered(clock, 10)
    assert "a" not in seen
    seen.note("a")
    clock.now = 9
    assert "a" in seen
    seen.note("a")
    clock.now = 18
    assert "a" in seen
    clock.now = 19
    assert "a" not in seen
    assert "a" not in seen


def test_the_oldest_go_when_there_are_too_many() -> None:
    seen = Remembered(Clock(), 10, most_keys=2)
    for key in ("a", "b", "a", "c"):
        seen.note(key)
    assert [key for key in "abc" if key in seen] == ["a", "c"]
