"""Keys that are remembered for a short time, boundedly many."""

from __future__ import annotations

from collections.abc import Callable

MOST_KEYS = 10_000
"""Beyond this the oldest go: what is remembered here saves work and decides nothing."""


class Remembered:
    """A set whose members leave by themselves ``seconds`` after they were last noted."""

    def __init__(
        self, clock: Callable[[], float], seconds: float, most_keys: int = MOST_KEYS
    ) -> None:
        self._clock = clock
        self._seconds = seconds
        self._most_keys = most_keys
        self._until: dict[str, float] = {}

    def note(self, key: str) -> None:
        """Remember this key from now on."""
        self._until.pop(key, None)
        self._until[key] = self._clock() + self._seconds
        while len(self._until) > self._most_keys:
            del self._until[next(iter(self._until))]

    def __contains__(self, key: str) -> bool:
        until = self._until.get(key)
        if until is None:
            return False
        if until > self._clock():
            return True
        del self._until[key]
        return False
