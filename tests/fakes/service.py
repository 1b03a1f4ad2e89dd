"""A service that answers from a script, and bodies that do whatever a test wants of them."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from forebay.errors import InvalidTarget, UnknownMount
from forebay.model import CacheOutcome, CacheStatus, Fields, Request, Window
from forebay.ports import Reply, Selection
from forebay.service import Service
from forebay.views import ObjectPage, ObjectView, PinResult, PurgeResult, Statistics, TransferView


class Hang:
    """A step that never ends: an upstream that has gone silent."""


Step: TypeAlias = Window | bytes | float | Exception | Hang
"""A piece to give, seconds to wait, an error to raise, or silence."""


class ScriptedBody:
    """A ``Body`` that performs its steps; owns ``descriptors`` and closes them once."""

    def __init__(self, steps: Sequence[Step], descriptors: Sequence[int] = ()) -> None:
        self._steps = list(steps)
        self._descriptors = list(descriptors)
        self.close_calls = 0
        self.closed = threading.Event()

    async def next_piece(self) -> Window | bytes | None:
        while self._steps:
            step = self._steps.pop(0)
            if isinstance(step, Window | bytes):
                return step
            if isinstance(step, float):
                await asyncio.sleep(step)
            elif isinstance(step, Exception):
                raise step
            else:
                await asyncio.Event().wait()
        return None

    async def aclose(self) -> None:
        self.close_calls += 1
        while self._descriptors:
            os.close(self._descriptors.pop())
        self.closed.set()


def reply(
    body: ScriptedBody | None,
    length_bytes: int | None = None,
    *,
    status: int = 200,
    fields: Sequence[tuple[str, str]] = (),
    content_type: str = "application/octet-stream",
    outcome: CacheOutcome = CacheOutcome.HIT,
) -> Reply:
    """A reply with the fields that the service would set."""
    lines = [("content-type", content_type), *fields]
    if length_bytes is not None:
        lines.append(("content-length", str(length_bytes)))
    return Reply(
        status=status,
        fields=Fields(lines),
        body=body,
        cache_status=CacheStatus(outcome),
        target_name="",
        length_bytes=length_bytes,
    )


def file_body(path: Path, windows: Sequence[tuple[int, int]]) -> ScriptedBody:
    """A body of windows of one file, on a descriptor of its own."""
    fileno = os.open(path, os.O_RDONLY)
    return ScriptedBody([Window(fileno, start, stop) for start, stop in windows], [fileno])


def file_reply(path: Path, start: int, stop: int, *, status: int = 200) -> Reply:
    """A hit: one window of a file, its length known."""
    return reply(file_body(path, [(start, stop)]), stop - start, status=status)


Answer: TypeAlias = Callable[[Request], Reply]

_STATISTICS = Statistics(
    uptime_seconds=1.5,
    version="0.0.0",
    requests={"hit": 3, "uri-miss": 1},
    served_bytes=4000,
    upstream_bytes=1000,
    saved_bytes=3000,
    objects=2,
    size_bytes=1000,
    limit_bytes=10_000,
    free_bytes=5000,
    evicted_objects=0,
    healthy=True,
    trouble=None,
    running_transfers=1,
)


class FakeService(Service):
    """Answers by raw path from ``answers``; keeps what it was asked.

    A path that no answer is scripted for is an ``UnknownMount``.
    """

    def __init__(self) -> None:
        self._mounts = ()
        self.answers: dict[str, Answer] = {}
        self.requests: list[Request] = []
        self.urls: list[str | None] = []
        self.expected_digests: list[tuple[tuple[str, str], ...]] = []
        self.bodies: list[bytes | None] = []
        self.body_lengths: list[int | None] = []
        self.served: list[tuple[Reply, int]] = []
        self.purges: list[tuple[Selection | Request, bool]] = []
        self.statistics_now = _STATISTICS
        self.pins: list[tuple[Selection, bool]] = []
        self.objects_now: list[ObjectView] = []
        self.transfers_now: list[TransferView] = []
        self.read_bodies = True
        self.wait_seconds = 0.0
        self.cancelled = threading.Event()
        self.asked = threading.Event()
        self.noted = threading.Event()

    async def respond(
        self,
        request: Request,
        *,
        body: AsyncIterator[bytes] | None = None,
        body_length_bytes: int | None = None,
        url: str | None = None,
        expected_digests: tuple[tuple[str, str], ...] = (),
    ) -> Reply:
        self.requests.append(request)
        self.urls.append(url)
        self.expected_digests.append(expected_digests)
        self.body_lengths.append(body_length_bytes)
        self.asked.set()
        if body is not None and self.read_bodies:
            self.bodies.append(b"".join([chunk async for chunk in body]))
        else:
            self.bodies.append(None)
        try:
            await asyncio.sleep(self.wait_seconds)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        answer = self.answers.get(request.raw_path)
        if answer is None:
            raise UnknownMount("No mount has this prefix.")
        return answer(request)

    async def purge_request(self, request: Request, *, dry_run: bool = False) -> PurgeResult:
        self.purges.append((request, dry_run))
        return PurgeResult(objects=1, size_bytes=10, dry_run=dry_run)

    async def purge(self, selection: Selection, *, dry_run: bool = False) -> PurgeResult:
        self.purges.append((selection, dry_run))
        return PurgeResult(objects=2, size_bytes=20, dry_run=dry_run)

    async def purge_url(self, url: str, *, dry_run: bool = False) -> PurgeResult:
        if not url.startswith(("http://", "https://")):
            raise InvalidTarget("The address must be an absolute http or https URL.")
        return await self.purge(Selection(key="key of " + url), dry_run=dry_run)

    async def objects(
        self, *, prefix: str = "", limit: int = 1000, after: str | None = None
    ) -> ObjectPage:
        found = [view for view in self.objects_now if view.name.startswith(prefix)]
        if after is not None and not after.isdecimal():
            raise InvalidTarget("after is to be the next of an earlier answer.")
        begin = int(after or 0)
        end = begin + limit
        return ObjectPage(tuple(found[begin:end]), str(end) if end < len(found) else None)

    async def pin(self, selection: Selection, *, pinned: bool = True) -> PinResult:
        self.pins.append((selection, pinned))
        return PinResult(2, pinned)

    async def pin_url(self, url: str, *, pinned: bool = True) -> PinResult:
        return await self.pin(Selection(key="key of " + url), pinned=pinned)

    def transfers(self) -> list[TransferView]:
        return self.transfers_now

    async def all_transfers(self) -> list[TransferView]:
        return self.transfers()

    async def statistics(self) -> Statistics:
        return self.statistics_now

    async def door_counts_elsewhere(self) -> dict[str, int]:
        return {}

    def note_served(self, reply: Reply, sent_bytes: int) -> None:
        self.served.append((reply, sent_bytes))
        self.noted.set()
