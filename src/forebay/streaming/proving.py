"""What the whole of a body must come to, and whether it does (RFC 9530 and checksum files).

Digests that are known from the start are computed while the bytes come. Others are asked for
elsewhere (``LookUp``) while the bytes come, and computed from the file from its beginning. Only the
last byte waits for either.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeAlias

from forebay.errors import ForebayError, UpstreamChanged
from forebay.ports import Draft
from forebay.rules.digest_fields import Digests, contradiction, digests_of, may_be_told
from forebay.streaming.digests import BATCH_BYTES, Digester
from forebay.streaming.steadfast import see_through

LookUp: TypeAlias = Callable[[bool], Awaitable[Digests]]
"""Asks for digests of the whole that are told elsewhere; empty where none are. True asks past
everything that is stored. Raises ``ForebayError`` where it cannot be learnt now."""

PATIENCE_SECONDS = 10.0
"""How long a whole body waits for a look-up that was begun before."""

SUMMED_BYTES = BATCH_BYTES
"""Bodies up to this length are summed before they are committed: one trip to a thread, and less
than the change of the index that it spares afterwards."""

log = logging.getLogger("forebay.streaming")


class Proof:
    """The proof of one body, from its first bytes on. Raises what ``Draft.open_reader`` does."""

    def __init__(
        self, draft: Draft, expected: Digests, look_up: LookUp | None, *, is_to_tell: bool
    ) -> None:
        """``is_to_tell``: compute a digest that may be told, where that is cheap."""
        self._draft = draft
        self._expected = expected
        self._claims = digests_of(draft.entry.head)
        self._look_up = look_up
        self._is_to_tell = is_to_tell
        self._asking: asyncio.Task[Digests] | None = None
        self._digesters: list[Digester] = []
        self._hashed: set[str] = set()
        self._hash(name for name, _ in expected)

    @property
    def is_awaited(self) -> bool:
        """Whether the last byte is to wait for it."""
        return bool(self._expected) or self._look_up is not None

    def begin(self) -> None:
        """The whole is on its way: ask for what is told elsewhere. Idempotent."""
        if self._look_up is not None and self._asking is None:
            self._asking = asyncio.create_task(self._ask(self._look_up, afresh=False))
            # Who never comes to ask is no mistake: mark an error as seen.
            self._asking.add_done_callback(lambda task: task.cancelled() or task.exception())

    def grow(self, readable: int) -> None:
        """Bytes up to here are there. Does not wait."""
        for digester in self._digesters:
            digester.grow(readable)

    async def prove(self, length_bytes: int) -> Digests | None:
        """The digests of the whole, sorted; empty where none was asked for.

        None where nothing is proved either way, since it could not be learnt what is expected:
        the body may be read, and is not to be kept. Raises ``UpstreamChanged`` where a digest is
        not as expected, ``StoreError`` where the bytes cannot be read.
        """
        try:
            told = await self._told()
        except ForebayError as trouble:
            log.info("%s is not kept: %s", self._draft.entry.name, trouble)
            return None
        expected = (*self._expected, *told)
        if self._is_to_tell and length_bytes <= SUMMED_BYTES and not may_be_told(expected):
            self._hash(["sha-256"])
        found = await self._found(length_bytes)
        _check(found, self._expected, self._claims)
        if any(found[name] != value for name, value in told):
            found = await self._proved_afresh(length_bytes, found)
        return tuple(sorted(found.items()))

    async def aclose(self) -> None:
        """Release everything. Idempotent."""
        if self._asking is not None:
            self._asking.cancel()
            await see_through(self._asking)
        for digester in self._digesters:
            await digester.aclose()

    async def _proved_afresh(self, length_bytes: int, found: dict[str, str]) -> dict[str, str]:
        """Compared once more, with what is told now: a file may have changed with its sum."""
        if self._look_up is None:
            return found
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                told = await self._ask(self._look_up, afresh=True)
        except (ForebayError, TimeoutError):
            raise UpstreamChanged(
                "What upstream sent is not what its checksum file says, and that file cannot be "
                "had anew; nothing of it was kept."
            ) from None
        found = await self._found(length_bytes)
        _check(found, told, ())
        return found

    async def _told(self) -> Digests:
        self.begin()
        if self._asking is None:
            return ()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await asyncio.shield(self._asking)
        except TimeoutError:
            raise ForebayError("its checksum file did not come in time") from None

    async def _ask(self, look_up: LookUp, *, afresh: bool) -> Digests:
        """What is told, its digests then being computed."""
        try:
            told = await look_up(afresh)
        except ForebayError:
            raise
        except Exception as fault:
            log.exception("a look-up of checksums ended with a fault of ours")
            raise ForebayError("its checksum file could not be read") from fault
        self._hash(name for name, _ in told)
        return told

    def _hash(self, algorithms: Iterable[str]) -> None:
        """Compute these, too, from the beginning of the file."""
        fresh = sorted(set(algorithms) - self._hashed)
        if fresh:
            self._digesters.append(Digester(fresh, self._draft.open_reader()))
            self._hashed.update(fresh)

    async def _found(self, length_bytes: int) -> dict[str, str]:
        found: dict[str, str] = {}
        for digester in self._digesters:
            found |= await digester.finish(length_bytes)
        return found


def _check(found: dict[str, str], expected: Digests, claims: Digests) -> None:
    wrong = contradiction(found, expected, claims)
    if wrong is not None:
        raise UpstreamChanged(wrong)
