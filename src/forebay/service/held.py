"""What the fast lane holds on to: small bodies, and descriptors of large ones. Both bounded.

What is stored under an entry's id never changes, and an id is only known to who has found its
entry: so nothing here can be out of date, and what was purged is never asked for again.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict

from forebay.model import Interval

HELD_FILES = 128
"""Descriptors kept beside those that are being sent from. nginx's examples have 1,000."""
HELD_SECONDS = 5.0
"""After this long every descriptor is let go, and opened again by the next hit: what was purged
or evicted gives its room back, and opening costs nothing at this distance."""


class Contents:
    """Bodies by entry id, the least recently used leaving first when they take too much."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._held: OrderedDict[str, bytes] = OrderedDict()
        self._held_bytes = 0

    @property
    def held_bytes(self) -> int:
        return self._held_bytes

    def get(self, entry_id: str) -> bytes | None:
        content = self._held.get(entry_id)
        if content is not None:
            self._held.move_to_end(entry_id)
        return content

    def put(self, entry_id: str, content: bytes) -> None:
        """Keep this content, which is not there yet, for as long as there is room."""
        self._held[entry_id] = content
        self._held_bytes += len(content)
        while self._held_bytes > self._limit_bytes:
            self._held_bytes -= len(self._held.popitem(last=False)[1])


class HeldFile:
    """A descriptor with a count of its users; the last that lets go closes it."""

    __slots__ = ("_users", "fileno")

    def __init__(self, fileno: int) -> None:
        """Takes the descriptor over, for one user."""
        self.fileno = fileno
        self._users = 1

    def use(self) -> HeldFile:
        """One user more, who calls ``release`` once."""
        self._users += 1
        return self

    def release(self) -> None:
        """One user less."""
        self._users -= 1
        if self._users == 0:
            os.close(self.fileno)


class HeldFiles:
    """Descriptors by entry id, the least recently used leaving first. Used on the event loop."""

    def __init__(self, limit: int = HELD_FILES, seconds: float = HELD_SECONDS) -> None:
        self._limit = limit
        self._seconds = seconds
        self._held: OrderedDict[str, HeldFile] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._held)

    def get(self, entry_id: str) -> HeldFile | None:
        """The file, good for as long as the caller does not wait or says ``use``."""
        file = self._held.get(entry_id)
        if file is not None:
            self._held.move_to_end(entry_id)
        return file

    def put(self, entry_id: str, fileno: int) -> HeldFile:
        """Keep this descriptor, of an entry that has none here yet."""
        file = self._held[entry_id] = HeldFile(fileno)
        if len(self._held) > self._limit:
            self._held.popitem(last=False)[1].release()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self.clear)
        return file

    def clear(self) -> None:
        """Let every file go; those in use are closed by their last user."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        held, self._held = self._held, OrderedDict()
        for file in held.values():
            file.release()


def read_resident(fileno: int, interval: Interval) -> bytes | None:
    """The bytes if all are in memory, else None: one system call that fails rather than wait."""
    if not interval.length_bytes:
        return b""
    buffer = bytearray(interval.length_bytes)
    try:
        got = os.preadv(fileno, [buffer], interval.start, getattr(os, "RWF_NOWAIT", 0))
    except OSError:
        return None
    return bytes(buffer) if got == len(buffer) else None
