"""How a draft's bytes are seen by the other workers while they arrive.

The index claims only what is durable, at a checkpoint every few seconds. A follower in another
worker needs no durability: what one process has written, every other reads from the page cache.
So a draft of a shared store notes what it has written in a small file of its own, and whoever
follows reads that as often as it likes: one ``pread``, no lock and no database.

The writer lives as long as its blob is locked (``blobs``). One that dies leaves its note behind,
and its lock free: the follower takes the entry up with ``DiskStore.resume``, which begins at the
last checkpoint, because nobody can say what of the rest a power cut has spared.
"""

from __future__ import annotations

import os
import struct
import threading
from contextlib import suppress
from pathlib import Path

from xxhash import xxh3_64_intdigest

from forebay.model import Interval, Intervals
from forebay.rules import coverage as cov
from forebay.store.blobs import Blobs

MOST_RUNS = 1024
"""Further runs of a coverage are not noted: readers of those wait for the checkpoint."""
_HEAD = struct.Struct("<QQ")  # checksum of the rest, how many runs
_RUN = struct.Struct("<QQ")
_MOST_BYTES = _HEAD.size + MOST_RUNS * _RUN.size


class Progress:
    """The note of one draft. Used in threads, and never the reason why a write fails."""

    def __init__(self, path: Path, coverage: Intervals) -> None:
        self._path = path
        self._coverage = coverage
        self._lock = threading.Lock()
        self._fileno: int | None = None
        self._is_closed = False

    def add(self, interval: Interval) -> None:
        """These bytes can be read now."""
        with self._lock, suppress(OSError):
            self._coverage = cov.add(self._coverage, interval)
            if self._is_closed:
                return
            if self._fileno is None:
                self._path.parent.mkdir(exist_ok=True)
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
                self._fileno = os.open(self._path, flags, 0o644)
            os.pwrite(self._fileno, _packed(self._coverage), 0)

    def close(self) -> None:
        """Remove the note: the index says all there is to say. Idempotent."""
        with self._lock:
            self._is_closed = True
            if self._fileno is not None:
                os.close(self._fileno)
                self._fileno = None
                with suppress(OSError):
                    self._path.unlink()


class Following:
    """A draft of another process, as somebody sees it who waits for its bytes. Close it."""

    def __init__(self, path: Path, blobs: Blobs, entry_id: str) -> None:
        """Raises ``FileNotFoundError`` when there is no note."""
        self._fileno = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._blobs = blobs
        self._entry_id = entry_id
        self._seen: Intervals = ()

    def coverage(self) -> Intervals:
        """What can be read of the blob by now; never less than before. Some microseconds.

        A note that is being written at this moment says what it said last.
        """
        noted = _unpacked(os.pread(self._fileno, _MOST_BYTES, 0))
        if noted is not None:
            self._seen = cov.union(self._seen, noted)
        return self._seen

    def is_being_written(self) -> bool:
        """Whether the writer lives and goes on; if not, the store says what has become of it."""
        return self._blobs.is_being_written(self._entry_id)

    def close(self) -> None:
        """Idempotent."""
        if self._fileno >= 0:
            os.close(self._fileno)
            self._fileno = -1


def remove_leftovers(directory: Path, blobs: Blobs) -> int:
    """Remove the notes of the dead; gives their count."""
    removed = 0
    with suppress(FileNotFoundError), os.scandir(directory) as found:
        for one in found:
            if not blobs.is_being_written(one.name):
                with suppress(OSError):
                    os.unlink(one.path)
                    removed += 1
    return removed


def _packed(coverage: Intervals) -> bytes:
    runs = b"".join(_RUN.pack(*run) for run in coverage[:MOST_RUNS])
    return _HEAD.pack(_sum(runs), len(runs) // _RUN.size) + runs


def _sum(runs: bytes) -> int:
    return xxh3_64_intdigest(runs, seed=_THIS_BOOT)


def _this_boot() -> int:
    """A number that is another after every start of the machine, where the system tells."""
    with suppress(OSError):
        return xxh3_64_intdigest(Path("/proc/sys/kernel/random/boot_id").read_bytes())
    return 0


_THIS_BOOT = _this_boot()
"""A note from before a power cut tells of bytes that were in memory then: it is no note now."""


def _unpacked(note: bytes) -> Intervals | None:
    """What ``_packed`` made, None for anything else."""
    if len(note) < _HEAD.size:
        return None
    value, count = _HEAD.unpack_from(note)
    runs = note[_HEAD.size : _HEAD.size + count * _RUN.size] if count <= MOST_RUNS else b""
    if len(runs) != count * _RUN.size or _sum(runs) != value:
        return None
    return tuple(Interval(*run) for run in _RUN.iter_unpack(runs))
