"""How fast bytes come, and whether more connections would help: arithmetic over given times."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

RATE_MEMORY_SECONDS = 0.5
LOOK_AFTER_SECONDS = 0.05
"""How long the first connection is watched before others may join it."""
JUDGE_AFTER_SECONDS = 1.0
"""How long added connections have to prove themselves (slow start included)."""
WORTH_SECONDS = 1.0
"""Remaining time that one connection may take before more are tried. Below it, handshakes cost
as much as they gain; aria2 and browsers open theirs at once, and pay for it with small files."""
WORTH_GAIN = 1.15
"""Growth of the total rate that keeps added connections."""


class Meter:
    """A rate in bytes per second with an exponentially fading memory."""

    def __init__(self, now: float) -> None:
        self._since = now
        self._last = now
        self._fading_bytes = 0.0
        self.total_bytes = 0

    def add(self, size_bytes: int, now: float) -> None:
        """Count bytes that have just come."""
        self._fading_bytes = self._faded(now) + size_bytes
        self._last = now
        self.total_bytes += size_bytes

    def rate(self, now: float) -> float:
        """Bytes per second lately; unbiased from the first moment on."""
        elapsed = max(now - self._since, 1e-3)
        # The memory's effective length while it is still filling up.
        memory = RATE_MEMORY_SECONDS * -math.expm1(-elapsed / RATE_MEMORY_SECONDS)
        return self._faded(now) / memory

    def _faded(self, now: float) -> float:
        return self._fading_bytes * math.exp((self._last - now) / RATE_MEMORY_SECONDS)


class Stage(enum.Enum):
    """The life of the question "do more connections help?"."""

    LOOKING = "looking"
    TRYING = "trying"
    KEPT = "kept"
    GIVEN_BACK = "given back"


@dataclass(slots=True)
class Growth:
    """Decides how many connections a transfer may open for speed's sake.

    Starts with one. When what remains would take longer than it is worth, all that the
    policy allows are tried at once; if the total rate has not grown after a second, they are
    given back. While upstream is ahead of us, nothing is tried: each connection that is cut
    short costs what is in its sockets. ``allowed`` is the answer at any time.
    """

    most: int
    started: float
    allowed: int = 1
    stage: Stage = Stage.LOOKING
    _rate_before: float = 0.0
    _tried_at: float = 0.0

    def tick(
        self, now: float, rate: float, remaining_bytes: int, *, is_behind: bool = False
    ) -> None:
        """Look at the total rate now; a few times a second.

        ``is_behind`` says that bytes wait for us and not we for them.
        """
        if self.stage is Stage.LOOKING and now - self.started >= LOOK_AFTER_SECONDS:
            # Without a rate there would be nothing to judge the gain by.
            if not is_behind and rate > 0 and remaining_bytes / rate > WORTH_SECONDS:
                self.stage, self.allowed = Stage.TRYING, self.most
                self._rate_before, self._tried_at = rate, now
        elif self.stage is Stage.TRYING and now - self._tried_at >= JUDGE_AFTER_SECONDS:
            if rate >= WORTH_GAIN * self._rate_before:
                self.stage = Stage.KEPT
            else:
                self.give_back(1)

    def give_back(self, allowed: int) -> None:
        """Open no more than this many from now on: they do not help, or are not welcome."""
        self.stage, self.allowed = Stage.GIVEN_BACK, max(1, allowed)


class Slots:
    """Upstream connections in use: per host and in all, against limits for *added* ones.

    A transfer's first connection always gets its slot (the client's pool bounds those, with a
    deadline); connections added for speed or for a far reader only where limits allow.
    """

    def __init__(self, total: int, per_host: int) -> None:
        self._total = total
        self._per_host = per_host
        self._used: dict[str, int] = {}

    @property
    def used(self) -> int:
        return sum(self._used.values())

    def has_room(self, host: str) -> bool:
        """Whether one more connection may be added for this host."""
        return self.used < self._total and self._used.get(host, 0) < self._per_host

    def take(self, host: str) -> None:
        """Count one connection."""
        self._used[host] = self._used.get(host, 0) + 1

    def give(self, host: str) -> None:
        """Count one connection less."""
        left = self._used.get(host, 0) - 1
        if left > 0:
            self._used[host] = left
        else:
            self._used.pop(host, None)
