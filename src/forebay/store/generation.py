"""How one worker's change of the index is seen at once by the memory of all the others."""

from __future__ import annotations

import os

from forebay.store.lasting import LastingFile

_TOKEN_BYTES = 16


class Generation(LastingFile):
    """A small file whose content changes after every committed change of the index.

    It holds a random token and not a count: two processes that write at once cannot lose a
    change that way, and a torn read is simply one more difference. Read with ``pread``,
    never mapped: a mapped file that somebody truncates would kill the process.
    """

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
