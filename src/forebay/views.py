"""What people and programs are shown of the running service: plain snapshots.

Names of the attributes are the names in the JSON of ``/-/transfers``, ``/-/objects`` and
``/-/stats``, and so fixed for those who script against them.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SegmentView:
    """One upstream connection at work: it has fetched ``start`` to ``position`` of ``stop``."""

    mirror: str
    start: int
    position: int
    stop: int | None
    rate_bytes_per_second: float


@dataclass(frozen=True, slots=True)
class TransferView:
    """One transfer that is running now."""

    name: str
    mount: str
    entry_id: str
    state: str
    length_bytes: int | None
    covered_bytes: int
    coverage: tuple[tuple[int, int], ...]
    readers: tuple[int, ...]
    """The position of each reader that is attached."""
    segments: tuple[SegmentView, ...]
    fetched_bytes: int
    rate_bytes_per_second: float
    started_time: float


@dataclass(frozen=True, slots=True)
class ObjectView:
    """One stored object."""

    name: str
    mount: str
    entry_id: str
    status: int
    size_bytes: int
    length_bytes: int | None
    covered_bytes: int
    complete: bool
    age_seconds: float
    fresh: bool
    last_used_time: float
    stored_time: float
    hits: int
    content_type: str | None
    etag: str | None
    pinned: bool = False
    """Whether it is never evicted."""


@dataclass(frozen=True, slots=True)
class MirrorView:
    """What is remembered of one upstream."""

    url: str
    healthy: bool
    rate_bytes_per_second: float | None
    failures: float
    in_use: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """Totals since start, and the state of the store."""

    uptime_seconds: float
    version: str
    requests: dict[str, int]
    """Count of replies by outcome word (``CacheOutcome``)."""
    served_bytes: int
    upstream_bytes: int
    saved_bytes: int
    """Bytes served beyond those fetched: what the cache has spared upstream; never below 0."""
    objects: int
    size_bytes: int
    limit_bytes: int | None
    free_bytes: int
    evicted_objects: int
    healthy: bool
    trouble: str | None
    running_transfers: int
    mirrors: tuple[MirrorView, ...] = field(default=())
    evicted_bytes: int = 0
    verified_bytes: int = 0
    """Stored bytes that were compared with their checksums, and were sound."""
    damaged_blocks: int = 0
    """Blocks of at most 1 MiB that were not, and are fetched again when they are wanted."""
    workers: int = 1
    """Server processes that live; counts are of all of them, also of those that have died."""


@dataclass(frozen=True, slots=True)
class PinResult:
    """How many objects are pinned now that were not before, or the other way round."""

    objects: int
    pinned: bool


@dataclass(frozen=True, slots=True)
class ObjectPage:
    """Objects, most recently used first; ``next`` asks for those that follow, None at the end."""

    objects: tuple[ObjectView, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class PurgeResult:
    """What a purge removed (or, with ``dry_run``, would remove)."""

    objects: int
    size_bytes: int
    dry_run: bool
