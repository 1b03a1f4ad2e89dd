"""The service's face: requests in, replies out; purge, listings and statistics beside them."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from forebay import __version__
from forebay.errors import ForebayError, InvalidTarget, LoopDetected
from forebay.model import Entry, Head, Mount, Request, Target
from forebay.ports import (
    Neighbours,
    Removed,
    Reply,
    Report,
    Scrubbed,
    Selection,
    Store,
    StoredObject,
)
from forebay.presets import preset_of, resolving
from forebay.rules import coverage as cov
from forebay.rules import targets, urls
from forebay.rules.heads import went_through
from forebay.rules.lifetimes import current_age, freshness_lifetime
from forebay.rules.validation import SAFE_METHODS, invalidated_urls
from forebay.service.adding import (
    Adding,
    added,
    counts_of,
    door_counts,
    now_of,
    scrub_of,
    transfers_of,
)
from forebay.service.counting import Counts
from forebay.service.fetching import Fetcher
from forebay.service.lane import Lane, PeekableStore
from forebay.service.last import last_reply
from forebay.service.resolved import Targets
from forebay.service.rewriting import Rewriting, canned
from forebay.service.sharing import KEY_BYTES, Sharing
from forebay.service.sidecars import Sidecars
from forebay.service.story import STALE_PATIENCE_SECONDS, Story
from forebay.streaming.crew import Surroundings
from forebay.views import (
    MirrorView,
    ObjectPage,
    ObjectView,
    PinResult,
    PurgeResult,
    Statistics,
    TransferView,
)

VIEWS_AT_ONCE = 100
"""Rows of a listing that are made without a look at what else there is to do. A row takes 30 µs:
ten thousand at once kept every download waiting for a third of a second."""

log = logging.getLogger("forebay.service")


class Service:
    """Answers requests from the store and from upstreams, and keeps count.

    ``pseudonym`` is our name in Via, by which a request that comes back is known;
    ``mirror_views`` gives what is remembered of mirrors; ``stale_patience_seconds`` bounds the
    wait of a client that may have a stale answer; ``neighbours`` are the other processes of
    this service, where there are any. ``sharing`` has the mounts' own credentials;
    without it there are none, and what is kept for one credential is lost with the process.
    """

    lane: Lane | None = None
    """What answers hits at once, by the same rules as ``respond``; None where the store cannot
    be asked without waiting."""

    def __init__(
        self,
        *,
        store: Store,
        around: Surroundings,
        mounts: Sequence[Mount],
        pseudonym: str,
        mirror_views: Callable[[], tuple[MirrorView, ...]] = lambda: (),
        stale_patience_seconds: float = STALE_PATIENCE_SECONDS,
        neighbours: Neighbours | None = None,
        sharing: Sharing | None = None,
    ) -> None:
        self._store = store
        self._around = around
        self._mounts = tuple(mounts)
        self._mount_of = {mount.name: mount for mount in mounts}
        self._pseudonym = pseudonym
        self._mirror_views = mirror_views
        self._targets = Targets(self._mounts)
        self._fetcher = Fetcher(store, around, neighbours)
        self._sharing = sharing or Sharing(mounts, secrets.token_bytes(KEY_BYTES), {})
        self._story = Story(
            store, self._fetcher, around.wall_clock, stale_patience_seconds, self._mounts
        )
        self._fetcher.judge.sidecars = Sidecars(self._story.tell, around.wall_clock)
        if isinstance(store, PeekableStore):
            self.lane = Lane(store, self._fetcher.transfers, self._resolve, around.wall_clock)
        self.summing = self._fetcher.summing
        self._rewriting = Rewriting(self._story)
        self._counts = Counts()
        self._started = around.clock()
        self._adding = None if neighbours is None else Adding(neighbours, self._report)
        self.door_counts: Callable[[], Mapping[str, int]] = dict
        """What the door counts itself, for the other processes to add to theirs."""

    async def open(self) -> None:
        """Begin to tell the other processes, where there are any, what is counted here."""
        if self._adding is not None:
            self._adding.start()

    async def close(self) -> None:
        """Stop every transfer; what is covered stays."""
        if self.lane is not None:
            self.lane.close()
        await self._story.close()
        await self._fetcher.close()
        if self._adding is not None:
            await self._adding.close()

    # Requests.

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
        if went_through(request.fields, self._pseudonym):
            raise LoopDetected("The request came back to the service that sent it.")
        answered = last_reply(request) or canned(request, self._mounts)
        if answered is not None:
            return answered
        target = self._targets.of(request, url=url, expected_digests=expected_digests)
        target = self._sharing.placed(request, target)
        request, target = await self._sharing.equipped(request, target)
        reply = await self._rewriting.tell(request, target, body, body_length_bytes)
        if request.method not in SAFE_METHODS:
            await self._invalidate(request.method, target, reply)
        return reply

    def _resolve(self, request: Request) -> Target:
        return self._sharing.placed(request, self._targets.of(request))

    def is_claimed(self, request: Request) -> bool:
        """Whether a mount has the origin that was asked, ``/`` included (``Mount.hosts``)."""
        return targets.claiming(request, self._mounts) is not None

    def mounts_asked(self, request: Request, *, url: str | None = None) -> tuple[str, ...]:
        """The name of the mount that ``respond`` would answer by; several where the answer is
        about all of them. Raises ``ForebayError`` where there is none."""
        if canned(request, self._mounts) is not None:
            return tuple(m.name for m in self._mounts if preset_of(m).fetches_tokens)
        return (self._targets.of(request, url=url).mount.name,)

    async def _invalidate(self, method: str, target: Target, reply: Reply) -> None:
        """What an unsafe request has changed is not answered from the store (RFC 9111 §4.4)."""
        head = Head(reply.status, reply.fields)
        for url in invalidated_urls(method, target.urls[0], head):
            try:
                await self.purge_url(url)
            except ForebayError as trouble:
                # The request has been carried out, and its answer must reach the client.
                log.warning("what %s has changed may still be stored: %s", target.name, trouble)

    def note_served(self, reply: Reply, sent_bytes: int) -> None:
        """Count what was really sent to the client of this reply."""
        self._counts.note(reply, sent_bytes)

    # Orders.

    async def purge_request(self, request: Request, *, dry_run: bool = False) -> PurgeResult:
        """Purge the object that this request's target names (the PURGE method)."""
        target = resolving.resolve(request, self._mounts)
        return await self.purge(Selection(key=target.key), dry_run=dry_run)

    async def purge_url(self, url: str, *, dry_run: bool = False) -> PurgeResult:
        """Purge the object with this upstream URL, under whichever mounts it is stored."""
        objects = size_bytes = 0
        for key in self.keys_of(url):
            result = await self.purge(Selection(key=key), dry_run=dry_run)
            objects += result.objects
            size_bytes += result.size_bytes
        return PurgeResult(objects, size_bytes, dry_run)

    async def purge(self, selection: Selection, *, dry_run: bool = False) -> PurgeResult:
        """Remove what is selected; running transfers of it serve their readers to the end."""
        if not dry_run:
            await self._fetcher.forget_flights(selection)
        removed: Removed = await self._store.remove(selection, dry_run=dry_run)
        return PurgeResult(removed.objects, removed.size_bytes, dry_run)

    async def pin(self, selection: Selection, *, pinned: bool = True) -> PinResult:
        """Let what is selected never be evicted, or let it be again."""
        return PinResult(await self._store.pin(selection, pinned=pinned), pinned)

    async def pin_url(self, url: str, *, pinned: bool = True) -> PinResult:
        """The same for the object with this upstream URL, under whichever mounts it is stored."""
        objects = 0
        for key in self.keys_of(url):
            objects += (await self.pin(Selection(key=key), pinned=pinned)).objects
        return PinResult(objects, pinned)

    async def pin_request(self, request: Request, *, pinned: bool = True) -> PinResult:
        """The same for the object that this request's target names."""
        target = resolving.resolve(request, self._mounts)
        return await self.pin(Selection(key=target.key), pinned=pinned)

    def name_asked(self, request: Request) -> str:
        """The name under which the listings have what this request's target names."""
        return resolving.resolve(request, self._mounts).name

    async def begin_scrub(self) -> Scrubbed:
        """Let the store verify everything, behind the caller's back, unless it is at that."""
        elsewhere = scrub_of(await self._others())
        if elsewhere is not None and elsewhere.running:
            return elsewhere
        return self._store.begin_scrub()

    async def scrubbed(self) -> Scrubbed | None:
        """How far the last scrub has come, in whichever process it runs."""
        own, elsewhere = self._store.scrubbed, scrub_of(await self._others())
        if own is None or (elsewhere is not None and elsewhere.running and not own.running):
            return elsewhere
        return own

    def keys_of(self, url: str) -> tuple[str, ...]:
        """The cache keys of an absolute URL: as URL in path, and under each mount that has it.

        Raises ``InvalidTarget`` for what is no URL.
        """
        keys: list[str] = []
        url = str(urls.from_text(url))
        for mount in self._mounts:
            bases = (str(urls.from_text(base)) for base in mount.upstreams)
            base = next((base for base in bases if url.startswith(base)), None)
            if base is not None:
                path, _, query = (mount.prefix + url[len(base) :]).partition("?")
                request = Request("GET", path, query or None)
                keys.append(resolving.resolve(request, self._mounts).key)
            elif not mount.upstreams:
                request = Request("GET", "/")
                keys.append(resolving.resolve(request, self._mounts, url=url).key)
            elif (linked := resolving.linked_key(mount, url)) is not None:
                keys.append(linked)
        return tuple(dict.fromkeys(keys))

    # What there is.

    async def objects(
        self, *, prefix: str = "", limit: int = 1000, after: str | None = None
    ) -> ObjectPage:
        """Stored objects whose name begins with ``prefix``, most recently used first.

        ``after`` is the ``next`` of an earlier page; what is used meanwhile comes before it.
        Raises ``InvalidTarget`` where it is none.
        """
        now = self._around.wall_clock()
        try:
            found = await self._store.latest(prefix=prefix, after=after, limit=limit)
        except ValueError:
            raise InvalidTarget("after is to be the next of an earlier answer.") from None
        views: list[ObjectView] = []
        for start in range(0, len(found), VIEWS_AT_ONCE):
            views += [self._object_view(one, now) for one in found[start : start + VIEWS_AT_ONCE]]
            await asyncio.sleep(0)  # for everybody else
        return ObjectPage(tuple(views), found[-1].place if len(found) >= limit else None)

    def _object_view(self, stored: StoredObject, now: float) -> ObjectView:
        entry = self._as_it_is_now(stored.entry)
        age = current_age(entry, now)
        mount = self._mount_of.get(entry.mount)
        lifetime = 0.0
        if mount is not None:
            path = _path_of(entry, mount)
            lifetime = freshness_lifetime(entry.head, mount.policy, path, entry.response_time)
        return ObjectView(
            name=entry.name,
            mount=entry.mount,
            entry_id=entry.entry_id,
            status=entry.head.status,
            size_bytes=stored.size_bytes,
            length_bytes=entry.length_bytes,
            covered_bytes=cov.total_bytes(entry.coverage),
            complete=entry.complete,
            age_seconds=age,
            fresh=age < lifetime,
            last_used_time=stored.last_used_time,
            stored_time=entry.stored_time,
            hits=stored.hits,
            content_type=entry.head.fields.get("content-type"),
            etag=entry.head.fields.get("etag"),
            pinned=stored.pinned,
        )

    def _as_it_is_now(self, entry: Entry) -> Entry:
        transfer = self._fetcher.transfers.get(entry.entry_id)
        return entry if transfer is None else transfer.snapshot()

    def transfers(self) -> list[TransferView]:
        """What is arriving in this process now."""
        return [transfer.view() for transfer in self._fetcher.transfers.values()]

    async def all_transfers(self) -> list[TransferView]:
        """Every transfer that is running now, in whichever process."""
        return [*self.transfers(), *transfers_of(await self._others())]

    async def statistics(self) -> Statistics:
        """Totals since start and the state of the store."""
        return added(await self._own_statistics(), await self._others())

    async def door_counts_elsewhere(self) -> Mapping[str, int]:
        """What the doors of the other processes have counted."""
        return door_counts(await self._others())

    async def _others(self) -> list[Report]:
        return [] if self._adding is None else await self._adding.others()

    async def _report(self) -> Report:
        own, door = await self._own_statistics(), self.door_counts()
        now = now_of(own, self.transfers(), self._store.scrubbed)
        return Report(counts_of(own, door), now)

    async def _own_statistics(self) -> Statistics:
        usage = await self._store.usage()
        served = self._counts.served_bytes
        fetched = self._fetcher.fetched_bytes_so_far()
        return Statistics(
            uptime_seconds=self._around.clock() - self._started,
            version=__version__,
            requests=self._counts.replies(),
            served_bytes=served,
            upstream_bytes=fetched,
            saved_bytes=max(0, served - fetched),
            objects=usage.objects,
            size_bytes=usage.size_bytes,
            limit_bytes=usage.limit_bytes,
            free_bytes=usage.free_bytes,
            evicted_objects=usage.evicted_objects,
            healthy=usage.healthy,
            trouble=usage.trouble,
            running_transfers=self._fetcher.count_transfers(),
            mirrors=self._mirror_views(),
            evicted_bytes=usage.evicted_bytes,
            verified_bytes=usage.verified_bytes,
            damaged_blocks=usage.damaged_blocks,
        )


def _path_of(entry: Entry, mount: Mount) -> str:
    """The path and query that the mount's patterns are matched with (``Target.path``), as far as
    the name still tells them: secrets in the query are masked."""
    url = urls.from_text(entry.name)
    if not mount.upstreams:
        return url.request_target
    return "/" + entry.name.removeprefix(str(urls.from_text(mount.upstreams[0])))
