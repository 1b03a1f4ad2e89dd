"""A disk that loses what was not synced: what a power cut at any moment may leave behind.

``LossyOs`` stands in for the ``os`` module where blobs are written and the index is synced. It
does everything for real, and remembers on the side what of it would have survived: bytes since
their last sync may be there or not, write by write; new names may be gone and removed ones back;
the index's log may end anywhere behind its last sync.
"""

from __future__ import annotations

import os
import random
import shutil
import stat
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forebay.store.blobs import Blobs


@dataclass(slots=True)
class _File:
    """A blob: what surely survives, and what may."""

    name: str
    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes]] = field(default_factory=list)
    is_name_durable: bool = False
    is_removed: bool = False

    def after_cut(self, choice: random.Random) -> bytes | None:
        """The content after a power cut, None where the file is not there."""
        if self.is_removed and choice.random() < 0.6:
            return None
        if not self.is_name_durable and choice.random() < 0.5:
            return None
        content = bytearray(self.durable)
        for position, piece in self.pending:
            if choice.random() < 0.5:
                _write(content, position, piece)
        return bytes(content)


class LossyOs:
    """Stands in for ``os``; ``on_step`` is called before and after whatever changes the disk."""

    def __init__(self, directory: Path, on_step: Callable[[], None]) -> None:
        self._directory = directory
        self._on_step = on_step
        self._lock = threading.RLock()
        self._files: dict[int, _File] = {}
        self._log_bytes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, path: Path, flags: int, mode: int = 0o777) -> int:
        with self._lock:
            fileno = os.open(path, flags, mode)
            if flags & os.O_CREAT:
                self._files[os.fstat(fileno).st_ino] = _File(Path(path).name)
                self._on_step()
            return fileno

    def pwritev(self, fileno: int, pieces: Sequence[bytes], position: int) -> int:
        with self._lock:
            self._on_step()
            written = os.pwritev(fileno, pieces, position)
            self._of(fileno).pending.append((position, b"".join(pieces)[:written]))
            self._on_step()
            return written

    def fdatasync(self, fileno: int) -> None:
        with self._lock:
            self._on_step()
            if os.readlink(f"/proc/self/fd/{fileno}").endswith("-wal"):
                self._log_bytes = os.fstat(fileno).st_size
            else:
                file = self._of(fileno)
                for position, piece in file.pending:
                    _write(file.durable, position, piece)
                file.pending.clear()
            self._on_step()

    def fsync(self, fileno: int) -> None:
        with self._lock:
            self._on_step()
            assert stat.S_ISDIR(os.fstat(fileno).st_mode)
            there = {found.inode() for found in os.scandir(fileno)}
            for inode in there & self._files.keys():
                self._files[inode].is_name_durable = True
            self._on_step()

    def unlink(self, path: Path) -> None:
        with self._lock:
            self._on_step()
            file = self._files.get(os.stat(path).st_ino)
            os.unlink(path)
            if file is not None:
                file.is_removed = True
            self._on_step()

    def cut(self, target: Path, choice: random.Random) -> None:
        """Write into ``target`` what might lie on disk if the power failed now."""
        with self._lock:
            index = target / "index"
            index.mkdir(parents=True)
            shutil.copy(self._directory / "version", target)
            shutil.copy(self._directory / "index" / "cache.db", index)
            log = (self._directory / "index" / "cache.db-wal").read_bytes()
            (index / "cache.db-wal").write_bytes(
                log[: choice.randint(min(self._log_bytes, len(log)), len(log))]
            )
            blobs = Blobs(target / "blobs")
            for file in self._files.values():
                content = file.after_cut(choice)
                if content is not None:
                    path = blobs.path(file.name)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)

    def _of(self, fileno: int) -> _File:
        return self._files.setdefault(os.fstat(fileno).st_ino, _File("unknown"))


def _write(content: bytearray, position: int, piece: bytes) -> None:
    if len(content) < position:
        content.extend(bytes(position - len(content)))
    content[position : position + len(piece)] = piece
