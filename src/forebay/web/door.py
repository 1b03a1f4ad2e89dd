"""The door: a bare ASGI callable that tells downloads from the admin side.

A router with path parameters costs ten times what serving a hit does, and it decodes paths that
must stay as they came. So everything but a few fixed names goes straight to the service.

====================================================  =============================
``/-/…``, ``/healthz``, ``/livez``, ``/readyz``,      the admin application
``/metrics``
``GET|HEAD /-/fetch?url=…``                           the service, target from the query
``PURGE <object>``                                    the service's purge, with the token
``GET|HEAD /`` (unless a mount has it)                the page for people
anything else, any method, absolute-form too          the service
====================================================  =============================
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict, replace

from forebay.errors import ForebayError, RequestError
from forebay.model import Request
from forebay.ports import Reply
from forebay.service import Service
from forebay.web import digests, log
from forebay.web.admin import audit
from forebay.web.asgi import (
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
from forebay.web.auth import AdminGuard
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

logger = logging.getLogger("forebay.web")

ADMIN_PREFIX = b"/-/"
FETCH_PATH = b"/-/fetch"
HEALTH_PATHS = frozenset({b"/healthz", b"/livez", b"/readyz", b"/metrics"})
MAX_ADMIN_BODY_BYTES = 64 * 1024

CLIENT_LEFT = 499
"""In logs and metrics only: the client left before there was a status (nginx's number)."""


class Door:
    """Answers each HTTP request of one server; ``landing`` says whether ``/`` is the door's own.

    At ``mount_ports`` nothing is the door's own.
    """

    def __init__(
        self,
        service: Service,
        admin: App,
        guard: AdminGuard,
        metrics: Metrics,
        *,
        landing: bool,
        limits: DoorLimits,
        mount_ports: frozenset[int] = frozenset(),
    ) -> None:
        self._mount_ports = mount_ports
        self._service = service
        self._admin = admin
        self._guard = guard
        self._metrics = metrics
        self._landing = landing
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        target = target_of(scope)
        refusal = None if RAW_TARGET in scope else check_scope(scope)
        if refusal is not None:
            await refusal_app(refusal)(scope, receive, send)
            return
        exchange = Exchange(scope, target, receive, send)
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
            if self._landing and target.path == b"/" and method in ("GET", "HEAD"):
                return False
        return method != "PURGE"

    async def _route(self, exchange: Exchange, target: RawTarget) -> None:
        method, path = exchange.method, target.path
        at_mount = exchange.request.port in self._mount_ports and method != "PURGE"
        if at_mount or self.is_download(method, target):
            await self._download(exchange, None, digests.from_fields(exchange.request.fields))
        elif target.absolute:
            await self._purge(exchange)
        elif path == FETCH_PATH and method in ("GET", "HEAD"):
            await self._fetch(exchange)
        elif path.startswith(ADMIN_PREFIX) or path in HEALTH_PATHS:
            await self._pass_to_admin(exchange, path)
        elif method == "PURGE":
            await self._purge(exchange)
        else:
            fields, body = landing_page(exchange.request.fields, exchange.request.scheme)
            await send_whole(exchange.send, 200, fields, body)

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
        async with WhileThere(incoming):
            reply = await self._service.respond(
                request,
                body=incoming.body() if has_body else None,
                body_length_bytes=length if has_body else None,
                url=url,
                expected_digests=expected,
            )
            await self._send_reply(exchange, reply)

    async def _send_reply(self, exchange: Exchange, reply: Reply) -> None:
        exchange.reply = reply
        sender = ReplySender(reply, exchange.scope, exchange.send)
        try:
            await sender.run()
        finally:
            # Awaits nothing by contract, so that a cancellation cannot cut it short.
            if reply.body is not None:
                await reply.body.aclose()
            exchange.sent_bytes = sender.sent_bytes
            self._service.note_served(reply, sender.sent_bytes)

    async def _purge(self, exchange: Exchange) -> None:
        request = exchange.request
        problem = self._guard.refuse(request.fields, request.client_host)
        if problem is not None:
            await send_problem(exchange.send, problem)
            return
        result = await self._service.purge_request(request)
        audit(request.client_host, "url=" + log.printable(exchange.name), result)
        body = json.dumps(asdict(result)).encode() + b"\n"
        fields = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
        ]
        await send_whole(exchange.send, 200, fields, body)

    async def _pass_to_admin(self, exchange: Exchange, path: bytes) -> None:
        exchange.log_level = logging.DEBUG if path in HEALTH_PATHS else logging.INFO
        if path not in HEALTH_PATHS:
            request = exchange.request
            problem = self._guard.refuse(request.fields, request.client_host)
            if problem is not None:
                await send_problem(exchange.send, problem)
                return
        body = await _read_small(exchange)
        if body is None:
            await send_problem(
                exchange.send,
                Problem(413, "too-large", "No order to the admin side is that long."),
            )
            return
        await self._admin(exchange.scope, _replay(body, exchange.receive), exchange.send)

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

    def __init__(self, scope: Scope, target: RawTarget, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.receive = receive
        self.method: str = scope["method"]
        self.request: Request = request_of(scope, target)
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
            note=self.note,
        )


async def _read_small(exchange: Exchange) -> bytes | None:
    """The whole request body, or None if it is longer than an order can be."""
    if body_length(exchange.request.fields) == 0:
        return b""
    incoming = Incoming(exchange.receive, has_body=True)
    body = bytearray()
    async for chunk in incoming.body():
        body += chunk
        if len(body) > MAX_ADMIN_BODY_BYTES:
            return None
    return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives this body first and then goes on as before."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        while (message := await receive())["type"] == "http.request":
            pass
        return message

    return replayed
