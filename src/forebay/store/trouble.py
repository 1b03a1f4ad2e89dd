"""Trouble with the disk: foreign exceptions become ours here, and the state is remembered."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
from typing import TypeAlias

from forebay.errors import StoreError, StoreFull

log = logging.getLogger("forebay.store")

Foreign: TypeAlias = OSError | sqlite3.Error

_FULL = {errno.ENOSPC, errno.EDQUOT}
_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def is_corruption(error: BaseException) -> bool:
    """Whether the index file itself is broken, so that only a new one helps."""
    return isinstance(error, sqlite3.Error) and _primary_code(error) in _CORRUPT


def is_full_index(error: BaseException) -> bool:
    """Whether the index could not be written for want of space."""
    return isinstance(error, sqlite3.Error) and _primary_code(error) == sqlite3.SQLITE_FULL


def translated(error: Foreign) -> StoreError:
    """The same trouble as one of our errors, with a sentence that names no path."""
    if isinstance(error, OSError):
        if error.errno in _FULL:
            return StoreFull("The disk of the cache is full: free some space on it.")
        reason = os.strerror(error.errno) if error.errno else str(error)
        return StoreError(f"The disk of the cache refuses work: {reason}.")
    if is_full_index(error):
        return StoreFull("The disk of the cache is full: free some space on it.")
    return StoreError(f"The index of the cache refuses work: {error}.")


def _primary_code(error: sqlite3.Error) -> int:
    """SQLite's result code without its extension; 0 where the error did not come from it."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


class Health:
    """What ails the disk at the moment, part by part ("index", "blobs").

    A part is ill from its first failure to its next success; both are logged, and what
    happens between is not, so that a full disk does not fill the log as well.
    """

    def __init__(self) -> None:
        self._trouble: dict[str, str] = {}

    def failed(self, part: str, error: Foreign) -> StoreError:
        """Note the trouble and give the error to raise for it."""
        ours = translated(error)
        self.refused(part, ours)
        return ours

    def refused(self, part: str, error: StoreError) -> None:
        """Note trouble that is one of our errors already."""
        if part not in self._trouble:
            log.warning("%s Downloads go on without the cache.", error.detail)
        self._trouble[part] = error.detail

    def succeeded(self, part: str) -> None:
        """Note that this part does its work (again)."""
        if self._trouble and self._trouble.pop(part, None) is not None:
            log.warning("The cache's %s works again.", part)

    def is_ill(self, part: str) -> bool:
        """Whether the last work of this part failed."""
        return part in self._trouble

    @property
    def trouble(self) -> str | None:
        """A sentence for the operator, None when all is well."""
        return " ".join(self._trouble.values()) or None
