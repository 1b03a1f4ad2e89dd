"""The door: a bare ASGI callable that tells downloads from the admin side.

A router with path parameters costs ten times what serving a hit does, and it decodes paths that
must stay as they came. So everything but a few fixed names goes straight to the service.

====================================================  =============================
``/-/…``, ``/healthz``, ``/livez``, ``/readyz``,      the admin application
``/metrics``
``GET|HEAD /-/fetch?url=…``                           the service, target from the query
``GET|HEAD /-/``                                      the dashboard's page, without a token
``PURGE <object>``                                    the service's purge, with the token
``GET|HEAD /`` (unless a mount has it)                the page for people
anything else, any method, absolute-form too          the service
====================================================  =============================

Where the admin side has an address of its own, everything of it but ``/-/fetch`` and health is
answered there, with 404 on the port for downloads, and downloads are not answered there. Only our
own protocol tells the two apart (``asgi.ADMIN_SIDE``), so that without it nothing is open.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from contextlib import nullcontext
from dataclasses import asdict, replace

from forebay.errors import ForebayError, RequestError
from forebay.model import Request
from forebay.ports import Reply
from forebay.service import Service
from forebay.web import audit, digests, log, orders
from forebay.web.asgi import (
    ADMIN_SIDE,
    RAW_TARGET,
    App,
    ClientLeftError,
    Message,
    Receive,
    ResponseCutError,
    Scope,
    Send,
    send_problem,
    send_whole,
)
from forebay.web.auth import AdminGuard, scope_for
from forebay.web.dashboard import dashboard
from forebay.web.entrance import Entrance, Visitor
from forebay.web.fetch import parse_fetch
from forebay.web.heads import RawTarget
from forebay.web.incoming import (
    Incoming,
    WhileThere,
    body_length,
    check_scope,
    interim_sender,
    request_of,
    target_of,
)
from forebay.web.landing import landing_page
from forebay.web.limits import DoorLimits
from forebay.web.metrics import Metrics
from forebay.web.problems import Problem, UnexpectedBody, internal_fault, problem_of
from forebay.web.refusals import refusal_app
from forebay.web.responses import ReplySender
from forebay.web.shares import Share
from forebay.web.ways import WaysIn

logger = logging.getLogger("forebay.web")

ADMIN_PREFIX = b"/-/"
DASHBOARD_PATH = b"/-/"
FETCH_PATH = b"/-/fetch"
METRICS_PATH = b"/metrics"
HEALTH_PATHS = frozenset({b"/healthz", b"/livez", b"/readyz", METRICS_PATH})

CLIENT_LEFT = 499
"""In logs and metrics only: the client left before there was a status (nginx's number)."""


class Door:
    """Answers each HTTP request of one server.

    ``admin_apart`` says whether the admin side has an address of its own.
    """

    def __init__(
        self,
        service: Service,
        admin: App,
        guard: AdminGuard,
        metrics: Metrics,
        entrance: Entrance,
        *,
        limits: DoorLimits,
        ways: WaysIn,
        admin_apart: bool,
    ) -> None:
        self._entrance = entrance
        self._admin_apart = admin_apart
        self._service = service
        self._admin = admin
        self._guard = guard
        self._metrics = metrics
        self._ways = ways
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        target = target_of(scope)
        refusal = None if RAW_TARGET in scope else check_scope(scope)
        if refusal is not None:
            await refusal_app(refusal)(scope, receive, send)
            return
        request = self._entrance.proxies.seen_through(request_of(scope, target))
        exchange = Exchange(scope, request, receive, send)
        self._metrics.running.inc()
        try:
            await self._route(exchange, target)
        except ForebayError as error:
            await self._fail(exchange, problem_of(error), error)
        except ResponseCutError as error:
            self._metrics.responses_cut.inc()
            exchange.note = f"cut: {error}"
            raise
        except ClientLeftError:
            self._metrics.clients_left.inc()
            exchange.note = "client left"
        except Exception as error:
            self._metrics.faults.inc()
            problem = internal_fault()
            logger.exception("fault in the service, told as %s", problem.instance)
            await self._fail(exchange, problem, error)
        finally:
            self._metrics.running.dec()
            self._metrics.count_response(exchange.status)
            log.write(exchange.line(), exchange.log_level)

    def is_download(self, method: str, target: RawTarget) -> bool:
        """Whether this is for the service, which then reads its target from the request line."""
        if not target.absolute:
            if target.path.startswith(ADMIN_PREFIX) or target.path in HEALTH_PATHS:
                return False
            if self._ways.landing and target.path == b"/" and method in ("GET", "HEAD"):
                return False
        return method != "PURGE"

    async def _route(self, exchange: Exchange, target: RawTarget) -> None:
        method, path = exchange.method, target.path
        at_mount = exchange.request.port in self._ways.mount_ports and method != "PURGE"
        if self._admin_apart and not self._is_here(exchange, target):
            detail = "The admin side and downloads have an address each, and this is the other one."
            await send_problem(exchange.send, Problem(404, "admin-elsewhere", detail))
        elif at_mount or self.is_download(method, target):
            await self._download(exchange, None, digests.from_fields(exchange.request.fields))
        elif target.absolute:
            await self._purge(exchange)
        elif path == FETCH_PATH and method in ("GET", "HEAD"):
            await self._fetch(exchange)
        elif path == DASHBOARD_PATH and method in ("GET", "HEAD"):
            await send_whole(exchange.send, 200, *await asyncio.to_thread(dashboard))
        elif path.startswith(ADMIN_PREFIX) or path in HEALTH_PATHS:
            await self._pass_to_admin(exchange, path)
        elif method == "PURGE":
            await self._purge(exchange)
        elif self._service.is_claimed(exchange.request):
            await self._download(exchange, None, digests.from_fields(exchange.request.fields))
        else:
            request = exchange.request
            fields, body = landing_page(
                request.fields, request.scheme, with_admin=not self._admin_apart
            )
            await send_whole(exchange.send, 200, fields, body)

    def _is_here(self, exchange: Exchange, target: RawTarget) -> bool:
        """Whether this is asked at the right one of two addresses."""
        method, path = exchange.method, target.path
        if not target.absolute and path in HEALTH_PATHS - {METRICS_PATH}:
            return True
        is_fetch = path == FETCH_PATH and method in ("GET", "HEAD") and not target.absolute
        is_landing = path == b"/" and method in ("GET", "HEAD")
        is_download = self.is_download(method, target) or is_fetch or is_landing
        return is_download is not bool(exchange.scope.get(ADMIN_SIDE))

    async def _fetch(self, exchange: Exchange) -> None:
        query = parse_fetch(exchange.request.raw_query)
        expected = dict(digests.from_fields(exchange.request.fields))
        for algorithm, value in query.expected_digests:
            if expected.setdefault(algorithm, value) != value:
                raise RequestError(f"Two different {algorithm} digests are expected at once.")
        await self._download(exchange, query.url, tuple(expected.items()))

    async def _download(
        self, exchange: Exchange, url: str | None, expected: digests.Digests
    ) -> None:
        """Ask the service and send its reply, for as long as the client is there."""
        request = replace(exchange.request, on_interim=interim_sender(exchange.scope))
        visitor = self._visitor(request, url)
        length = body_length(request.fields)
        has_body = length != 0
        if has_body and request.method in ("GET", "HEAD"):
            raise UnexpectedBody(f"A {request.method} request with a body is not answered.")
        incoming = Incoming(
            exchange.receive,
            has_body=has_body,
            stall_seconds=self._limits.body_stall_seconds,
            min_rate_bytes=self._limits.min_rate_bytes,
        )
        share = self._entrance.share_of(visitor)
        if share is not None:
            share.take_request()
        async with WhileThere(incoming), nullcontext() if share is None else share.download():
            reply = await self._service.respond(
                visitor.request,
                body=incoming.body() if has_body else None,
                body_length_bytes=length if has_body else None,
                url=url,
                expected_digests=expected,
            )
            await self._send_reply(exchange, reply, share)

    def _visitor(self, request: Request, url: str | None) -> Visitor:
        """Who downloads. Raises ``ForebayError`` for those who may not."""
        if not self._entrance.access:
            return self._entrance.admit(request, ())
        mounts = self._service.mounts_asked(request, url=url)
        return self._entrance.admit_and_count(request, mounts)

    async def _send_reply(self, exchange: Exchange, reply: Reply, share: Share | None) -> None:
        exchange.reply = reply
        sender = ReplySender(reply, exchange.scope, exchange.send, share)
        try:
            await sender.run()
        finally:
            # Awaits nothing by contract, so that a cancellation cannot cut it short.
            if reply.body is not None:
                await reply.body.aclose()
            exchange.sent_bytes = sender.sent_bytes
            self._service.note_served(reply, sender.sent_bytes)

    async def _purge(self, exchange: Exchange) -> None:
        if not await self._is_admin(exchange, b""):
            return
        result = await self._service.purge_request(exchange.request)
        what = "url=" + log.printable(exchange.name)
        audit.write(
            audit.line_for(exchange.scope, "purge", what, result.objects, result.size_bytes)
        )
        body = json.dumps(asdict(result)).encode() + b"\n"
        fields = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
        ]
        await send_whole(exchange.send, 200, fields, body)

    async def _pass_to_admin(self, exchange: Exchange, path: bytes) -> None:
        exchange.log_level = logging.DEBUG if path in HEALTH_PATHS else logging.INFO
        if path not in HEALTH_PATHS and not await self._is_admin(exchange, path):
            return
        body = await orders.body_of(exchange.receive, exchange.request.fields)
        if body is None:
            await send_problem(
                exchange.send,
                Problem(413, "too-large", "No order to the admin side is that long."),
            )
            return
        scope = orders.as_json(exchange.scope) if body else exchange.scope
        receive = orders.replayed(body, exchange.receive)
        await self._admin(scope, receive, _guarded(exchange.send))

    async def _is_admin(self, exchange: Exchange, path: bytes) -> bool:
        """Whether the request came with the token that it needs; if not, it has been told so."""
        request = exchange.request
        scope = scope_for(exchange.method, path)
        admitted = self._guard.admit(request.fields, request.client_host, scope)
        if isinstance(admitted, Problem):
            await send_problem(exchange.send, admitted)
            return False
        # What the audit log says of it; the scope is this request's own.
        exchange.scope[audit.ADMIN] = admitted.name
        exchange.scope["client"] = (request.client_host, 0) if request.client_host else None
        return True

    async def _fail(self, exchange: Exchange, problem: Problem, error: Exception) -> None:
        """Tell of a failure: by a problem, or by a cut where the head has left."""
        exchange.note = str(error) if isinstance(error, ForebayError) else problem.instance
        if exchange.started:
            self._metrics.responses_cut.inc()
            raise ResponseCutError(problem.detail) from error
        try:
            await send_problem(exchange.send, problem)
        except ClientLeftError:
            exchange.note = "client left"


class Exchange:
    """One request and what becomes of it, as the log will tell it."""

    def __init__(self, scope: Scope, request: Request, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.receive = receive
        self.method: str = scope["method"]
        self.request = request
        self.reply: Reply | None = None
        self.status = CLIENT_LEFT
        self.started = False
        self.sent_bytes = 0
        self.note = ""
        self.log_level = logging.INFO
        self._send = send
        self._begin = time.perf_counter()

    async def send(self, message: Message) -> None:
        """Pass a message on and remember what the log wants to know.

        Raises ``ClientLeftError`` where the server says so (ASGI, HTTP spec version 2.4).
        """
        try:
            await self._send(message)
        except OSError as error:
            raise ClientLeftError from error
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
        elif self.reply is None:
            self.sent_bytes += len(message.get("body", b""))

    @property
    def name(self) -> str:
        """What was asked for, secrets masked."""
        if self.reply is not None and self.reply.target_name:
            return self.reply.target_name
        path = self.request.raw_path
        if self.request.absolute:
            path = f"{self.request.scheme}://{self.request.authority}{path}"
        return log.masked_name(path, self.request.raw_query)

    def line(self) -> log.AccessLine:
        """The line for the access log."""
        return log.AccessLine(
            client=self.request.client_host,
            method=self.method,
            name=self.name,
            status=self.status,
            sent_bytes=self.sent_bytes,
            duration_seconds=time.perf_counter() - self._begin,
            cache=self.reply.cache_status.outcome.value if self.reply is not None else "-",
            note=self.note or self._why(),
        )

    def _why(self) -> str:
        """Why the reply was not kept or not fresh, as Cache-Status tells its client."""
        return (self.reply.cache_status.detail or "") if self.reply is not None else ""


_ADMIN_FIELDS = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
"""For every answer of the admin application that does not have its own."""


def _guarded(send: Send) -> Send:
    """The same ``send``, which adds ``_ADMIN_FIELDS`` to the head."""

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            fields = list(message.get("headers", ()))
            names = {name.lower() for name, _ in fields}
            message["headers"] = fields + [f for f in _ADMIN_FIELDS if f[0] not in names]
        await send(message)

    return guarded
