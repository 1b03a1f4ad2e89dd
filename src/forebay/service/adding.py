"""The counts of one service in several processes, added up by whichever is asked.

Each process posts its own a few times a second. Counts are added, also those of processes that
have died; what describes a moment (transfers, mirrors, health) is taken from those that live.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from forebay.errors import StoreError
from forebay.ports import Neighbours, Report, Scrubbed
from forebay.views import MirrorView, SegmentView, Statistics, TransferView

POST_EVERY_SECONDS = 0.25
_MOST_TRANSFERS = 200
"""In one report; more are told only by the process that runs them."""
_COUNTED = (
    "served_bytes",
    "upstream_bytes",
    "evicted_objects",
    "evicted_bytes",
    "verified_bytes",
    "damaged_blocks",
)


class Adding:
    """Reports of this process, and what those of the others add to what it says."""

    def __init__(self, neighbours: Neighbours, own: Callable[[], Awaitable[Report]]) -> None:
        self._neighbours = neighbours
        self._own = own
        self._posting: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Post from now on."""
        self._posting = asyncio.create_task(self._post_for_ever())

    async def close(self) -> None:
        """Post once more, and end."""
        if self._posting is not None:
            self._posting.cancel()
            await asyncio.wait([self._posting])
            self._posting = None
            with suppress(StoreError):
                await self._neighbours.post(await self._own())

    async def others(self) -> list[Report]:
        """What the others have counted; nothing where that cannot be read."""
        with suppress(StoreError):
            return await self._neighbours.reports()
        return []

    async def _post_for_ever(self) -> None:
        posted = None
        while True:
            report = await self._own()
            if report != posted:
                with suppress(StoreError):
                    await self._neighbours.post(report)
                    posted = report
            await asyncio.sleep(POST_EVERY_SECONDS)


def counts_of(statistics: Statistics, door: Mapping[str, int]) -> dict[str, int]:
    """What is to be added up, by name; ``door`` is what the door counts itself."""
    counts = {name: getattr(statistics, name) for name in _COUNTED}
    counts |= {f"requests.{word}": count for word, count in statistics.requests.items()}
    return counts | {f"door.{name}": count for name, count in door.items()}


def added(own: Statistics, others: Iterable[Report]) -> Statistics:
    """The statistics of the whole service."""
    counts: Counter[str] = Counter()
    now: list[Mapping[str, Any]] = []
    for report in others:
        counts.update(report.counts)
        if report.now:
            now.append(report.now)
    requests = {word: n + counts[f"requests.{word}"] for word, n in own.requests.items()}
    sums: dict[str, Any] = {name: getattr(own, name) + counts[name] for name in _COUNTED}
    troubles = [own.trouble, *(one["trouble"] for one in now)]
    return replace(
        own,
        **sums,
        requests=requests,
        saved_bytes=max(0, sums["served_bytes"] - sums["upstream_bytes"]),
        running_transfers=own.running_transfers + sum(one["running_transfers"] for one in now),
        healthy=own.healthy and all(one["healthy"] for one in now),
        trouble=next((trouble for trouble in troubles if trouble), None),
        mirrors=_mirrors([own.mirrors, *(_mirror_views(one["mirrors"]) for one in now)]),
        workers=1 + len(now),
    )


def door_counts(others: Iterable[Report]) -> Counter[str]:
    """What the others' doors have counted."""
    counts: Counter[str] = Counter()
    for report in others:
        for name, count in report.counts.items():
            if name.startswith("door."):
                counts[name.removeprefix("door.")] += count
    return counts


def now_of(
    statistics: Statistics,
    transfers: Iterable[TransferView],
    scrub: Scrubbed | None,
) -> dict[str, Any]:
    """What describes this moment, as JSON has it."""
    return {
        "running_transfers": statistics.running_transfers,
        "healthy": statistics.healthy,
        "trouble": statistics.trouble,
        "mirrors": [asdict(mirror) for mirror in statistics.mirrors],
        "transfers": [asdict(view) for view in list(transfers)[:_MOST_TRANSFERS]],
        "scrub": asdict(scrub) if scrub is not None else None,
    }


def transfers_of(others: Iterable[Report]) -> list[TransferView]:
    """The transfers that run in other processes; those who only read along are not told twice."""
    return [
        _transfer_view(view)
        for report in others
        for view in report.now.get("transfers", ())
        if view["state"] != "following"
    ]


def scrub_of(others: Iterable[Report]) -> Scrubbed | None:
    """The scrub of another process: one that runs, or else one that has run."""
    found = [Scrubbed(**one.now["scrub"]) for one in others if one.now.get("scrub")]
    return max(found, key=lambda scrub: scrub.running, default=None)


def _transfer_view(view: Mapping[str, Any]) -> TransferView:
    return TransferView(
        **{
            **view,
            "coverage": tuple((start, stop) for start, stop in view["coverage"]),
            "readers": tuple(view["readers"]),
            "segments": tuple(SegmentView(**one) for one in view["segments"]),
        }
    )


def _mirror_views(views: Iterable[Mapping[str, Any]]) -> tuple[MirrorView, ...]:
    return tuple(MirrorView(**view) for view in views)


def _mirrors(all_views: Iterable[Iterable[MirrorView]]) -> tuple[MirrorView, ...]:
    """One view for each upstream: the worst that any process thinks of it, its best rate there,
    and all connections."""
    found: dict[str, MirrorView] = {}
    for view in (view for views in all_views for view in views):
        known = found.get(view.url)
        if known is None:
            found[view.url] = view
            continue
        rates = [r for r in (known.rate_bytes_per_second, view.rate_bytes_per_second) if r]
        found[view.url] = MirrorView(
            url=view.url,
            healthy=known.healthy and view.healthy,
            rate_bytes_per_second=max(rates, default=None),
            failures=max(known.failures, view.failures),
            in_use=known.in_use + view.in_use,
        )
    return tuple(found[url] for url in sorted(found))
