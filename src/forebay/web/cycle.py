"""One request and its response on a connection: the ASGI conversation as a state machine.

States of the response, and what moves it on::

    IDLE --http.response.start--> HEADED --last body message--> COMPLETE
    any of them --connection lost--> disconnected
    HEADED --failure of the application--> cut

A head is held back until the first body message or the next turn of the loop, whichever comes
first: a small hit then leaves in one packet, and a slow upstream's head is not kept waiting.

A cut must be seen by the client. With a length or chunks a plain close does it, after the bytes
that were already given; where only the end of the connection ends the body (HTTP/1.0), the
connection is reset, since a plain close would look complete.

The attributes that uvicorn's protocol class reads (``response_complete``, ``disconnected``,
``keep_alive``, ``body``, ``more_body``, ``message_event``) keep the names it gave them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from typing import Any, Protocol

from forebay.model import Head
from forebay.web.asgi import (
    INTERIM,
    ZERO_COPY,
    App,
    Message,
    ResponseCutError,
    Scope,
    send_problem,
)
from forebay.web.framing import Framing, ResponseHead, render_head, render_interim
from forebay.web.problems import internal_fault
from forebay.web.zerocopy import FileSend, read_resident

SMALL_FILE_BYTES = 64 * 1024
"""Up to here a resident piece is copied and leaves with its head in one call, which spares a
duplicate descriptor and a second system call. The border is a guess, to be measured."""

logger = logging.getLogger("forebay.web")


class ClientGoneError(OSError):
    """Raised by ``send`` once the client has left (ASGI, HTTP spec version 2.4)."""


class Connection(Protocol):
    """What a cycle needs of the connection it runs on."""

    socket_fileno: int

    def write(self, data: bytes) -> None:
        """Give octets to the transport."""

    async def drained(self) -> None:
        """Wait until the transport holds nothing back, or the connection is lost."""

    def watch(self, sender: FileSend | None) -> None:
        """``sender`` is at work now and may have to wait for the client."""

    def resume_reading(self) -> None:
        """The application wants more of the request, or word of the client's leaving."""

    def cycle_complete(self, cycle: Cycle) -> None:
        """The last byte of the response has been written."""

    def drop(self, *, reset: bool) -> None:
        """Close after what was written, or at once with a reset."""


class Cycle:
    """One request on ``connection``; ``run_asgi`` is started by the protocol, in order."""

    def __init__(
        self, connection: Connection, scope: Scope, *, keep_alive: bool, expects_continue: bool
    ) -> None:
        self._connection = connection
        self.scope = scope
        self.keep_alive = keep_alive
        self.message_event = asyncio.Event()
        self.body = bytearray()
        self.more_body = True
        self.disconnected = False
        self.response_complete = False
        self._expects_continue = expects_continue
        self._head: ResponseHead | None = None
        self._held = b""
        self._left_bytes = 0
        self._sender: FileSend | None = None

    @property
    def response_started(self) -> bool:
        return self._head is not None

    def abandon(self) -> None:
        """The client is gone: wake whoever waits, swallow whatever is still sent."""
        self.disconnected = True
        self._held = b""
        self.message_event.set()
        if self._sender is not None:
            self._sender.abandon()

    async def run_asgi(self, app: App) -> None:
        """Run the application for this request and make good whatever it leaves undone."""
        try:
            await app(self.scope, self.receive, self.send)
        except (ResponseCutError, ClientGoneError):
            self._cut()
        except asyncio.CancelledError:
            self._cut()
            raise
        except Exception as error:
            await self._answer_fault(error)
        else:
            if not self.response_complete and not self.disconnected:
                await self._answer_fault(RuntimeError("the application left without answering"))
        finally:
            # The scope held a method of ours: without it both go as soon as nobody needs them.
            self.scope.get("extensions", {}).pop(INTERIM, None)

    async def _answer_fault(self, error: Exception) -> None:
        if self.disconnected:
            return
        problem = internal_fault()
        logger.error("fault in the application, told as %s", problem.instance, exc_info=error)
        if self.response_started:
            self._cut()
        else:
            await send_problem(self.send, problem)

    def _cut(self) -> None:
        if self.disconnected or self.response_complete:
            return
        self.flush_head()
        framing = self._head.framing if self._head is not None else Framing.LENGTH
        self._connection.drop(reset=framing is Framing.CLOSE)

    async def receive(self) -> Message:
        """The next part of the request body, or ``http.disconnect``."""
        if self._expects_continue and not (self.disconnected or self.response_started):
            self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._expects_continue = False
        if not self.disconnected and not self.response_complete:
            self._connection.resume_reading()
            await self.message_event.wait()
            self.message_event.clear()
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        body, self.body = bytes(self.body), bytearray()
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    def send_interim(self, head: Head) -> None:
        """Write an interim response, unless the response itself has begun or nobody is there.

        Not to be called for clients of HTTP/1.0 (RFC 9110 §15.2). A head that may not be sent is
        left out: it is only a hint.
        """
        if self.disconnected or self.response_started:
            return
        with contextlib.suppress(ValueError):
            self._connection.write(render_interim(head.status, head.fields.to_raw()))

    async def send(self, message: Message) -> None:
        """Take one message of the response.

        Raises ``ClientGoneError`` when the client has left, ``ValueError`` for a head that may
        not be sent, ``RuntimeError`` for messages out of order or against the declared length.
        """
        if self.disconnected:
            raise ClientGoneError("the client has left")
        kind = message["type"]
        if self._head is None:
            if kind != "http.response.start":
                raise RuntimeError(f"{kind} came before http.response.start")
            self._start(message)
            return
        if self.response_complete:
            raise RuntimeError(f"{kind} came after the response was complete")
        if kind == "http.response.body":
            await self._send_bytes(message.get("body", b""))
        elif kind == ZERO_COPY:
            await self._send_file(message)
        else:
            raise RuntimeError(f"{kind} does not belong into a response")
        if not message.get("more_body", False):
            self._finish()

    def _start(self, message: Message) -> None:
        # A request body that nobody has read to its end would be taken for the next request.
        keep_alive = self.keep_alive and not self.more_body
        self._head = render_head(
            message["status"],
            message.get("headers", ()),
            method=self.scope["method"],
            version=self.scope["http_version"],
            keep_alive=keep_alive,
        )
        self.keep_alive = self._head.keep_alive
        self._left_bytes = self._head.length_bytes
        self._held = self._head.octets
        asyncio.get_running_loop().call_soon(self.flush_head)

    def flush_head(self) -> None:
        """Let a held head go."""
        if self._held:
            held, self._held = self._held, b""
            self._connection.write(held)

    def _write(self, data: bytes) -> None:
        if len(data) > SMALL_FILE_BYTES:
            self.flush_head()  # Joining them would copy more than a second call costs.
        held, self._held = self._held, b""
        if held or data:
            self._connection.write(held + data if held else data)

    def _account(self, count_bytes: int) -> Framing:
        """Check a piece against the declared length before any of it is written."""
        assert self._head is not None  # noqa: S101  send() has seen to it
        if self._head.framing is Framing.LENGTH:
            if count_bytes > self._left_bytes:
                raise RuntimeError("the body is longer than its Content-Length")
            self._left_bytes -= count_bytes
        return self._head.framing

    async def _send_bytes(self, data: bytes) -> None:
        framing = self._account(len(data))
        if framing is Framing.NONE or not data:
            return
        if not self._held:
            await self._drained()
        self._write(b"%x\r\n%b\r\n" % (len(data), data) if framing is Framing.CHUNKED else data)

    async def _send_file(self, message: Message) -> None:
        fileno, start, stop = _interval(message)
        framing = self._account(stop - start)
        if framing is Framing.NONE or start == stop:
            return
        note_sent = getattr(message["file"], "note_sent", _ignore)
        if stop - start <= SMALL_FILE_BYTES:
            data = read_resident(fileno, start, stop)
            if data is not None:
                # Already accounted for: what follows only frames and writes.
                if not self._held:
                    await self._drained()
                chunked = framing is Framing.CHUNKED
                self._write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
                note_sent(len(data))
                return
        self._write(b"%x\r\n" % (stop - start) if framing is Framing.CHUNKED else b"")
        await self._drained()
        self._sender = FileSend(self._connection.socket_fileno, fileno, start, stop, note_sent)
        self._connection.watch(self._sender)
        try:
            await self._sender.run()
        except OSError as error:
            self.disconnected = True
            self._connection.drop(reset=True)
            raise ClientGoneError("the client has reset the connection") from error
        finally:
            self._sender = None
            self._connection.watch(None)
        if self.disconnected:
            raise ClientGoneError("the client has left")
        if framing is Framing.CHUNKED:
            self._write(b"\r\n")

    async def _drained(self) -> None:
        await self._connection.drained()
        if self.disconnected:
            raise ClientGoneError("the client has left")

    def _finish(self) -> None:
        assert self._head is not None  # noqa: S101  send() has seen to it
        if self._head.framing is Framing.LENGTH and self._left_bytes:
            raise RuntimeError("the body is shorter than its Content-Length")
        self._write(b"0\r\n\r\n" if self._head.framing is Framing.CHUNKED else b"")
        self.response_complete = True
        self.message_event.set()
        self._connection.cycle_complete(self)


class _Answered:
    """Stands where a cycle stands after a request that was answered without one."""

    response_complete = disconnected = keep_alive = True
    more_body = False
    message_event = asyncio.Event()


ANSWERED = _Answered()


def _ignore(_: int) -> None:
    """For files that do not want to know how much of them was sent."""


def _interval(message: Message) -> tuple[int, int, int]:
    """Descriptor and half-open interval of a zero-copy message, with ASGI's defaults."""
    file: Any = message["file"]
    fileno = file if isinstance(file, int) else file.fileno()
    start = message.get("offset")
    if start is None:
        start = os.lseek(fileno, 0, os.SEEK_CUR)
    count = message.get("count")
    if count is None:
        count = max(0, os.fstat(fileno).st_size - start)
    return fileno, start, start + count
