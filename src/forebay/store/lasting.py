"""A small file of the cache directory that stays open, for as long as the store does."""

from __future__ import annotations

import os
from pathlib import Path


class LastingFile:
    """Opened by one thread and used by others; nobody waits."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fileno: int | None = None

    def open(self) -> None:
        """Open or create the file, again after the directory was deleted. Raises ``OSError``.

        The descriptor's number stays, because other threads may be using it: a number that is
        closed here and given to a blob meanwhile would have something else written into it.
        """
        fileno = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if self._fileno is None:
            self._fileno = fileno
        else:
            os.dup2(fileno, self._fileno, inheritable=False)
            os.close(fileno)

    def close(self) -> None:
        """Idempotent; called when nobody uses the store any more. Locks on the file end."""
        fileno, self._fileno = self._fileno, None
        if fileno is not None:
            os.close(fileno)
