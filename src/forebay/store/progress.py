"""How a draft's bytes are seen by the other workers while they arrive.

The index claims only what is durable, at a checkpoint every few seconds. A follower in another
worker needs no durability: what one process has written, every other reads from the page cache.
So a draft of a shared store notes what it has written in a small file of its own, and whoever
follows reads that as often as it likes: one ``pread``, no lock and no database. Behind the note,
in the same file, followers append their wishes: bytes that somebody waits for.

The writer lives as long as its blob is locked (``blobs``). One that dies leaves its note behind,
and its lock free: whoever takes the entry up with ``DiskStore.resume`` begins with what the note
says, which is summed and synced then as at any checkpoint. That is safe because a note is good
for this boot only: no power was cut since, so what was written is there.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from xxhash import xxh3_64_intdigest

from forebay.errors import StoreError
from forebay.model import Interval, Intervals
from forebay.rules import coverage as cov
from forebay.store.blobs import Blobs, is_locked, reader_of

MOST_RUNS = 1024
"""Further runs of a coverage are not noted: readers of those wait for the checkpoint."""
_SUM = struct.Struct("<Q")
_HEAD = struct.Struct("<Qq")  # how many runs; the proven length, or -1
_RUN = struct.Struct("<QQ")
_NOTE_BYTES = _SUM.size + _HEAD.size + MOST_RUNS * _RUN.size
_WISHES_PER_LOOK = 256
_MOST_POSITION = 2**63 - 1


class Note(NamedTuple):
    """What a draft says of itself. ``length_bytes`` is known once every byte is proven."""

    coverage: Intervals
    length_bytes: int | None = None


class Progress:
    """The note of one draft. Written in threads, and never the reason why a write fails."""

    def __init__(self, path: Path, coverage: Intervals) -> None:
        self._path = path
        self._note = Note(coverage)
        self._lock = threading.Lock()
        self._fileno: int | None = None
        self._is_closed = False
        self._heard_bytes = 0

    def begin(self) -> None:
        """Make the file, so that others can see that there is a draft, and wish."""
        with self._lock, suppress(OSError):
            self._write()

    def add(self, interval: Interval) -> None:
        """These bytes can be read now."""
        with self._lock, suppress(OSError):
            self._note = Note(cov.add(self._note.coverage, interval))
            self._write()

    def finish(self, length_bytes: int) -> None:
        """The whole is proven, and so long."""
        with self._lock, suppress(OSError):
            self._note = Note(self._note.coverage, length_bytes)
            self._write()

    def wishes(self) -> Intervals:
        """What followers have wished for since the last call. One ``pread``."""
        with self._lock:
            if self._fileno is None:
                return ()
            at = _NOTE_BYTES + self._heard_bytes
            try:
                told = os.pread(self._fileno, _WISHES_PER_LOOK * _RUN.size, at)
            except OSError:
                return ()
        told = told[: len(told) - len(told) % _RUN.size]
        self._heard_bytes += len(told)
        return cov.normalise(Interval(*run) for run in _RUN.iter_unpack(told) if run[0] < run[1])

    def close(self) -> None:
        """Remove the note: the index says all there is to say. Idempotent."""
        with self._lock:
            self._is_closed = True
            if self._fileno is not None:
                os.close(self._fileno)
                self._fileno = None
                with suppress(OSError):
                    self._path.unlink()

    def _write(self) -> None:
        if self._is_closed:
            return
        if self._fileno is None:
            self._path.parent.mkdir(exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            self._fileno = os.open(self._path, flags, 0o644)
            os.ftruncate(self._fileno, _NOTE_BYTES)  # wishes are appended behind
        os.pwrite(self._fileno, _packed(self._note), 0)


class Following:
    """A draft of another process (``ports.Following``). Close it."""

    def __init__(
        self,
        path: Path,
        blobs: Blobs,
        entry_id: str,
        run: Callable[[Callable[[], None]], object],
    ) -> None:
        """``run`` does a job in a thread. Raises ``FileNotFoundError`` when there is no note or
        no blob."""
        self._run = run
        self._blob = os.open(blobs.path(entry_id), os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._fileno = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except BaseException:
            os.close(self._blob)
            raise
        self._seen = Note(())

    def coverage(self) -> Intervals:
        """What can be read of the blob by now; never less than before. Some microseconds.

        A note that is being written at this moment says what it said last.
        """
        noted = _unpacked(os.pread(self._fileno, _NOTE_BYTES, 0))
        if noted is not None:
            self._seen = Note(cov.union(self._seen.coverage, noted.coverage), noted.length_bytes)
        return self._seen.coverage

    def proven_length_bytes(self) -> int | None:
        """The whole length, from the moment when every byte is there and proven."""
        return self._seen.length_bytes

    def is_being_written(self) -> bool:
        """Whether the writer lives and goes on; if not, the store says what has become of it."""
        return is_locked(self._blob)

    def open_reader(self) -> int:
        """A descriptor of the blob, also when its name is gone; the caller closes it.

        Raises ``StoreError``.
        """
        try:
            return reader_of(self._blob)
        except OSError as error:
            raise StoreError("The stored file cannot be opened.") from error

    def wish(self, interval: Interval) -> None:
        """Tell the writer that somebody waits for these bytes. One small write, in a thread."""
        wish = _RUN.pack(interval.start, min(interval.stop, _MOST_POSITION))
        fileno = os.dup(self._fileno)

        def job() -> None:
            with suppress(OSError):
                os.write(fileno, wish)
            os.close(fileno)

        self._run(job)

    def close(self) -> None:
        """Idempotent."""
        fileno, self._fileno = self._fileno, -1
        if fileno >= 0:
            os.close(fileno)
            os.close(self._blob)
            self._blob = -1


def noted(path: Path) -> Intervals:
    """What a note says that somebody left behind; nothing where there is none of this boot."""
    try:
        note = _unpacked(path.read_bytes()[:_NOTE_BYTES])
    except OSError:
        return ()
    return () if note is None else note.coverage


def remove_leftovers(directory: Path, blobs: Blobs, is_of_use: Callable[[str], bool]) -> int:
    """Remove the notes of the dead, but for those that are of use still; gives their count."""
    removed = 0
    with suppress(FileNotFoundError), os.scandir(directory) as found:
        for one in found:
            if not blobs.is_being_written(one.name) and not is_of_use(one.name):
                with suppress(OSError):
                    os.unlink(one.path)
                    removed += 1
    return removed


def _packed(note: Note) -> bytes:
    coverage = note.coverage[:MOST_RUNS]
    length = -1 if note.length_bytes is None else note.length_bytes
    text = _HEAD.pack(len(coverage), length) + b"".join(_RUN.pack(*run) for run in coverage)
    return _SUM.pack(_sum(text)) + text


def _sum(text: bytes) -> int:
    return xxh3_64_intdigest(text, seed=_THIS_BOOT)


def _this_boot() -> int:
    """A number that is another after every start of the machine, where the system tells."""
    with suppress(OSError):
        return xxh3_64_intdigest(Path("/proc/sys/kernel/random/boot_id").read_bytes())
    return 0


_THIS_BOOT = _this_boot()
"""A note from before a power cut tells of bytes that were in memory then: it is no note now."""


def _unpacked(packed: bytes) -> Note | None:
    """What ``_packed`` made, None for anything else."""
    if len(packed) < _SUM.size + _HEAD.size:
        return None
    (value,) = _SUM.unpack_from(packed)
    count, length = _HEAD.unpack_from(packed, _SUM.size)
    if count > MOST_RUNS:
        return None
    text = packed[_SUM.size : _SUM.size + _HEAD.size + count * _RUN.size]
    if len(text) != _HEAD.size + count * _RUN.size or _sum(text) != value:
        return None
    coverage = tuple(Interval(*run) for run in _RUN.iter_unpack(text[_HEAD.size :]))
    return Note(coverage, None if length < 0 else length)
