"""A scripted HTTP/1.1 origin on a real socket, honest until told otherwise.

::

    async with Origin() as origin:
        file = origin.add("/file", body=b"...", etag='"a"', truncate_at=100, fault_times=1)
        ...                                   # fetch origin.url("/file")
        assert [r.range for r in origin.requests] == [None, "bytes=100-"]
        await origin.wait_for_connections(0)  # nothing was left open

It listens on port 0 of 127.0.0.1, in the loop of the test. What a resource can do stands in
``tests.fakes.resources``. A client that closes or resets its connection ends the handling of
it at once, so that ``open_connections`` is what the client really holds. Bytes count as sent
when the kernel has taken them: a socket's buffers may hold some that the client has not read.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from forebay.model import Fields
from tests.fakes.resources import Answer, OriginRequest, Resource, answer
from tests.patience import PATIENCE_SECONDS

__all__ = ["Origin", "OriginRequest", "Resource"]

_PIECE_BYTES = 65_536
_NOTHING = Resource(status=404, body=b"not found\n", ranges=False)


class Origin:
    """The server. Use it as an async context manager; requests are recorded in arrival order.

    ``tls`` makes it an https origin. ``send_buffer_bytes`` sets SO_SNDBUF of its connections:
    small values make ``body_bytes_sent`` follow more closely what the client has read.
    """

    def __init__(
        self, *, tls: ssl.SSLContext | None = None, send_buffer_bytes: int | None = None
    ) -> None:
        self.requests: list[OriginRequest] = []
        self.errors: list[Exception] = []
        """What went wrong in handlers and in reading requests; the first is raised at exit."""
        self.connections_accepted = 0
        self._tls = tls
        self._send_buffer_bytes = send_buffer_bytes
        self._resources: dict[str, Resource] = {}
        self._open: set[_Connection] = set()
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._port = 0

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self), "127.0.0.1", 0, ssl=self._tls, backlog=1024
        )
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.refuse_connections()
        tasks = [connection.abort() for connection in self._open]
        await asyncio.gather(*tasks)
        if self.errors and kind is None:
            raise self.errors[0]

    # what is served

    def add(self, path: str, **script: Any) -> Resource:
        """Serve a ``Resource`` made of these attributes under a path, or a path with query."""
        return self.put(path, Resource(**script))

    def put(self, path: str, resource: Resource) -> Resource:
        """Serve this resource under a path, or a path with its query."""
        self._resources[path] = resource
        return resource

    @property
    def resources(self) -> dict[str, Resource]:
        """What is served, by path."""
        return self._resources

    def remove(self, path: str) -> None:
        """From now on the path is answered with 404."""
        self._resources.pop(path, None)

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        """The absolute URL of a path here."""
        return f"{'https' if self._tls else 'http'}://{host}:{self._port}{path}"

    @property
    def port(self) -> int:
        return self._port

    def refuse_connections(self) -> None:
        """Stop listening: further connections are refused, those that are open go on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def drop_connections(self) -> None:
        """Close every open connection cleanly, idle or not, as a server does that restarts."""
        for connection in tuple(self._open):
            connection.hang_up()

    # what was seen

    @property
    def open_connections(self) -> int:
        """Connections that are open now, busy or idle."""
        return len(self._open)

    @property
    def body_bytes_sent(self) -> int:
        """Bytes of response bodies handed to sockets, over all requests."""
        return sum(request.body_bytes_sent for request in self.requests)

    def requests_for(self, path: str) -> list[OriginRequest]:
        """The requests for one path, whatever their query, in order."""
        return [request for request in self.requests if request.path == path]

    async def wait_for_connections(
        self, count: int, timeout_seconds: float = PATIENCE_SECONDS
    ) -> None:
        """Return when exactly this many connections are open; ``TimeoutError`` otherwise."""
        async with asyncio.timeout(timeout_seconds):
            while self.open_connections != count:
                await self._change()

    async def wait_for_requests(
        self, count: int, timeout_seconds: float = PATIENCE_SECONDS
    ) -> None:
        """Return when at least this many requests have come; ``TimeoutError`` otherwise."""
        async with asyncio.timeout(timeout_seconds):
            while len(self.requests) < count:
                await self._change()

    async def wait_for_body_bytes(
        self, count: int, timeout_seconds: float = PATIENCE_SECONDS
    ) -> None:
        """Return when at least this many body bytes were sent; ``TimeoutError`` otherwise."""
        async with asyncio.timeout(timeout_seconds):
            while self.body_bytes_sent < count:
                await self._change()

    async def _change(self) -> None:
        await self._changed.wait()

    # what connections report

    def note_change(self) -> None:
        """Wake whoever waits for a count."""
        self._changed.set()
        self._changed = asyncio.Event()

    def note_open(self, connection: _Connection, transport: asyncio.WriteTransport) -> int:
        """Register a connection and give its number."""
        self._open.add(connection)
        self.connections_accepted += 1
        sock = transport.get_extra_info("socket")
        if self._send_buffer_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._send_buffer_bytes)
        self.note_change()
        return self.connections_accepted

    def note_closed(self, connection: _Connection) -> None:
        """Forget a connection that is gone."""
        self._open.discard(connection)
        self.note_change()

    async def resource_for(self, request: OriginRequest) -> Resource:
        """The resource that answers now: scripted changes and handlers are followed."""
        # Absolute-form (a client that takes us for a proxy) is served by its path alone.
        target = request.target
        if not target.startswith("/"):
            parts = urlsplit(target)
            target = parts.path + (f"?{parts.query}" if parts.query else "")
        path = target.partition("?")[0]
        resource = self._resources.get(target) or self._resources.get(path) or _NOTHING
        resource.requests_seen += 1
        if resource.change_after is not None and resource.requests_seen > resource.change_after:
            assert resource.changed is not None, "change_after needs changed"
            resource = resource.changed
            resource.requests_seen += 1
        if resource.handler is None:
            return resource
        made = resource.handler(request)
        resource = await made if inspect.isawaitable(made) else made
        resource.requests_seen += 1
        return resource


class _HungUp(Exception):
    """The script closes this connection now."""


class _Connection(asyncio.StreamReaderProtocol):
    """One client's connection: a task that reads requests and sends what the script says."""

    def __init__(self, origin: Origin) -> None:
        super().__init__(asyncio.StreamReader(), self._started)
        self._origin = origin
        # Not _transport and _task: asyncio's own class has these, and forgets them on its way out.
        self._wire: asyncio.WriteTransport | None = None
        self._handling: asyncio.Task[None] | None = None
        self._number = 0
        self._served = 0

    # life

    def _started(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._wire = writer.transport
        self._number = self._origin.note_open(self, writer.transport)
        self._handling = asyncio.ensure_future(self._serve(reader, writer))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._origin.note_closed(self)
        if self._handling is not None:
            self._handling.cancel()

    def eof_received(self) -> bool | None:
        super().eof_received()
        self.hang_up()
        return False

    def hang_up(self) -> None:
        """Close cleanly, dropping nothing that the kernel already has."""
        if self._wire is not None:
            self._wire.close()

    async def abort(self) -> None:
        """End at once and wait until the handling has ended."""
        if self._wire is not None:
            # An ended TLS transport says so by an AttributeError before Python 3.11.4.
            with contextlib.suppress(AttributeError):
                self._wire.abort()
        if self._handling is not None:
            self._handling.cancel()
            await asyncio.wait([self._handling])

    def _reset(self) -> None:
        assert self._wire is not None
        # A linger time of zero makes close() send RST instead of FIN.
        sock = self._wire.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._wire.abort()

    # requests

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # drain() then waits for the kernel, so that sent bytes are counted honestly.
        # (High is 1, because asyncio's TLS transport never resumes at a high of 0.)
        writer.transport.set_write_buffer_limits(high=1, low=0)
        try:
            while True:
                request = await self._read_request(reader, writer)
                self._origin.requests.append(request)
                self._origin.note_change()
                resource = await self._origin.resource_for(request)
                self._served += 1
                await self._respond(resource, request, writer)
        except (asyncio.CancelledError, asyncio.IncompleteReadError, ConnectionError, _HungUp):
            pass
        except Exception as error:
            # uvloop says RuntimeError when one writes to what has just been closed.
            if not (isinstance(error, RuntimeError) and writer.is_closing()):
                self._origin.errors.append(error)
        finally:
            writer.close()

    async def _read_request(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> OriginRequest:
        first = await reader.readexactly(1)
        if first == b"\x16":  # a TLS handshake, on a port that is plain
            raise _HungUp
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *lines = head[:-4].split("\r\n")
        method, target, _ = line.split(" ")
        pairs = (text.partition(":") for text in lines)
        fields = Fields((name, value.strip(" \t")) for name, _, value in pairs)
        if fields.get("expect") == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = b""
        if "transfer-encoding" in fields:
            body = b"".join([piece async for piece in _read_chunks(reader)])
        elif (length := fields.get("content-length")) is not None:
            body = await reader.readexactly(int(length))
        return OriginRequest(method, target, fields, body, self._number, self._served > 0)

    # responses

    async def _respond(
        self, resource: Resource, request: OriginRequest, writer: asyncio.StreamWriter
    ) -> None:
        if resource.requests_seen <= resource.hang_up_first or (
            resource.hang_up_reused and request.reused
        ):
            raise _HungUp
        await asyncio.sleep(resource.head_delay_seconds)
        if resource.raw is not None:
            writer.write(resource.raw)
        else:
            made = answer(resource, request)
            request.status = made.status
            writer.write(_head_octets(resource, made))
            if request.method != "HEAD" and made.status not in {204, 304}:
                await self._send_body(resource, made, request, writer)
        writer.write(resource.surplus)
        await writer.drain()
        if resource.close or _ends_with_connection(resource, request):
            raise _HungUp

    async def _send_body(
        self,
        resource: Resource,
        made: Answer,
        request: OriginRequest,
        writer: asyncio.StreamWriter,
    ) -> None:
        chunked = resource.chunked
        faulty = resource.fault_times is None or resource.requests_seen <= resource.fault_times
        faults = _Faults(resource) if faulty else _Faults(Resource())
        started = asyncio.get_running_loop().time()
        position = 0
        while True:
            await self._meet_faults(faults, resource, position, writer)
            if position == len(made.body):
                break
            stop = faults.next_stop(position, len(made.body), _piece_bytes(resource))
            piece = made.body[position:stop]
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            await writer.drain()
            position = stop
            request.body_bytes_sent += len(piece)
            self._origin.note_change()
            if resource.pace_bytes_per_second is not None:
                due = started + position / resource.pace_bytes_per_second
                await asyncio.sleep(due - asyncio.get_running_loop().time())
        if chunked:
            writer.write(b"0\r\n\r\n")

    async def _meet_faults(
        self, faults: _Faults, resource: Resource, position: int, writer: asyncio.StreamWriter
    ) -> None:
        await writer.drain()
        if position == faults.stall_at:
            await resource.go_on.wait()
        if position == faults.reset_at:
            self._reset()
            raise _HungUp
        if position == faults.truncate_at:
            raise _HungUp


class _Faults:
    """The positions at which one response's body goes wrong."""

    def __init__(self, resource: Resource) -> None:
        self.stall_at = resource.stall_at
        self.truncate_at = resource.truncate_at
        self.reset_at = resource.reset_at

    def next_stop(self, position: int, length: int, piece_bytes: int) -> int:
        """Where the next piece ends: at a fault, at the end, or when it is large enough."""
        stops = (self.stall_at, self.truncate_at, self.reset_at, length, position + piece_bytes)
        return min(stop for stop in stops if stop is not None and stop > position)


def _piece_bytes(resource: Resource) -> int:
    """Paced bodies go in a hundred small pieces a second, others in large ones."""
    pace = resource.pace_bytes_per_second
    return _PIECE_BYTES if pace is None else max(1, min(_PIECE_BYTES, int(pace / 100)))


def _head_octets(resource: Resource, made: Answer) -> bytes:
    lines = list(made.fields)
    given = {name for name, _ in lines}
    bodiless = made.status in {204, 304}
    if resource.chunked and not bodiless:
        lines.append(("transfer-encoding", "chunked"))
    elif resource.content_length and not bodiless and "content-length" not in given:
        lines.append(("content-length", str(len(made.body))))
    text = "".join(f"{name}: {value}\r\n" for name, value in lines)
    return f"HTTP/1.1 {made.status} Scripted\r\n{text}\r\n".encode("latin-1")


def _ends_with_connection(resource: Resource, request: OriginRequest) -> bool:
    asked = (request.fields.combined("connection") or "").lower()
    unframed = not resource.chunked and not resource.content_length and resource.raw is None
    return "close" in asked or (unframed and request.status not in {204, 304})


async def _read_chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass
