"""How one worker's change of the index is seen at once by the memory of all the others."""

from __future__ import annotations

import os
from pathlib import Path

_TOKEN_BYTES = 16


class Generation:
    """A small file whose content changes after every committed change of the index.

    It holds a random token and not a count: two processes that write at once cannot lose a
    change that way, and a torn read is simply one more difference. Read with ``pread``,
    never mapped: a mapped file that somebody truncates would kill the process.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fileno: int | None = None

    def open(self) -> None:
        """Open or create the file, again after the directory was deleted. Raises ``OSError``.

        The descriptor's number stays, because other threads may be using it: a number that is
        closed here and given to a blob meanwhile would have a token written into it.
        """
        fileno = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if self._fileno is None:
            self._fileno = fileno
        else:
            os.dup2(fileno, self._fileno, inheritable=False)
            os.close(fileno)

    def close(self) -> None:
        """Idempotent; called when nobody uses the store any more."""
        fileno, self._fileno = self._fileno, None
        if fileno is not None:
            os.close(fileno)

    def read(self) -> bytes | None:
        """The token now, a microsecond's work; None when it cannot be read, which equals nothing.

        Read it *before* the index, so that what is remembered under it is never older.
        """
        if self._fileno is None:
            return None
        try:
            return os.pread(self._fileno, _TOKEN_BYTES, 0)
        except OSError:
            return None

    def bump(self) -> None:
        """Tell all workers that the index has changed, after the change is committed.

        Raises ``OSError``: whoever cannot tell must not say that a purge is done.
        """
        if self._fileno is not None:
            os.pwrite(self._fileno, os.urandom(_TOKEN_BYTES), 0)
