"""One service at a time on one cache directory, or the workers of one service together."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from forebay.errors import StoreError


class DirectoryLock:
    """A lock that dies with its process, so that nothing is stale after ``kill -9``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fileno: int | None = None

    def acquire(self, *, shared: bool) -> None:
        """Take the directory for this service alone, or with others that share it.

        Raises ``StoreError`` when somebody uses it who does not share, ``OSError`` when the
        lock file cannot be opened.
        """
        fileno = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fileno, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = self._holder(fileno)
            os.close(fileno)
            raise StoreError(
                f"The cache directory {self._path.parent} is in use by another Forebay{holder}: "
                "stop that one, or give this one a directory of its own (cache.dir)."
            ) from None
        except BaseException:
            os.close(fileno)
            raise
        # Only a hint for the sentence above; the lock itself is the kernel's.
        with contextlib.suppress(OSError):
            os.pwrite(fileno, f"{os.getpid():<20}\n".encode(), 0)
        self._fileno = fileno

    def release(self) -> None:
        """Give the directory up. Idempotent."""
        if self._fileno is not None:
            fcntl.flock(self._fileno, fcntl.LOCK_UN)
            os.close(self._fileno)
            self._fileno = None

    @staticmethod
    def _holder(fileno: int) -> str:
        noted = os.pread(fileno, 32, 0).decode("ascii", "replace").strip()
        return f" (process {noted})" if noted.isdigit() else ""
