"""What the index is told of a transfer's bytes, and when: one word at a time."""

from __future__ import annotations

import asyncio
import contextlib
import sys

from forebay.errors import StoreError
from forebay.model import Entry, Interval, Intervals
from forebay.ports import Draft
from forebay.rules import coverage as cov


class Keeper:
    """Checkpoints and the commit of one draft, never two at a time, and none after the end.

    With ``proves_whole`` only the commit may claim the whole: digests are expected, and a
    checkpoint that claimed every byte would be taken for good after a restart.
    """

    def __init__(self, draft: Draft, *, proves_whole: bool) -> None:
        self._draft = draft
        self._proves_whole = proves_whole
        self._claimed: Intervals = draft.entry.coverage
        self._turn = asyncio.Lock()
        self._is_over = False

    async def checkpoint(self, coverage: Intervals, length_bytes: int | None) -> None:
        """Let the index claim these bytes. Trouble means that it claims less; raises nothing."""
        async with self._turn:
            if self._is_over or length_bytes is None:
                return
            if self._proves_whole and cov.contains(coverage, Interval(0, length_bytes)):
                coverage = cov.subtract(coverage, (Interval(length_bytes - 1, sys.maxsize),))
            if coverage == self._claimed:
                return
            with contextlib.suppress(StoreError):
                await self._draft.checkpoint(coverage)
                self._claimed = coverage

    async def commit(self, entry: Entry) -> bool:
        """Make it complete; False where it was purged meanwhile. Raises ``StoreError``."""
        async with self._turn:
            return await self._draft.commit(entry)

    def end(self) -> None:
        """Everything that there is to say has been said."""
        self._is_over = True
