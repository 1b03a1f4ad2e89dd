"""Turns at a question to upstream: who asks, and who waits for what the asker finds.

A turn is a lock on one byte of a file that all workers have open, at a place that the question
chooses. It costs a microsecond, leaves nothing behind, and dies with its process: nothing is
ever stale after ``kill -9``. Two questions that meet at one byte wait for each other in vain,
once in 2**62 pairs, and are right all the same.
"""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

from xxhash import xxh3_64_intdigest

from forebay.store.lasting import LastingFile

_PLACES = 2**62
# Locks of the open file (OFD) where the system has them: two stores in one process then are two.
_OFD_SET: int | None = getattr(fcntl, "F_OFD_SETLK", None)
_FLOCK = struct.Struct("hhqqi4x")  # type, whence, start, length, pid


class Turns(LastingFile):
    """The turns of all workers on one directory. Nothing here waits."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._held: dict[int, int] = {}

    def take(self, question: str) -> bool:
        """Whether the turn at this question is this process's now."""
        place = _place(question)
        if place not in self._held and not self._lock(place, fcntl.LOCK_EX):
            return False
        self._held[place] = self._held.get(place, 0) + 1
        return True

    def give_up(self, question: str) -> None:
        """Let others ask. As often as it was taken."""
        place = _place(question)
        left = self._held.pop(place, 1) - 1
        if left:
            self._held[place] = left
        else:
            self._lock(place, fcntl.LOCK_UN)

    def is_free(self, question: str) -> bool:
        """Whether nobody else has this turn at the moment."""
        place = _place(question)
        if place in self._held:
            return True
        if not self._lock(place, fcntl.LOCK_EX):
            return False
        self._lock(place, fcntl.LOCK_UN)
        return True

    def _lock(self, place: int, kind: int) -> bool:
        """Lock or unlock; true as well where the system refuses to: then nobody waits."""
        if self._fileno is None:
            return True
        try:
            if _OFD_SET is None:
                fcntl.lockf(self._fileno, kind | fcntl.LOCK_NB, 1, place)
            else:
                name = fcntl.F_UNLCK if kind == fcntl.LOCK_UN else fcntl.F_WRLCK
                fcntl.fcntl(self._fileno, _OFD_SET, _FLOCK.pack(name, os.SEEK_SET, place, 1, 0))
        except (BlockingIOError, PermissionError):
            return False
        except OSError:
            return True
        return True


def _place(question: str) -> int:
    return xxh3_64_intdigest(question.encode()) % _PLACES
