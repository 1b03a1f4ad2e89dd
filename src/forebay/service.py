"""The story: one request from target to reply. (Being written; its face is settled.)"""

from __future__ import annotations

from collections.abc import AsyncIterator

from forebay.model import Request
from forebay.ports import Reply, Selection
from forebay.views import ObjectView, PurgeResult, Statistics, TransferView


class Service:
    """Answers requests from the store and from upstreams, and keeps count."""

    async def respond(
        self,
        request: Request,
        *,
        body: AsyncIterator[bytes] | None = None,
        body_length_bytes: int | None = None,
        url: str | None = None,
        expected_digests: tuple[tuple[str, str], ...] = (),
    ) -> Reply:
        """The reply to one request.

        ``url`` names the target where the path does not (``/-/fetch?url=``). Raises
        ``ForebayError`` (never anything else) when there is no reply to give.
        """
        raise NotImplementedError

    async def purge_request(self, request: Request) -> PurgeResult:
        """Purge the object that this request's target names (the PURGE method)."""
        raise NotImplementedError

    async def purge(self, selection: Selection, *, dry_run: bool = False) -> PurgeResult:
        """Remove what is selected; running transfers of it serve their readers to the end."""
        raise NotImplementedError

    def key_of(self, url: str) -> str:
        """The cache key of an absolute URL as URL-in-path or its mount would have it."""
        raise NotImplementedError

    async def objects(self, *, prefix: str = "", limit: int = 1000) -> list[ObjectView]:
        """Stored objects whose name begins with ``prefix``, most recently used first."""
        raise NotImplementedError

    def transfers(self) -> list[TransferView]:
        """Every transfer that is running now."""
        raise NotImplementedError

    async def statistics(self) -> Statistics:
        """Totals since start and the state of the store."""
        raise NotImplementedError

    def note_served(self, reply: Reply, sent_bytes: int) -> None:
        """Count what was really sent to the client of this reply."""
        raise NotImplementedError
