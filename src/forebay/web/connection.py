"""One client connection: uvicorn's httptools protocol, held to our promises.

What it adds: statuses beyond 599, the request target as it came (``asgi.RAW_TARGET``), an absolute
deadline for a head, bounds on heads and pipelines, refusal of what llhttp lets pass (``heads``),
refusals that wait their turn behind running answers, clients that half-close or vanish, and no
Date or Server of the server's own. How octets go out, and clients that take none: ``sending``.

How a client leaves. A reset is the end. The end of the client's stream may be ``close`` or
``shutdown(SHUT_WR)``, which only a byte of ours tells apart: a response that is moving goes on
(if nobody is there, a reset comes at once), one that has nothing to send yet waits
``half_close_seconds`` and is then given up. Under TLS the end of the stream ends it all.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import urllib.parse
from typing import Any, ClassVar, NoReturn, cast

import httptools

from forebay.web import heads, zerocopy
from forebay.web.asgi import ADMIN_SIDE, INTERIM, RAW_TARGET, ZERO_COPY, App, Scope
from forebay.web.capacity import DESCRIPTORS, REQUEST_DESCRIPTORS, SHEDDER, Descriptors, Shedder
from forebay.web.cycle import Cycle
from forebay.web.heads import Refusal
from forebay.web.limits import AdminAddress
from forebay.web.refusals import refusal_app
from forebay.web.sending import SendingConnection

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class RefusedError(Exception):
    """Carries a refusal out of a parser callback."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


class ClientConnection(SendingConnection):
    """One client connection. uvicorn makes it and calls it as any ``asyncio.Protocol``."""

    descriptors: ClassVar[Descriptors] = DESCRIPTORS
    shedder: ClassVar[Shedder] = SHEDDER
    admin_address: ClassVar[AdminAddress | None] = None
    """Where the admin side has an address of its own; connections there are marked."""
    is_admin_side: bool = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ws_protocol_class = None
        self._running: Cycle | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._grace: asyncio.TimerHandle | None = None
        self._in_head = False
        self._head_bytes = 0
        self._unparsed_bytes = 0
        self._refusal: Refusal | None = None
        self._deaf = False
        self._half_closed = False
        self._early: bytearray | None = None

    # The connection comes and goes.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        if self.admin_address is not None and sock is not None:
            self.is_admin_side = self.admin_address.is_of(sock.getsockname())
        self._arm_deadline()
        self._turn_away_surplus()

    @property
    def resting_since(self) -> float:
        """When, by the loop's clock, the last answer was complete; for one with a keep-alive
        timer only."""
        timer = self.timeout_keep_alive_task
        return 0.0 if timer is None else timer.when() - self.timeout_keep_alive

    def _turn_away_surplus(self) -> None:
        """Refuse a connection too many at once, lest it wait for its request at our cost."""
        if len(self.connections) > self.limits.max_connections:
            why = f"all {self.limits.max_connections} connections are taken"
        elif not self.descriptors.take(1, reserve_share=0.5):
            why = "descriptors are nearly used up"
        else:
            return
        self.shedder.shed(self.connections, why)
        if self.descriptors.take(1, reserve_share=0.25):
            self._refuse(Refusal(503, "There are as many connections as can be served; try again."))
        else:
            self.drop(reset=True)

    def connection_lost(self, exc: Exception | None) -> None:
        self._deaf = True
        for timer in (self._deadline, self._grace):
            if timer is not None:
                timer.cancel()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the way to a half-closed client open while an answer is on it."""
        if self._running is None or self.scheme == "https" or self.transport.is_closing():
            return False
        if self._half_closed:
            return True
        if self.cycle.more_body:  # A request that will never be whole.
            self._abandon_all()
            return False
        self.cycle.keep_alive = False
        self._half_closed = True
        self._grace = self.loop.call_later(
            self.limits.half_close_seconds, self._half_close_over, self._written_bytes
        )
        return True

    def _half_close_over(self, written_before: int) -> None:
        if self._written_bytes == written_before and not self._waiting():
            self._abandon_all()
            self.transport.abort()
            return
        self._grace = self.loop.call_later(
            self.limits.half_close_seconds, self._half_close_over, self._written_bytes
        )

    def _abandon_all(self) -> None:
        if self._running is not None:
            self._running.abandon()
        for cycle, _ in self.pipeline:
            cycle.abandon()  # type: ignore[attr-defined]  # what is queued here is ours
        self.pipeline.clear()

    def shutdown(self) -> None:
        """Finish the answer that is running, then close; close at once when idle."""
        if self._running is None:
            self.transport.close()
        else:
            self._running.keep_alive = False

    # Octets come in.

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._deaf:
            return
        self._unparsed_bytes += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self._refuse(self._refusal or Refusal(400, "This is not a request HTTP/1.1 knows."))
            return
        if self._unparsed_bytes > self.limits.max_head_bytes and self._early is None:
            # In a body these are trailers, or extensions of chunks: the parser gathers them.
            part = "head is" if self._in_head else "trailers are"
            self._refuse(Refusal(431, f"The request {part} too long."))
        elif self._early is None and (
            self._running,
            self._deadline,
            self.timeout_keep_alive_task,
        ) == (None, None, None):
            self._arm_deadline()

    def _feed(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as pause:
                # An offer to switch protocols is declined by going on as before (RFC 9110 §7.8).
                data = data[pause.args[0] :]
                if self._early is not None:
                    self._early += data  # What a client sent into its tunnel before it was open.
                    return
            else:
                return

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0
        self._unparsed_bytes = 0
        self._unset_keepalive_if_required()
        self._arm_deadline()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > self.limits.max_target_bytes:
            self._raise(Refusal(414, "The request target is too long."))

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # Trailers (RFC 9110 §6.5.1): never to be merged into the fields.
        super().on_header(name, value)
        self._head_bytes += len(name) + len(value) + 4
        if (
            len(self.headers) > self.limits.max_fields
            or self._head_bytes + len(self.url) > self.limits.max_head_bytes
        ):
            self._raise(Refusal(431, "The request has too many or too long header fields."))

    def on_body(self, body: bytes) -> None:
        self._unparsed_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unparsed_bytes = 0
        super().on_message_complete()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._unparsed_bytes = 0
        self._disarm_deadline()
        version = self.parser.get_http_version()
        method = self.parser.get_method().decode("ascii")
        if method == "CONNECT" and self._begins_tunnel():
            return
        refusal = heads.check_head(version, method, self.url, self.headers)
        if refusal is not None:
            self._raise(refusal)
        if len(self.pipeline) >= self.limits.max_pipelined:
            self.drop(reset=True)
            self._raise(Refusal(400, "Too many requests wait on this connection."))
        self._fill_scope(method, version)
        keep_alive = version == "1.1" and self.parser.should_keep_alive()
        if keep_alive and self._answer_at_once():
            return
        self.cycle = Cycle(  # type: ignore[assignment]  # ours has the same face
            self,
            cast("Scope", self.scope),
            keep_alive=keep_alive,
            expects_continue=self.expect_100_continue and version == "1.1",
        )
        if version == "1.1":
            extensions = cast("Scope", self.scope).setdefault("extensions", {})
            extensions[INTERIM] = cast("Cycle", self.cycle).send_interim
        self._enqueue(cast("Cycle", self.cycle), self._application())

    def _begins_tunnel(self) -> bool:
        """Whether the CONNECT whose head has come is answered by a tunnel (``tunnelling``)."""
        return False

    def _answer_at_once(self) -> bool:
        """Whether the request whose head has come was answered here and now."""
        return False

    def _fill_scope(self, method: str, version: str) -> None:
        target = heads.split_target(self.url)
        scope = cast("Scope", self.scope)
        scope["asgi"] = {"version": self.asgi_version, "spec_version": "2.4"}
        scope["method"] = method
        scope["http_version"] = version
        scope["path"] = self.root_path + urllib.parse.unquote(target.path.decode("ascii"))
        scope["raw_path"] = self.root_path.encode("ascii") + target.path
        scope["query_string"] = target.query or b""
        scope[RAW_TARGET] = self.url
        scope[ADMIN_SIDE] = self.is_admin_side
        if self._has_zero_copy():
            scope["extensions"] = {ZERO_COPY: {}}

    def _has_zero_copy(self) -> bool:
        return self.scheme == "http" and self.socket_fileno >= 0 and zerocopy.available()

    def _application(self) -> App:
        """The application for the next request."""
        limit = self.limit_concurrency
        if limit is not None and max(len(self.connections), len(self.tasks)) >= limit:
            return refusal_app(Refusal(503, "As many requests as are allowed run already."))
        spared = heads.is_for_operators(self.url)
        if not spared and not self.descriptors.take(REQUEST_DESCRIPTORS):
            self.shedder.shed(self.connections, "descriptors are nearly used up")
            return refusal_app(Refusal(503, "As much as can be served at once runs already."))
        return cast("App", self.app)

    def _enqueue(self, cycle: Cycle, app: App) -> None:
        if self._running is None:
            self._start_asgi_task(cycle, app)
            return
        self.pipeline.appendleft((cycle, app))  # type: ignore[arg-type]
        if self._has_enough():
            self.flow.pause_reading()

    def _has_enough(self) -> bool:
        """Whether no more requests are read for now. Not at the first that waits, as uvicorn has
        it: a client's leaving is noticed only while reading."""
        return len(self.pipeline) >= self.limits.max_pipelined // 4

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    # Refusals and deadlines.

    def _raise(self, refusal: Refusal) -> NoReturn:
        self._refusal = refusal
        raise RefusedError(refusal)

    def _refuse(self, refusal: Refusal) -> None:
        """Answer what is no request, in its turn, and close; hear nothing more."""
        self._deaf = True
        self._in_head = False
        self._disarm_deadline()
        if self.transport.is_closing():
            return
        broken = cast("Cycle | None", self.cycle)
        if broken is not None and broken.more_body and not broken.response_complete:
            if broken.response_started:
                self.drop(reset=True)
                return
            self._withdraw(broken)
        scope: Scope = {"type": "http", "method": "GET", "http_version": "1.1", "headers": []}
        answer = Cycle(self, scope, keep_alive=False, expects_continue=False)
        self.cycle = answer  # type: ignore[assignment]
        self._enqueue(answer, refusal_app(refusal))

    def _withdraw(self, broken: Cycle) -> None:
        """Take back a request whose body turned out to be no HTTP, before it is answered."""
        broken.abandon()
        waiting = [item for item in self.pipeline if cast("object", item[0]) is not broken]
        self.pipeline.clear()
        self.pipeline.extend(waiting)
        if self._running is broken:
            self._running = None

    def _arm_deadline(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.limits.head_seconds, self._head_overdue)

    def _disarm_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _head_overdue(self) -> None:
        self._deadline = None
        if self._running is not None:
            # The rest of a pipelined head may be waiting because *we* stopped reading.
            self._arm_deadline()
        elif self._in_head:
            self._refuse(Refusal(408, "The request head did not come in time."))
        elif not self.transport.is_closing():
            self.transport.close()

    # Answers end: the face towards ``Cycle``, beside that of ``SendingConnection``.

    def resume_reading(self) -> None:
        """Listen again, unless enough requests wait already."""
        if not self._has_enough() and not self._half_closed:
            self.flow.resume_reading()

    def cycle_complete(self, cycle: Cycle) -> None:
        """Go on with the next request, or close."""
        self._running = None
        if cycle.keep_alive and not self.transport.is_closing():
            self.on_response_complete()
            return
        self.server_state.total_requests += 1
        self._close_gently(linger=cycle.more_body)

    def drop(self, *, reset: bool) -> None:
        """End the connection so that an unfinished body is seen to be unfinished."""
        self._deaf = True
        if reset:
            sock = self.transport.get_extra_info("socket")
            if sock is not None:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.transport.abort()
        else:
            self.transport.close()

    def _close_gently(self, *, linger: bool) -> None:
        """Close; where the client may still be sending, first let it read our answer."""
        if not linger or self.transport.is_closing() or not self.transport.can_write_eof():
            self.transport.close()
            return
        self._deaf = True
        if self._grace is not None:
            self._grace.cancel()
        self.transport.write_eof()
        self.flow.resume_reading()
        self._grace = self.loop.call_later(self.limits.linger_seconds, self.transport.abort)
