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

_NO_WAIT = getattr(os, "RWF_NOWAIT", 0)


class Content:
    """A body, for as long as it is held: ``octets`` are None when it had to leave.

    Whoever uses it says so by ``is_used``; that costs less than keeping all in the order of use.
    """

    __slots__ = ("is_used", "octets")

    def __init__(self, octets: bytes) -> None:
        self.octets: bytes | None = octets
        self.is_used = False


class Contents:
    """Bodies by entry id. When they take too much the oldest leaves that was not used since it
    was looked at last (second chance)."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._held: OrderedDict[str, Content] = OrderedDict()
        self._held_bytes = 0

    @property
    def held_bytes(self) -> int:
        return self._held_bytes

    def get(self, entry_id: str) -> Content | None:
        return self._held.get(entry_id)

    def put(self, entry_id: str, octets: bytes) -> Content:
        """Hold this body, which is not there yet, unless it is larger than all may be."""
        content = Content(octets)
        while self._held and self._held_bytes + len(octets) > self._limit_bytes:
            self._look_at_oldest()
        if len(octets) <= self._limit_bytes:
            self._held[entry_id] = content
            self._held_bytes += len(octets)
        return content

    def _look_at_oldest(self) -> None:
        entry_id, content = self._held.popitem(last=False)
        if content.is_used:
            content.is_used = False
            self._held[entry_id] = content
            return
        self._held_bytes -= len(content.octets or b"")
        content.octets = None


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


class Scratch:
    """Room into which small parts of files are read, one after the other.

    Fresh memory for each would cost more than reading 64 KiB does.
    """

    def __init__(self, size_bytes: int) -> None:
        self._view = memoryview(bytearray(size_bytes))

    def read(self, fileno: int, interval: Interval) -> memoryview | None:
        """The bytes if all are in memory and there is room for them, else None: one system call
        that fails rather than wait. They are good until the next ones are read."""
        start, stop = interval
        view = self._view[: stop - start]
        try:
            got = os.preadv(fileno, [view], start, _NO_WAIT)
        except OSError:
            return None
        return view if got == stop - start else None
