"""The sparse files with the entries' bytes. Everything here blocks for as long as the disk does.

A blob that is being written is locked (``flock``) by the descriptor that writes it. The lock
tells the workers of one service apart from the dead: a blob without row and without lock is a
leftover and may go, one with a lock is somebody's draft.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from forebay.errors import EntryDamaged, StoreError
from forebay.model import Octets

PIECES_PER_CALL = min(os.sysconf("SC_IOV_MAX"), 1024)
BLOCK_BYTES = 4096
"""Sizes that are promised are rounded up to this, the block of almost every file system."""

_ENTRY_ID = re.compile(r"[0-9A-Za-z_-]{4,64}")
_STAT_BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system's own block is
_HEX = "0123456789abcdef"
_LOCK_TRIES = 5
_LOCK_PAUSE_SECONDS = 0.001


class Measure(NamedTuple):
    """What a blob is: where its last byte ends, and what it takes on disk."""

    length_bytes: int
    size_bytes: int


def rounded_up(size_bytes: int) -> int:
    """The size in whole blocks."""
    return -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES


def new_id(now: float) -> str:
    """An entry id that nobody has. Those of one second lie in one shard, whose directory is then
    synced once for all that are stored together."""
    return f"{int(now) % 256:02x}{os.urandom(15).hex()}"


class Blobs:
    """The files below one directory, named by entry id, in up to 256 shards and more."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._prefix = os.fspath(directory) + os.sep

    def prepare(self) -> None:
        """Make the directory and its usual shards."""
        for first in _HEX:
            for second in _HEX:
                (self._directory / (first + second)).mkdir(parents=True, exist_ok=True)

    def path(self, entry_id: str) -> Path:
        """Where the blob lies. Raises ``ValueError`` as ``check``."""
        self.check(entry_id)
        return self._directory / entry_id[:2] / entry_id

    def check(self, entry_id: str) -> None:
        """Raise ``ValueError`` for an id that could lead elsewhere."""
        if not _ENTRY_ID.fullmatch(entry_id):
            raise ValueError("an entry id has 4 to 64 letters, digits, - or _")

    def create(self, entry_id: str) -> int:
        """A new, empty, locked blob; gives its descriptor for reading and writing."""
        path = self.path(entry_id)
        while True:
            try:
                fileno = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            except FileNotFoundError:
                path.parent.mkdir(parents=True, exist_ok=True)
                continue
            # Between opening and locking, a sweep may have taken it for a leftover.
            fcntl.flock(fileno, fcntl.LOCK_EX)
            if os.fstat(fileno).st_nlink:
                return fileno
            os.close(fileno)

    def open_for_writing(self, entry_id: str) -> int:
        """The locked descriptor of a blob that is there.

        Raises ``EntryDamaged`` when it is gone, ``StoreError`` when somebody else writes it.
        """
        try:
            fileno = os.open(self._known(entry_id), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            raise EntryDamaged("The stored file is gone: fetch it again.") from None
        if not _locked(fileno):
            os.close(fileno)
            raise StoreError("Another transfer is writing this entry at the moment.")
        return fileno

    def open_for_reading(self, entry_id: str, covered_bytes: int, *, exactly: bool) -> int:
        """A descriptor of a blob that holds at least, or exactly, so many bytes.

        Raises ``EntryDamaged`` when it is gone or has not.
        """
        try:
            fileno = os.open(self._known(entry_id), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise EntryDamaged("The stored file is gone: fetch it again.") from None
        length = os.fstat(fileno).st_size
        if length < covered_bytes or (exactly and length != covered_bytes):
            os.close(fileno)
            raise EntryDamaged("The stored file has not the length it should: fetch it again.")
        return fileno

    def remove(self, entry_id: str) -> None:
        """Unlink the blob if it is there; open descriptors go on working."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            os.unlink(self.path(entry_id))

    def remove_leftover(self, entry_id: str, is_claimed: Callable[[str], bool]) -> bool:
        """Unlink a blob that nobody claims or writes; whether it went.

        The claim is looked up while the blob is locked: its writer has then either finished,
        row and all, or has not begun, and will see in ``create`` that the name is gone.
        """
        try:
            fileno = os.open(self.path(entry_id), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (FileNotFoundError, ValueError):
            return False
        try:
            fcntl.flock(fileno, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_claimed(entry_id):
                return False
            self.remove(entry_id)
        except BlockingIOError:
            return False
        finally:
            os.close(fileno)
        return True

    def is_being_written(self, entry_id: str) -> bool:
        """Whether a draft of any process holds this blob."""
        try:
            fileno = os.open(self.path(entry_id), os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, ValueError):
            return False
        try:
            return is_locked(fileno)
        finally:
            os.close(fileno)

    def sync_name(self, entry_id: str) -> None:
        """Make the blob's name durable; its bytes are synced through its descriptor."""
        fileno = os.open(self.path(entry_id).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fileno)
        finally:
            os.close(fileno)

    def shards(self) -> list[str]:
        """The names of the shards that are there."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self._directory) as found:
            return sorted(one.name for one in found if one.is_dir(follow_symlinks=False))
        return []

    def in_shard(self, shard: str) -> dict[str, Measure]:
        """Every file of a shard, whatever its name, with its measure."""
        measures = {}
        with contextlib.suppress(FileNotFoundError), os.scandir(self._directory / shard) as found:
            for one in found:
                with contextlib.suppress(FileNotFoundError):
                    measures[one.name] = _measure(one.stat(follow_symlinks=False))
        return measures

    def free_bytes(self) -> int:
        """What the file system has left for us."""
        space = os.statvfs(self._directory)
        return space.f_bavail * space.f_frsize

    def probe(self) -> None:
        """Write something and remove it: raises ``OSError`` while the disk refuses work."""
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._directory / f"probe.{os.getpid()}"
        try:
            fileno = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                write_pieces(fileno, 0, [bytes(BLOCK_BYTES)])
                os.fdatasync(fileno)
            finally:
                os.close(fileno)
        finally:
            path.unlink(missing_ok=True)

    def _known(self, entry_id: str) -> str:
        """As ``path``, for every hit: a ``Path`` costs more than opening the file."""
        if not _ENTRY_ID.fullmatch(entry_id):
            raise EntryDamaged("The stored entry names no file: fetch it again.")
        return f"{self._prefix}{entry_id[:2]}{os.sep}{entry_id}"


def write_pieces(fileno: int, position: int, pieces: Sequence[Octets]) -> int:
    """Write the pieces one behind the other, uncopied; gives what the blob takes on disk now.

    Raises ``OSError``, with some of the bytes written or none.
    """
    left: list[Octets] = [piece for piece in pieces if piece]
    while left:
        written = os.pwritev(fileno, left[:PIECES_PER_CALL], position)
        if written <= 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        position += written
        left = _after(left, written)
    return measure(fileno).size_bytes


def measure(fileno: int) -> Measure:
    """What the open blob is now."""
    return _measure(os.fstat(fileno))


def sync(fileno: int) -> Measure:
    """Make the blob's bytes and length durable, and measure it."""
    os.fdatasync(fileno)
    return measure(fileno)


def reader_of(fileno: int) -> int:
    """A new descriptor for reading what this one writes, even when its name is gone.

    Opened anew through /proc, so that it can neither write nor move the writer's offset; a
    duplicate does where there is no /proc.
    """
    try:
        return os.open(f"/proc/self/fd/{fileno}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return os.dup(fileno)


def release(fileno: int) -> None:
    """Unlock and close a descriptor that wrote. Unlocked by hand, because duplicates keep it."""
    try:
        fcntl.flock(fileno, fcntl.LOCK_UN)
    finally:
        os.close(fileno)


def is_locked(fileno: int) -> bool:
    """Whether somebody writes this blob, through another descriptor. Does not wait."""
    try:
        fcntl.flock(fileno, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(fileno, fcntl.LOCK_UN)
    return False


def _locked(fileno: int) -> bool:
    """Lock a blob for writing. Those who only look whether it is locked hold it for moments."""
    for _ in range(_LOCK_TRIES):
        try:
            fcntl.flock(fileno, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOCK_PAUSE_SECONDS)
        else:
            return True
    return False


def _measure(found: os.stat_result) -> Measure:
    return Measure(found.st_size, found.st_blocks * _STAT_BLOCK_BYTES)


def _after(pieces: list[Octets], written: int) -> list[Octets]:
    """What is left of the pieces after so many bytes."""
    for number, piece in enumerate(pieces):
        if written < len(piece):
            rest: list[Octets] = pieces[number:]
            if written:
                rest[0] = memoryview(piece)[written:]
            return rest
        written -= len(piece)
    return []
