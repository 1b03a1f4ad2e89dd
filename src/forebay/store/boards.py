"""What each worker has counted, for whichever of them is asked for the counts of the service.

One file for each worker, written in place a few times a second and locked while its worker lives.
The file of a worker that died stays, so that its counts stay in the sum, until a worker that takes
its place adds them to its own. ``run`` names one start of a service: files of others go.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import struct
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from xxhash import xxh3_64_intdigest

from forebay.ports import Report
from forebay.store.blobs import is_locked

_HEAD = struct.Struct("<QQ")  # checksum of the text, its length
_TRIES = 5
_PAUSE_SECONDS = 0.001


class Board:
    """The reports of one service's workers. Everything here blocks for as long as the disk does."""

    def __init__(self, directory: Path, run: str) -> None:
        self._directory = directory
        self._run = run
        self._path = directory / f"{run}.{os.getpid()}-{secrets.token_hex(4)}"
        self._fileno: int | None = None
        self._inherited: Counter[str] = Counter()

    def open(self) -> None:
        """Take the place of the dead, and clear away what other services left."""
        self._directory.mkdir(exist_ok=True)
        with self._held(fcntl.LOCK_EX):
            for path in self._files():
                with suppress(OSError):
                    report, lives = _read(path)
                    if lives:
                        continue
                    if report is not None and self._is_of_this_run(path):
                        self._inherited.update(report.counts)
                    path.unlink()
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._fileno = os.open(self._path, flags, 0o644)
            fcntl.flock(self._fileno, fcntl.LOCK_EX)
            self.post(Report({}, {}))

    def post(self, report: Report) -> None:
        """Say what this worker has counted by now. Raises ``OSError``."""
        if self._fileno is None:
            return
        counts = self._inherited + Counter(report.counts)
        text = json.dumps({"counts": counts, "now": report.now}).encode()
        os.pwrite(self._fileno, _HEAD.pack(xxh3_64_intdigest(text), len(text)) + text, 0)

    def others(self) -> list[Report]:
        """What the others have said last, and what this worker has inherited. Raises ``OSError``.

        ``now`` is empty for those who live no more.
        """
        found = [Report(dict(self._inherited), {})]
        with self._held(fcntl.LOCK_SH):
            for path in self._files():
                if path != self._path and self._is_of_this_run(path):
                    with suppress(OSError):
                        report, lives = _read(path)
                        if report is not None:
                            found.append(report if lives else Report(report.counts, {}))
        return found

    def close(self) -> None:
        """Count on as one of the dead. Idempotent."""
        if self._fileno is not None:
            os.close(self._fileno)
            self._fileno = None

    def _files(self) -> list[Path]:
        return sorted(self._directory.iterdir())

    def _is_of_this_run(self, path: Path) -> bool:
        return path.name.startswith(f"{self._run}.")

    @contextmanager
    def _held(self, kind: int) -> Iterator[None]:
        """Nobody takes a dead one's place while the reports are added up."""
        fileno = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fileno, kind)
            yield
        finally:
            os.close(fileno)


def _read(path: Path) -> tuple[Report | None, bool]:
    """A report, None where there is none, and whether its worker lives."""
    fileno = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        lives = is_locked(fileno)
        for _ in range(_TRIES):
            report = _unpacked(os.pread(fileno, os.fstat(fileno).st_size, 0))
            if report is not None:
                return report, lives
            time.sleep(_PAUSE_SECONDS)  # it is being written at this moment
    finally:
        os.close(fileno)
    return None, lives


def _unpacked(packed: bytes) -> Report | None:
    if len(packed) < _HEAD.size:
        return None
    value, length = _HEAD.unpack_from(packed)
    text = packed[_HEAD.size : _HEAD.size + length]
    if len(text) != length or xxh3_64_intdigest(text) != value:
        return None
    report: dict[str, Any] = json.loads(text)
    return Report(report["counts"], report["now"])
