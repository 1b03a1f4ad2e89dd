"""A watch over one connection, to see whether the client still accepts bytes, and enough of them.

The transport's buffer alone does not tell. The kernel reports a socket as writable only when a
third of its send buffer is free, which for a slow client on a buffer of megabytes takes
minutes. The octets that the peer has not acknowledged (SIOCOUTQ) move with every packet.
"""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios
from collections import deque
from collections.abc import Callable


def unacknowledged_bytes(fileno: int) -> int:
    """Octets in the socket's send queue that the peer has not acknowledged; -1 if unknown."""
    try:
        answer = fcntl.ioctl(fileno, termios.TIOCOUTQ, b"\0\0\0\0")
    except OSError:
        return -1
    return int(struct.unpack("i", answer)[0])


TINY_BYTES = 64 * 1024
"""With less than this outside the kernel a client is not too slow: it costs one piece of memory,
and will be done soon."""
STEPS = 4
"""How often the watch looks in the time after which a client is too slow."""


class StallWatch:
    """Calls ``on_stall`` once when bytes wait and none has moved for ``limit_seconds``, or fewer
    than ``min_rate_bytes`` times ``limit_seconds`` have.

    ``waiting_bytes`` says how much is held back for the client outside the kernel,
    ``given_bytes`` how much the kernel has been given since the connection was made; ``fileno``
    is the connection's socket. Only time in which bytes wait counts, from one look to the next:
    a client that has taken all there was is waiting for us. Looks are counted, not seconds, so
    that a process that stood still blames nobody. A stall is noticed after one to one and a half
    limits. The watch sleeps while nothing waits: ``arm`` wakes it.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, limit_seconds: float, fileno: int,
        waiting_bytes: Callable[[], int], on_stall: Callable[[], None],
        given_bytes: Callable[[], int] = lambda: 0, min_rate_bytes: float = 0.0,
    ) -> None:  # fmt: skip
        self._loop = loop
        self._step_seconds = limit_seconds / STEPS
        self._fileno = fileno
        self._waiting_bytes = waiting_bytes
        self._given_bytes = given_bytes
        self._on_stall = on_stall
        self._enough_bytes = min_rate_bytes * limit_seconds
        self._timer: asyncio.TimerHandle | None = None
        self._last: tuple[int, int] = (0, 0)
        self._quiet_steps = 0
        self._taken_at_looks: deque[int] = deque(maxlen=STEPS + 1)

    def arm(self) -> None:
        """Begin to look, if not looking already."""
        if self._timer is None:
            self._quiet_steps = 0
            self._last = self._mark()
            self._taken_at_looks.clear()
            self._taken_at_looks.append(self._taken())
            self._timer = self._loop.call_later(self._step_seconds, self._look)

    def stop(self) -> None:
        """End for good, before the socket's number can mean another socket."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._step_seconds = float("inf")

    def _mark(self) -> tuple[int, int]:
        return self._waiting_bytes(), unacknowledged_bytes(self._fileno)

    def _taken(self) -> int:
        """What the client has acknowledged of all it was given."""
        return self._given_bytes() - max(0, unacknowledged_bytes(self._fileno))

    def _look(self) -> None:
        self._timer = None
        mark = self._mark()
        if mark[0] == 0:
            return
        # An empty send queue means that the client has taken all there was: we wait for disk.
        self._quiet_steps = self._quiet_steps + 1 if mark == self._last and mark[1] else 0
        self._last = mark
        if self._quiet_steps >= STEPS or self._is_too_slow(mark):
            self._on_stall()
        else:
            self._timer = self._loop.call_later(self._step_seconds, self._look)

    def _is_too_slow(self, mark: tuple[int, int]) -> bool:
        if mark[0] < TINY_BYTES or mark[1] <= 0:
            self._taken_at_looks.clear()
        self._taken_at_looks.append(self._taken())
        taken = self._taken_at_looks[-1] - self._taken_at_looks[0]
        return len(self._taken_at_looks) > STEPS and taken < self._enough_bytes
