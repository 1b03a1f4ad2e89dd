"""The service's face: requests in, replies out; purge, listings and statistics beside them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence

from forebay import __version__
from forebay.errors import ForebayError, LoopDetected
from forebay.model import Entry, Head, Mount, Request, Target
from forebay.ports import Removed, Reply, Scrubbed, Selection, Store, StoredObject
from forebay.presets import preset_of, resolving
from forebay.rules import coverage as cov
from forebay.rules import urls
from forebay.rules.heads import went_through
from forebay.rules.lifetimes import current_age, freshness_lifetime
from forebay.rules.validation import SAFE_METHODS, invalidated_urls
from forebay.service.counting import Counts
from forebay.service.fetching import Fetcher
from forebay.service.lane import Lane, PeekableStore
from forebay.service.resolved import Targets
from forebay.service.rewriting import Rewriting, canned
from forebay.service.sidecars import Sidecars
from forebay.service.story import STALE_PATIENCE_SECONDS, Story
from forebay.streaming.crew import Surroundings
from forebay.views import (
    MirrorView,
    ObjectView,
    PurgeResult,
    Statistics,
    TransferView,
)

log = logging.getLogger("forebay.service")


class Service:
    """Answers requests from the store and from upstreams, and keeps count.

    ``pseudonym`` is our name in Via, by which a request that comes back is known;
    ``mirror_views`` gives what is remembered of mirrors; ``stale_patience_seconds`` bounds the
    wait of a client that may have a stale answer.
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
    ) -> None:
        self._store = store
        self._around = around
        self._mounts = tuple(mounts)
        self._mount_of = {mount.name: mount for mount in mounts}
        self._pseudonym = pseudonym
        self._mirror_views = mirror_views
        self._targets = Targets(self._mounts)
        self._fetcher = Fetcher(store, around)
        self._story = Story(store, self._fetcher, around.wall_clock, stale_patience_seconds)
        self._fetcher.judge.sidecars = Sidecars(self._story.tell, around.wall_clock)
        if isinstance(store, PeekableStore):
            self.lane = Lane(store, self._fetcher.transfers, self._targets.of, around.wall_clock)
        self.summing = self._fetcher.summing
        self._rewriting = Rewriting(self._story)
        self._counts = Counts()
        self._started = around.clock()

    async def close(self) -> None:
        """Stop every transfer; what is covered stays."""
        if self.lane is not None:
            self.lane.close()
        await self._fetcher.close()

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
        answered = canned(request, self._mounts)
        if answered is not None:
            return answered
        target = self._targets.of(request, url=url, expected_digests=expected_digests)
        reply = await self._rewriting.tell(request, target, body, body_length_bytes)
        if request.method not in SAFE_METHODS:
            await self._invalidate(request.method, target, reply)
        return reply

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

    async def purge_request(self, request: Request) -> PurgeResult:
        """Purge the object that this request's target names (the PURGE method)."""
        target = resolving.resolve(request, self._mounts)
        return await self.purge(Selection(key=target.key))

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
            self._fetcher.forget_flights(selection)
        removed: Removed = await self._store.remove(selection, dry_run=dry_run)
        return PurgeResult(removed.objects, removed.size_bytes, dry_run)

    def begin_scrub(self) -> Scrubbed:
        """Let the store verify everything, behind the caller's back."""
        return self._store.begin_scrub()

    def scrubbed(self) -> Scrubbed | None:
        """How far the last scrub has come."""
        return self._store.scrubbed

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

    async def objects(self, *, prefix: str = "", limit: int = 1000) -> list[ObjectView]:
        """Stored objects whose name begins with ``prefix``, most recently used first."""
        now = self._around.wall_clock()
        stored = [self._object_view(one, now) async for one in self._store.list(prefix=prefix)]
        stored.sort(key=lambda view: view.last_used_time, reverse=True)
        return stored[:limit]

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
        )

    def _as_it_is_now(self, entry: Entry) -> Entry:
        transfer = self._fetcher.transfers.get(entry.entry_id)
        return entry if transfer is None else transfer.snapshot()

    def transfers(self) -> list[TransferView]:
        """Every transfer that is running now."""
        return [transfer.view() for transfer in self._fetcher.transfers.values()]

    async def statistics(self) -> Statistics:
        """Totals since start and the state of the store."""
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
            running_transfers=len(self._fetcher.transfers),
            mirrors=self._mirror_views(),
        )


def _path_of(entry: Entry, mount: Mount) -> str:
    """The path and query that the mount's patterns are matched with (``Target.path``), as far as
    the name still tells them: secrets in the query are masked."""
    url = urls.from_text(entry.name)
    if not mount.upstreams:
        return url.request_target
    return "/" + entry.name.removeprefix(str(urls.from_text(mount.upstreams[0])))
