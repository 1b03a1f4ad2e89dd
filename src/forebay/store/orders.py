"""Purges as the other workers' running questions hear of them.

What is stored is gone for everybody by the index. What is still being asked for is in no index:
a worker that asked before the purge and is answered after it must not keep the answer. So
a purge is noted here first, one line each, and whoever is about to keep something reads what was
noted since he asked.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from forebay.ports import Selection

_MOST_BYTES = 1024 * 1024
"""Then the file begins anew; whoever asked before that keeps nothing, which is never wrong."""


class Moment(NamedTuple):
    """A place in the file: which file, and how far it had been written."""

    inode: int
    size_bytes: int


class Orders:
    """The file of purges. Everything here blocks for as long as the disk does."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def now(self) -> Moment:
        """The moment of the call. Raises ``OSError``."""
        fileno = os.open(self._path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            found = os.fstat(fileno)
        finally:
            os.close(fileno)
        return Moment(found.st_ino, found.st_size)

    def note(self, selection: Selection) -> None:
        """Add a purge. Raises ``OSError``: it must not go on unheard then."""
        line = json.dumps({k: v for k, v in asdict(selection).items() if v}).encode() + b"\n"
        while True:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            fileno = os.open(self._path, flags, 0o644)
            try:
                fcntl.flock(fileno, fcntl.LOCK_EX)
                found = os.fstat(fileno)
                if found.st_nlink == 0:
                    continue  # somebody began it anew meanwhile
                if found.st_size > _MOST_BYTES:
                    self._begin_anew()
                    continue
                os.write(fileno, line)
                return
            finally:
                os.close(fileno)

    def since(self, moment: Moment) -> list[Selection] | None:
        """What was purged since then; None where that cannot be told. Raises ``OSError``."""
        fileno = os.open(self._path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            found = os.fstat(fileno)
            if found.st_ino != moment.inode or found.st_size < moment.size_bytes:
                return None
            text = os.pread(fileno, found.st_size - moment.size_bytes, moment.size_bytes)
        finally:
            os.close(fileno)
        try:
            return [Selection(**json.loads(line)) for line in text.splitlines()]
        except (ValueError, TypeError):
            return None

    def _begin_anew(self) -> None:
        fresh = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        fresh.write_bytes(b"")
        fresh.replace(self._path)
