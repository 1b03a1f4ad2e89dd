"""Contracts between the rooms: what ``streaming`` and ``service`` ask of disk and network.

``store`` and ``upstream`` fulfil them without knowing who asks; the fakes in ``tests/fakes``
fulfil them too, and one conformance suite holds for every implementation.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from forebay.model import Ask, CacheStatus, Entry, Fields, Head, Interval, Intervals, Octets, Window


class Body(Protocol):
    """A response body on its way to one client: an object, so that closing it always works."""

    async def next_piece(self) -> Window | bytes | None:
        """The next bytes in order, as a window of a file or as the bytes themselves.

        Waits until there are some; None after the last. A window stays valid until the next
        call or ``aclose``. Raises ``ForebayError`` when the body cannot be finished: whoever
        sends it then drops the connection, so that the client sees a short body.
        """

    async def aclose(self) -> None:
        """Release everything. Idempotent, allowed at any moment, awaits nothing."""


class UpstreamResponse(Protocol):
    """A response whose head has come and whose body has not been read yet."""

    @property
    def head(self) -> Head: ...

    @property
    def url(self) -> str:
        """The address that answered, after redirects."""

    @property
    def redirects(self) -> tuple[Head, ...]:
        """The heads of the redirects that were followed, in order."""

    @property
    def framed(self) -> bool:
        """Whether the end of the body can be proved (RFC 9112 §6.3): by Content-Length or by
        the last chunk. A body that ends with the connection is not framed."""

    @property
    def unread_bytes(self) -> int:
        """Bytes of the body that have reached this machine and were not taken yet; 0 where that
        cannot be told. Where there are many, it is not upstream that one waits for."""

    async def is_here(self, within_seconds: float) -> bool:
        """Whether the whole body has reached this process, for which it waits so long at most:
        ``chunks`` then waits for nothing. False where it cannot be told, or is not sound."""

    def chunks(self) -> AsyncIterator[Octets]:
        """The body's bytes as sent (content codings stay), once only.

        Some are views of a buffer that is used again once nobody has a view of it: what is kept
        for long should be copied.

        Raises ``UpstreamTimeout`` when silent for the stall time, ``UpstreamMisbehaved`` when
        the body ends before its declared end or goes beyond it, ``UpstreamUnreachable`` on a
        reset.
        """


class Upstream(Protocol):
    """The network, as seen by those who fetch."""

    def open(self, ask: Ask) -> AbstractAsyncContextManager[UpstreamResponse]:
        """Ask, follow redirects, and give the final response once its head has come.

        Leaving the block releases the connection whatever happened inside. Raises
        ``UpstreamError`` or ``TargetForbidden``. Does not raise for 4xx and 5xx.
        """


class Draft(Protocol):
    """Write access to the blob of one entry, held by the one transfer that fills it."""

    @property
    def entry(self) -> Entry:
        """The entry as last written to the index."""

    def open_reader(self) -> int:
        """A new file descriptor for reading the blob; the caller closes it. Does not block."""

    async def write(self, position: int, pieces: Sequence[Octets]) -> None:
        """Write the pieces one behind the other from this position, off the event loop.

        When it returns, any descriptor of the blob reads these bytes. Calls for different
        places may overlap in time. Raises ``StoreFull`` or ``StoreError``.
        """

    async def checkpoint(self, coverage: Intervals) -> bool:
        """Make the bytes durable, then let the index claim them. False if the entry was purged."""

    async def commit(self, entry: Entry) -> bool:
        """Make the bytes durable and the entry complete in one atomic step.

        ``entry`` has this draft's ``entry_id``, ``complete`` true and its final head; a length
        that was unknown becomes the file's, and the coverage the whole. False if the entry was
        purged or replaced meanwhile; its bytes then live as long as descriptors do. Raises
        ``EntryDamaged`` when the file has another length, ``StoreError`` on other trouble.
        """

    def wished_elsewhere(self) -> Intervals:
        """What readers in other processes have begun to wait for since the last call; nothing
        where no other process reads this store. Does not block."""

    async def close(self) -> None:
        """Give up writing; what the last checkpoint claims stays. Idempotent.

        An entry with nothing covered, or whose length is unknown, is removed.
        """


@dataclass(frozen=True, slots=True)
class Selection:
    """Which entries are meant; exactly one of these is set.

    ``prefix`` is compared with the entry's name. ``everything`` means all.
    """

    key: str | None = None
    prefix: str | None = None
    mount: str | None = None
    tag: str | None = None
    everything: bool = False


@dataclass(frozen=True, slots=True)
class Removed:
    """What a purge took away, or with a dry run would take: objects, and bytes on disk.

    ``entry_ids`` stays empty where a whole mount or everything is meant.
    """

    objects: int
    size_bytes: int
    entry_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One line of a listing. ``size_bytes`` is what the entry takes on disk."""

    entry: Entry
    size_bytes: int
    last_used_time: float
    hits: int
    pinned: bool = False
    """Whether it is never evicted."""
    place: str = ""
    """What ``Store.latest`` goes on after."""


@dataclass(frozen=True, slots=True)
class StoreUsage:
    """What the store holds now; ``limit_bytes`` is None where there is none.

    ``healthy`` is false while the disk refuses work, ``trouble`` says why in a sentence.
    """

    objects: int
    size_bytes: int
    limit_bytes: int | None
    free_bytes: int
    evicted_objects: int
    evicted_bytes: int
    healthy: bool = True
    trouble: str | None = None
    verified_bytes: int = 0
    """Stored bytes that were compared with their checksums since the start, and were sound."""
    damaged_blocks: int = 0
    """Blocks of at most 1 MiB that were not."""


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """What a scrub of the stored bytes has done so far."""

    objects: int = 0
    read_bytes: int = 0
    damaged_blocks: int = 0
    damaged_objects: int = 0
    summed_blocks: int = 0
    """Blocks that had no checksum and have one now."""
    skipped_objects: int = 0
    """Objects that were being written, or went away meanwhile."""
    running: bool = False
    finished: bool = False
    """Whether it came to the end; one that was stopped or met trouble did not."""
    trouble: str | None = None


class Store(Protocol):
    """The disk, as seen by those who look things up and keep them.

    ``refresh``, ``forget``, ``remove`` and ``list`` raise ``StoreError`` on trouble.
    """

    async def find(self, key: str) -> tuple[Entry, ...]:
        """Every variant stored under this primary key, newest first; empty if none.

        Never raises: trouble with the index is reported by ``usage`` and means "none".
        """

    def new_id(self) -> str:
        """An ``entry_id`` that no entry has had; by it the store decides where bytes lie."""

    async def begin(self, entry: Entry, expected_bytes: int | None = None) -> Draft:
        """A new blob and index row for this partial entry; room is made for what is expected.

        It replaces, from now on, any entry of the same key and ``vary``. Raises ``StoreFull``
        when no room can be made, ``StoreError`` on other trouble.
        """

    def takes(self, mount: str, length_bytes: int) -> bool:
        """Whether ``put`` may be asked to store a body of this length for this mount; where not,
        ``begin`` is. Does not wait, and is no promise."""

    def put(self, entry: Entry, content: bytes) -> asyncio.Future[bool]:
        """Store a small entry, complete, with all its bytes in one step. It is done, or has
        failed, when the future has; cancelling that stops nothing.

        From the call on it is as if ``begin`` had been: it replaces any entry of the same key and
        ``vary``, and whoever looks, purges or lists waits until it is stored. A crash leaves all
        of it or nothing. True once the bytes are durable and the index claims them; raises
        ``StoreFull`` or ``StoreError`` where nothing of it is stored.
        """

    async def resume(self, entry: Entry) -> Draft:
        """The draft of a partial entry, to write what it misses.

        Raises ``EntryDamaged`` (and forgets the entry) when its blob is gone or too short, and
        ``StoreError`` while somebody else, in this process or another, is writing it.
        """

    def open_reader(self, entry: Entry) -> int:
        """A file descriptor for reading this entry's blob; the caller closes it. Does not block
        for long. Raises ``EntryDamaged`` when the file is missing or shorter than covered."""

    async def refresh(self, entry: Entry) -> bool:
        """Replace head and times of the stored entry with this ``entry_id`` (after a 304).
        False if it is no longer there."""

    async def add_digests(self, entry: Entry, digests: tuple[tuple[str, str], ...]) -> bool:
        """Let the stored entry with this ``entry_id``, complete, have these digests (as
        ``Entry.digests``), beside those that it has. False if it is no longer there, or whole.
        Raises ``StoreError``."""

    async def forget(self, entry_id: str, key: str) -> None:
        """Remove this entry if it is still there; readers' descriptors go on working."""

    def needs_verification(self, entry: Entry, wanted: Interval | None = None) -> bool:
        """Whether bytes of this entry, or only these, are to be verified before they are served.
        One look-up."""

    async def verify(self, entry: Entry, wanted: Interval) -> Entry:
        """Compare the stored bytes that hold this interval with their checksums, off the loop.

        Gives the same object when they are sound, and may be served; else the entry as it is
        now: partial, without the damaged blocks. Raises ``EntryDamaged`` when nothing is left
        of it (it is forgotten then), ``StoreError`` on other trouble.
        """

    def begin_scrub(self) -> Scrubbed:
        """Verify everything behind the caller's back, unless that is being done already."""

    @property
    def scrubbed(self) -> Scrubbed | None:
        """How far the last scrub since the start has come; None if there was none."""

    def touch(self, entry: Entry) -> None:
        """Note a use, for eviction and listings. Buffered; costs nothing noticeable."""

    async def remove(self, selection: Selection, *, dry_run: bool = False) -> Removed:
        """Purge: entries are gone for new look-ups when this returns."""

    def list(self, *, prefix: str = "") -> AsyncIterator[StoredObject]:
        """Every stored object whose name begins with ``prefix``, in no particular order."""

    async def latest(self, *, prefix: str, after: str | None, limit: int) -> Sequence[StoredObject]:
        """Objects whose name begins with ``prefix``, most recently used first, at most so many,
        and those that come after this ``place``. Fewer than ``limit`` are the last.

        Raises ``StoreError``, and ``ValueError`` for a place that was never given.
        """

    async def pin(self, selection: Selection, *, pinned: bool) -> int:
        """Let the selected objects never be evicted, or let them be again; how many changed.
        What replaces a pinned object is pinned as well. Raises ``StoreError``."""

    async def usage(self) -> StoreUsage: ...


class Following(Protocol):
    """A draft that another process writes, for whoever reads along. Nothing here waits."""

    def coverage(self) -> Intervals:
        """The bytes that any descriptor of the blob can read by now. It never shrinks."""

    def proven_length_bytes(self) -> int | None:
        """The length of the whole, once every byte of it is there and proven; as of the last
        ``coverage``."""

    def is_being_written(self) -> bool:
        """Whether the writer lives and goes on."""

    def open_reader(self) -> int:
        """A new file descriptor for reading the blob; the caller closes it. Raises
        ``StoreError``."""

    def wish(self, interval: Interval) -> None:
        """Tell the writer that somebody waits for these bytes."""

    def close(self) -> None:
        """Idempotent."""


class Turn(Protocol):
    """The right to put one question to upstream."""

    def give_up(self) -> None:
        """Let others ask. Idempotent; a turn of a process that dies is given up at once."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one process has counted since it started, by name, and what holds at this moment, as
    JSON has it; ``now`` is empty for a process that lives no more."""

    counts: Mapping[str, int]
    now: Mapping[str, Any]


class Neighbours(Protocol):
    """The other processes that use the same store at the same time."""

    async def turn(self, question: str) -> Turn | None:
        """The turn at this question, at once where nobody else has it.

        Where another process has it, wait until that has had its answer, and give None: what is
        stored may be another now, and must be looked at again.
        """

    async def follow(self, entry: Entry) -> Following | None:
        """The draft that another process has of this entry, None where none has. Raises
        ``StoreError``. The caller closes it."""

    async def moment(self) -> object:
        """A mark for ``purged_since``."""

    async def purged_since(self, moment: object) -> Sequence[Selection] | None:
        """What any process has purged since then; None where that cannot be told."""

    async def tell_purge(self, selection: Selection) -> None:
        """Before a purge: let no process keep what it has asked for already. Raises
        ``StoreError``."""

    async def post(self, report: Report) -> None:
        """Let the others know this process's counts. Raises ``StoreError``."""

    async def reports(self) -> list[Report]:
        """The counts of all processes of this service but this one. Raises ``StoreError``."""


@dataclass(slots=True)
class Reply:
    """What ``service`` answers to one request: everything a response needs.

    ``fields`` are final (Content-Length wherever it is known, Age, Cache-Status, Date …).
    ``body`` is None where nothing follows the head (HEAD, 304, 204); whoever takes the reply
    closes the body on every way out.
    """

    status: int
    fields: Fields
    body: Body | None
    cache_status: CacheStatus
    target_name: str = ""
    length_bytes: int | None = None
    """Bytes that the body will have, None where that is not known."""
    reason: str = ""


class MirrorHealth(Protocol):
    """What is remembered of mirrors; a URL stands for the server it names."""

    def order(self, urls: Sequence[str]) -> tuple[str, ...]:
        """The same URLs, the best to ask next first."""

    def note_success(self, url: str, rate_bytes_per_second: float | None = None) -> None: ...

    def note_failure(
        self, url: str, retry_after_seconds: float | None = None, *, why: str = ""
    ) -> None:
        """It failed, or asked to be left alone for that long. ``why`` is a sentence for people."""

    def using(self, url: str) -> AbstractContextManager[None]:
        """Count a connection to it while the block runs."""
