"""Indexes whose links lead through the mount: stored as upstream sent them, changed on the way out.

The stored entry stays the upstream's own, so that it is revalidated, purged and explained like
any other, and one entry serves clients that see us under different names. A rewritten page has a
validator of its own, the digest of its bytes, against which this client's conditions and ranges
are evaluated (RFC 9110 §13, §14).

Whatever cannot be rewritten (another type, an error status, too long, not what its type says) is
passed on as it came: a client is never worse off than without rewriting.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import zlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from forebay.model import (
    CacheOutcome,
    CacheStatus,
    Entry,
    Fields,
    Head,
    Identity,
    Mount,
    Request,
    Share,
    Target,
)
from forebay.ports import Body, Reply
from forebay.presets import Context, Preset, Rewrite, preset_of
from forebay.presets.contract import media_type_of
from forebay.presets.resolving import context_of
from forebay.service import replies
from forebay.service.reading import read_up_to
from forebay.service.story import Story
from forebay.streaming.reader import BytesBody

MEMO_BYTES = 32 * 1024 * 1024
"""Rewritten pages that are remembered, so that a CI fleet's hundreds of requests for one index
cost one rewriting. A common page has 100 KB."""

_CONDITIONS = (
    "if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "range",
)  # fmt: skip

_OF_THE_ORIGINAL = (
    "accept-ranges", "content-digest", "content-encoding", "content-length", "content-md5",
    "digest", "etag", "last-modified", "repr-digest", "x-checksum-md5", "x-checksum-sha1",
    "x-checksum-sha256",
)  # fmt: skip
"""Fields that speak of the bytes or validators as upstream sent them."""

_OURS = ("age", "cache-status", "date", "via")

log = logging.getLogger("forebay.service")


@dataclass(frozen=True, slots=True)
class Page:
    """A whole body in memory, and the fields it was sent with."""

    body: bytes
    fields: Fields


class Memo:
    """The pages rewritten last, bounded by their bytes."""

    def __init__(self, limit_bytes: int = MEMO_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._pages: OrderedDict[str, bytes] = OrderedDict()
        self._size_bytes = 0

    def get(self, key: str) -> bytes | None:
        """The page, now the most recent."""
        page = self._pages.get(key)
        if page is not None:
            self._pages.move_to_end(key)
        return page

    def put(self, key: str, page: bytes) -> None:
        """Remember a page; the least recent go. One that is larger than all may be is not kept."""
        if len(page) > self._limit_bytes:
            return
        self._size_bytes += len(page) - len(self._pages.pop(key, b""))
        self._pages[key] = page
        while self._size_bytes > self._limit_bytes:
            self._size_bytes -= len(self._pages.popitem(last=False)[1])


class Rewriting:
    """Tells the story, and rewrites its replies as the mount's preset has it."""

    def __init__(self, story: Story, memo: Memo | None = None) -> None:
        self._story = story
        self._memo = memo or Memo()

    async def tell(
        self,
        request: Request,
        target: Target,
        body: AsyncIterator[bytes] | None = None,
        body_length_bytes: int | None = None,
    ) -> Reply:
        """The reply to this request for this target. Raises ``ForebayError``."""
        if not target.mount.upstreams:
            return await self._story.tell(request, target, body, body_length_bytes)
        preset, context = preset_of(target.mount), context_of(request, target)
        rewrite = preset.rewrite_for(request.method, target.path, target.mount)
        if rewrite is None:
            reply = await self._story.tell(request, target, body, body_length_bytes)
        elif request.method in {"GET", "HEAD"}:
            reply = await self._index(request, target, rewrite, context)
        else:
            reply = await self._story.tell(request, target, body, body_length_bytes)
            reply = await self._answer(reply, rewrite, context)
        return _shaped(reply, preset, context)

    async def _index(
        self, request: Request, target: Target, rewrite: Rewrite, context: Context
    ) -> Reply:
        """A page: asked for whole and without conditions, which are evaluated afterwards."""
        plain = replace(request, method="GET", fields=request.fields.without(*_CONDITIONS))
        reply = await self._story.tell(plain, target)
        if not _can_be_rewritten(reply, rewrite):
            if plain == request or reply.status >= 400:
                return reply if request.method != "HEAD" else await _without_body(reply)
            # It is something else than a page: conditions and ranges are its own affair.
            await _closed(reply)
            return await self._story.tell(request, target)
        page = await self._rewritten(reply, rewrite, context)
        if page is None:
            return reply if plain == request else await self._again(request, target, reply)
        return await _reply_from(request, page, reply)

    async def _again(self, request: Request, target: Target, reply: Reply) -> Reply:
        await _closed(reply)
        return await self._story.tell(request, target)

    async def _answer(self, reply: Reply, rewrite: Rewrite, context: Context) -> Reply:
        """The answer to a method that is not cached."""
        if not _can_be_rewritten(reply, rewrite):
            return reply
        page = await self._rewritten(reply, rewrite, context)
        if page is None:
            return reply
        length = str(len(page.body))
        fields = reply.fields.without(*_OF_THE_ORIGINAL).with_field("content-length", length)
        return replace(reply, fields=fields, body=BytesBody(page.body), length_bytes=len(page.body))

    async def _rewritten(self, reply: Reply, rewrite: Rewrite, context: Context) -> Page | None:
        """The page that takes the reply's place, its body then closed. None where the reply,
        its body as good as unread, is to be sent as it is."""
        if reply.body is None:
            return Page(b"", reply.fields.without(*_OF_THE_ORIGINAL))
        context = replace(context, media_type=media_type_of(reply.fields.get("content-type")))
        octets = await read_up_to(reply, rewrite.max_bytes)
        if octets is None:
            return None
        try:
            body = await self._transformed(
                octets, reply.fields.get("content-encoding"), rewrite, context
            )
        except ValueError as trouble:
            log.warning("%s is passed on unchanged: %s", reply.target_name, trouble)
            reply.body = BytesBody(octets)
            return None
        return Page(body, reply.fields.without(*_OF_THE_ORIGINAL))

    async def _transformed(
        self, octets: bytes, coding: str | None, rewrite: Rewrite, context: Context
    ) -> bytes:
        """The page, remembered or made; in worker threads, since a large index takes a good part
        of a second. Raises ``ValueError``."""
        original = await asyncio.to_thread(lambda: hashlib.sha256(octets).hexdigest())
        key = "\0".join(
            (original, context.media_type, context.mount.name, context.page_url, context.base_url)
        )
        page = self._memo.get(key)
        if page is None:
            page = await asyncio.to_thread(_transform, octets, coding, rewrite, context)
            self._memo.put(key, page)
        return page


def _transform(octets: bytes, coding: str | None, rewrite: Rewrite, context: Context) -> bytes:
    return rewrite.transform(_decoded(octets, coding, rewrite.max_bytes), context)


def _shaped(reply: Reply, preset: Preset, context: Context) -> Reply:
    return replace(reply, fields=preset.shape_reply(reply.fields, context))


def _can_be_rewritten(reply: Reply, rewrite: Rewrite) -> bool:
    length = reply.length_bytes
    return (
        reply.status == 200
        and rewrite.concerns(reply.fields.get("content-type"))
        and (length is None or length <= rewrite.max_bytes)
    )


def _decoded(octets: bytes, coding: str | None, max_bytes: int) -> bytes:
    """The page itself. Upstream was asked for identity, and some send gzip all the same.

    Raises ``ValueError`` for other codings and for what swells beyond the bound.
    """
    coding = (coding or "identity").strip().lower()
    if coding == "identity":
        return octets
    if coding not in {"gzip", "x-gzip"}:
        raise ValueError(f"content coding {coding}")
    inflater = zlib.decompressobj(wbits=31)
    try:
        page = inflater.decompress(octets, max_bytes)
    except zlib.error:
        raise ValueError("not gzip as it says") from None
    if not inflater.eof or inflater.unconsumed_tail:
        raise ValueError("gzip that does not end, or not soon enough")
    return page


async def _reply_from(request: Request, page: Page, reply: Reply) -> Reply:
    """What this client gets of a page: all, a part, nothing new (steps 5 to 8)."""
    digest = hashlib.sha256(page.body).hexdigest()
    tag = f'"{digest[:32]}"'
    ours = Fields((n, v) for n, v in page.fields if n in _OURS)
    fields = page.fields.without(*_OURS).with_field("etag", tag)
    entry = Entry(
        key="",
        entry_id="",
        name=reply.target_name,
        mount="",
        head=Head(200, fields, reply.reason),
        identity=Identity(len(page.body), tag),
        request_time=0.0,
        response_time=0.0,
        complete=True,
        digests=(("sha-256", digest),),
    )
    shaped = replies.shape(request, entry)
    made = Reply(
        shaped.status,
        Fields((*shaped.fields, ("accept-ranges", "bytes"), *ours)),
        None,
        reply.cache_status,
        reply.target_name,
        shaped.length_bytes,
        reply.reason if shaped.status == 200 else "",
    )
    match shaped:
        case replies.Plain():
            pass
        case replies.Bytes(layout=None, intervals=intervals):
            start, stop = intervals[0] if intervals else (0, len(page.body))
            made.body = BytesBody(page.body[start:stop])
        case replies.Bytes(layout=layout):
            made.body = BytesBody(_multipart(page.body, layout.pieces if layout else ()))
        case unknown:
            assert_never(unknown)
    return made


def _multipart(body: bytes, pieces: Sequence[bytes | tuple[int, int]]) -> bytes:
    return b"".join(p if isinstance(p, bytes) else body[p[0] : p[1]] for p in pieces)


async def _without_body(reply: Reply) -> Reply:
    await _closed(reply)
    return replace(reply, body=None)


async def _closed(reply: Reply) -> None:
    body: Body | None = reply.body
    if body is not None:
        await body.aclose()


def canned(request: Request, mounts: Sequence[Mount]) -> Reply | None:
    """``GET /v2/`` is how clients learn that a container registry is here; no upstream is asked
    (distribution specification, end-1). None for every other request."""
    if request.raw_path not in {"/v2/", "/v2"} or request.method not in {"GET", "HEAD"}:
        return None
    registries = [mount for mount in mounts if preset_of(mount).fetches_tokens]
    if request.absolute or not registries:
        return None
    if "authorization" not in request.fields and all(
        mount.share in {Share.PRIVATE, Share.VERIFY} for mount in registries
    ):
        # Clients show what they have only where they were asked for it here.
        return _sign_in(request)
    fields = Fields(
        [
            ("content-type", "application/json"),
            ("content-length", "2"),
            ("docker-distribution-api-version", "registry/2.0"),
            ("cache-control", "no-store"),
        ]
    )
    body = BytesBody(b"{}") if request.method == "GET" else None
    return Reply(200, fields, body, CacheStatus(CacheOutcome.HIT, detail="forebay"), "/v2/", 2)


def _sign_in(request: Request) -> Reply:
    content = b'{"errors":[{"code":"UNAUTHORIZED","message":"sign in with the registry\'s login"}]}'
    fields = Fields(
        [
            ("content-type", "application/json"),
            ("content-length", str(len(content))),
            ("docker-distribution-api-version", "registry/2.0"),
            ("www-authenticate", 'Basic realm="forebay"'),
            ("cache-control", "no-store"),
        ]
    )
    status = CacheStatus(CacheOutcome.BYPASS, detail="forebay")
    body = BytesBody(content) if request.method == "GET" else None
    return Reply(401, fields, body, status, "/v2/", len(content))
