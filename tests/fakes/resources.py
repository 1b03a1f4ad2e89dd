"""What a scripted origin serves, and how it answers when it is honest: values, no sockets.

``Resource`` is one thing under one path with its faults; ``answer`` turns a request for it
into status, fields and body bytes (RFC 9110 §13 and §14 for conditions and one range). The
sending, with the faults, is ``tests.fakes.origin``'s work.
"""

from __future__ import annotations

import asyncio
import gzip
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from email.utils import formatdate, parsedate_to_datetime

from forebay.model import Fields


@dataclass(slots=True)
class OriginRequest:
    """One request as it reached the origin.

    ``target`` is the request line's target as sent. ``body_bytes_sent`` counts the bytes of
    the response's body (without chunk framing) that were handed to the socket so far.
    ``connection`` numbers the connection, from 1 in the order they were accepted.
    """

    method: str
    target: str
    fields: Fields
    body: bytes
    connection: int
    reused: bool
    """Whether the connection had served a request before this one."""
    body_bytes_sent: int = 0
    status: int | None = None

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def range(self) -> str | None:
        """The Range field as sent."""
        return self.fields.get("range")


Handler = Callable[[OriginRequest], "Resource | Awaitable[Resource]"]


@dataclass(slots=True)
class Resource:
    """One scripted resource. All attributes may be changed while the origin runs.

    Without any fault it is an honest static file: validators, conditional requests, single
    ranges, If-Range, HEAD. Positions of faults count bytes of the body of *one* response, so
    that a range that begins at 100 with ``truncate_at=50`` breaks at the resource's byte 150.
    """

    body: bytes = b""
    status: int = 200
    etag: str | None = None
    last_modified: str | None = None
    ranges: bool = True
    """Whether Range is obeyed and Accept-Ranges sent."""
    chunked: bool = False
    content_length: bool = True
    """False without ``chunked``: the body ends with the connection."""
    headers: list[tuple[str, str]] = field(default_factory=list)
    """More fields; one with the name of a field that would be sent anyway replaces it."""
    comes_at_once: bool = True
    """Whether a body without faults is there with its head, where that can be told."""
    gzip: bool = False
    redirect_to: str | None = None
    handler: Handler | None = None
    """Asked at each request for the resource to answer with in place of this one."""

    head_delay_seconds: float = 0.0
    pace_bytes_per_second: float | None = None
    stall_at: int | None = None
    """Send this much of the body, then wait for ``go_on``."""
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    truncate_at: int | None = None
    """Send this much of the body, then close cleanly (FIN)."""
    reset_at: int | None = None
    """Send this much of the body, then reset the connection (RST)."""
    fault_times: int | None = None
    """How many requests meet stall, truncation and reset; None for every one."""
    hang_up_first: int = 0
    """The first N requests are answered by closing the connection without a byte."""
    hang_up_reused: bool = False
    """A request on a connection that has served one before is met by a close without a byte."""
    fail_first: int = 0
    """The first N requests get ``fail_status`` and ``retry_after``."""
    fail_status: int = 503
    retry_after: str | None = None
    change_after: int | None = None
    """After N requests, ``changed`` answers in place of this resource."""
    changed: Resource | None = None
    content_range: str | None = None
    """What a 206 claims in Content-Range in place of the truth; "" leaves the field out."""
    whole_for_range: bool = False
    """Send 200 and the whole for every range, although Accept-Ranges was promised."""
    surplus: bytes = b""
    """Sent behind the end of the body on the same connection."""
    raw: bytes | None = None
    """Sent in place of head and body, octet for octet; ``close`` says what happens then."""
    close: bool = False
    """Close the connection after the response."""
    requests_seen: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, fields and body of a response, before faults."""

    status: int
    fields: Fields
    body: bytes


_ONE_RANGE = re.compile(r"bytes=(\d*)-(\d*)$")


def answer(resource: Resource, request: OriginRequest) -> Answer:
    """The response that ``resource`` gives to ``request``, body included even for HEAD."""
    if resource.redirect_to is not None:
        status = resource.status if 300 <= resource.status < 400 else 302
        return Answer(status, _fields(resource, ("location", resource.redirect_to)), b"")
    if resource.requests_seen <= resource.fail_first:
        lines = [("retry-after", resource.retry_after)] if resource.retry_after else []
        return Answer(resource.fail_status, Fields(lines), b"not now\n")
    if resource.status == 200 and _not_modified(resource, request):
        return Answer(304, _fields(resource), b"")
    body = gzip.compress(resource.body, mtime=0) if resource.gzip else resource.body
    span = _span(resource, request, len(body))
    if span is None:
        return Answer(resource.status, _fields(resource), body)
    start, stop = span
    if start >= stop:
        return Answer(416, _fields(resource, ("content-range", f"bytes */{len(body)}")), b"")
    claimed = resource.content_range
    if claimed is None:
        claimed = f"bytes {start}-{stop - 1}/{len(body)}"
    more = (("content-range", claimed),) if claimed else ()
    return Answer(206, _fields(resource, *more), body[start:stop])


def _fields(resource: Resource, *more: tuple[str, str]) -> Fields:
    fields = Fields([("date", formatdate(usegmt=True)), *more])
    if resource.etag is not None:
        fields = fields.with_field("etag", resource.etag)
    if resource.last_modified is not None:
        fields = fields.with_field("last-modified", resource.last_modified)
    if resource.ranges:
        fields = fields.with_field("accept-ranges", "bytes")
    if resource.gzip:
        fields = fields.with_field("content-encoding", "gzip")
    given = fields.without(*(name for name, _ in resource.headers))
    return Fields([*given, *resource.headers])


def _not_modified(resource: Resource, request: OriginRequest) -> bool:
    """Steps 3 and 4 of RFC 9110 §13.2.2, with weak comparison of tags."""
    if request.method not in {"GET", "HEAD"}:
        return False
    tags = request.fields.combined("if-none-match")
    if tags is not None:
        members = {tag.strip().removeprefix("W/") for tag in tags.split(",")}
        return "*" in members or (
            resource.etag is not None and resource.etag.removeprefix("W/") in members
        )
    since = request.fields.get("if-modified-since")
    if since is None or resource.last_modified is None:
        return False
    return parsedate_to_datetime(resource.last_modified) <= parsedate_to_datetime(since)


def _span(resource: Resource, request: OriginRequest, length: int) -> tuple[int, int] | None:
    """The bytes [start, stop) that Range asks for, empty when none can be given; None for all."""
    usable = resource.ranges and not resource.whole_for_range and resource.status == 200
    if not usable or request.method != "GET" or request.range is None:
        return None
    condition = request.fields.get("if-range")
    if condition is not None and condition not in {_strong(resource), resource.last_modified}:
        return None
    match = _ONE_RANGE.match(request.range)
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        return max(0, length - int(last)), length
    stop = min(length, int(last) + 1) if last else length
    return int(first), stop


def _strong(resource: Resource) -> str | None:
    weak = resource.etag is None or resource.etag.startswith("W/")
    return None if weak else resource.etag
