"""How long to wait for somebody who sends, but hardly anything: arithmetic over given times."""

from __future__ import annotations

import math


class Patience:
    """Seconds that a sender may keep us waiting; each byte that comes earns some back.

    Who never waits on average longer than ``1 / min_rate_bytes`` seconds for a byte is waited
    for without end; who does, for a little more than ``grace_seconds``. Only time spent waiting
    counts, so that a sender held back by our own reader is not blamed. With a rate of 0 nothing
    is ever used up.
    """

    def __init__(self, grace_seconds: float, min_rate_bytes: float) -> None:
        self._grace_seconds = grace_seconds
        self._min_rate_bytes = min_rate_bytes
        self._left_seconds = grace_seconds

    @property
    def left_seconds(self) -> float:
        """How long the next byte may still take; 0 or less where patience has ended."""
        return self._left_seconds if self._min_rate_bytes > 0 else math.inf

    def note(self, waited_seconds: float, received_bytes: int) -> None:
        """So long was waited, and then so much came."""
        if self._min_rate_bytes > 0:
            earned_seconds = received_bytes / self._min_rate_bytes
            left = self._left_seconds - waited_seconds + earned_seconds
            self._left_seconds = min(left, self._grace_seconds)
