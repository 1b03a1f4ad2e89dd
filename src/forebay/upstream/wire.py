"""One connection to an upstream: asks one thing at a time, and knows when it has been spoilt.

An ``asyncio`` protocol beneath, so that an idle connection which the upstream closes, or on
which it says something unasked, is known to be dead at once, and not when it is next used.
Every way out of an exchange is a plain call that awaits nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import sys
import termios
from collections.abc import AsyncIterator, Callable
from typing import cast

from forebay.errors import (
    ForebayError,
    InvalidTarget,
    UpstreamMisbehaved,
    UpstreamTimeout,
    UpstreamTooSlow,
    UpstreamUnreachable,
)
from forebay.model import Head, Octets
from forebay.rules.patience import Patience
from forebay.upstream.incoming import Incoming, ReceivedHead
from forebay.upstream.slabs import Slabs, is_view_worth

HIGH_WATER_BYTES = 1_048_576
"""Bytes held for a reader before the socket is no longer read from."""
LOW_WATER_BYTES = 262_144
"""Bytes held when reading from the socket goes on."""


CONTINUE_SECONDS = 1.0
"""How long a body is held back for 100. Servers of HTTP/1.0 and many others never send it; curl
waits as long."""


class StaleConnection(Exception):
    """A connection was dead before one octet of an answer came: asking again is safe.

    Between wire and transport only; nobody beyond sees it.
    """


class Wire(asyncio.BufferedProtocol):
    """A connection. ``on_lost`` is called once, when it can no longer be used."""

    def __init__(self, slabs: Slabs) -> None:
        """``slabs`` may be shared by all wires of a loop."""
        self.on_lost: Callable[[Wire], None] = lambda _: None
        self.idle_since = 0.0
        self.exchanges = 0
        self.closed = False
        self._transport: asyncio.Transport | None = None
        self._incoming: Incoming | None = None
        self._error: ForebayError | StaleConnection | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._sender: asyncio.Task[None] | None = None
        self._reading_paused = False
        self._slabs = slabs
        self._slab = bytearray()
        self._filled_slab = False
        self._writable = asyncio.Event()
        self._writable.set()

    # called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods without being subclasses.
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - ours is larger
        # The loop fills it before it calls another wire: one slab serves all that read little.
        waiting_bytes = _held_by_kernel(self._transport) if self._filled_slab else 0
        self._slab = self._slabs.take(waiting_bytes)
        # A view, because TLS in asyncio slices what it gets here in order to go on in it.
        return memoryview(self._slab)

    def buffer_updated(self, nbytes: int) -> None:
        self._filled_slab = nbytes == len(self._slab)
        received = memoryview(self._slab)[:nbytes]
        self._received(received if is_view_worth(nbytes, self._slab) else bytes(received))

    def _received(self, data: Octets) -> None:
        incoming = self._incoming
        if incoming is None:  # nobody asked: whatever it is, it is no answer of ours
            self.close()
            return
        try:
            incoming.feed(data)
        except UpstreamMisbehaved as error:
            self._fail(error)
            return
        if incoming.queued_bytes > HIGH_WATER_BYTES and not self._reading_paused:
            self._reading_paused = True
            self._pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._writable.set()
        if self._incoming is not None and self._error is None:
            self._error = self._why_lost(self._incoming, exc)
        self.close()
        self._wake()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # one exchange

    async def ask(
        self,
        method: str,
        octets: bytes,
        body: AsyncIterator[bytes] | None,
        body_length_bytes: int | None,
        timeout_seconds: float,
        on_interim: Callable[[Head], None] | None = None,
        *,
        waits_for_continue: bool = False,
    ) -> ReceivedHead:
        """Send a request (its head as octets) and wait for the head of the final response.

        ``on_interim`` is told of interim responses before that, at most ``MAX_INTERIM`` of them.
        With ``waits_for_continue`` the body is held back until 100 comes, or does not come for
        ``CONTINUE_SECONDS`` (RFC 9110 §10.1.1), and not sent after a final response.
        Raises ``StaleConnection`` where a kept connection turns out dead, else
        ``UpstreamError``. After an error or a cancellation, call ``release``.
        """
        if self.closed or self._transport is None or self._transport.is_closing():
            raise StaleConnection
        may_send = asyncio.Event()
        if not waits_for_continue:
            may_send.set()

        def note_interim(head: Head) -> None:
            if head.status == 100:
                may_send.set()
            if on_interim is not None:
                on_interim(head)

        self._incoming = incoming = Incoming(method, note_interim)
        self.exchanges += 1
        self._transport.write(octets)
        if body is not None:
            sending = self._send_body(
                self._transport, body, body_length_bytes, timeout_seconds, may_send
            )
            self._sender = asyncio.ensure_future(sending)
            self._sender.add_done_callback(self._sent)
        until: float | None = None
        while incoming.received is None:
            if self._error is not None:
                raise self._error
            # A body may take as long as its client needs; from its end the whole head has
            # one deadline, so that drips do not prolong it.
            if until is None and (self._sender is None or self._sender.done()):
                until = asyncio.get_running_loop().time() + timeout_seconds
            await self._wait(until)
        made_up = incoming.received.head.status >= 400 or not may_send.is_set()
        if self._sender is not None and made_up:
            self._sender.cancel()  # it has made up its mind (RFC 9112 §9.5)
        return incoming.received

    async def next_piece(self, timeout_seconds: float, patience: Patience | None = None) -> Octets:
        """The next bytes of the body; ``b""`` behind the last.

        Raises ``UpstreamTimeout`` when none come for so long, ``UpstreamTooSlow`` when the body's
        ``patience`` has ended, ``UpstreamMisbehaved`` when the body is not what its framing says,
        ``UpstreamUnreachable`` on a reset.
        """
        incoming = self._incoming
        if incoming is None:
            raise UpstreamUnreachable("The response has been closed.")
        # One deadline for the next byte of the body: chunk framing alone does not prolong it.
        since = asyncio.get_running_loop().time()
        until = since + timeout_seconds
        if patience is not None:
            until = min(until, since + patience.left_seconds)
        while not incoming.pieces:
            if incoming.complete:
                bodiless = incoming.received is None or incoming.received.framing.bodiless
                if incoming.surplus and not bodiless:
                    raise UpstreamMisbehaved("The upstream sent more than its answer's length.")
                return b""
            if self._error is not None:
                raise self._error
            try:
                await self._wait(until)
            except UpstreamTimeout:
                if until < since + timeout_seconds:
                    raise UpstreamTooSlow("The upstream sends too slowly.") from None
                raise
        piece = incoming.next_piece()
        if patience is not None:
            patience.note(asyncio.get_running_loop().time() - since, len(piece))
        if self._reading_paused and incoming.queued_bytes <= LOW_WATER_BYTES:
            self._reading_paused = False
            self._resume_reading()
        return piece

    async def is_here(self, within_seconds: float) -> bool:
        """Whether the whole body has come and its end is proved, after so long at most."""
        until = asyncio.get_running_loop().time() + within_seconds
        while (incoming := self._incoming) is not None and not incoming.complete:
            # A queue that is full is read by nobody meanwhile.
            if self._error is not None or self._reading_paused:
                return False
            try:
                await self._wait(until)
            except UpstreamTimeout:
                return False
        return incoming is not None and not incoming.surplus

    @property
    def unread_bytes(self) -> int:
        """Bytes of the answer that have come and were not taken, the kernel's among them."""
        if self._incoming is None:
            return 0
        return self._incoming.queued_bytes + _held_by_kernel(self._transport)

    def release(self) -> bool:
        """End the exchange. True if the connection may serve another; else it is closed."""
        incoming, self._incoming = self._incoming, None
        sent = self._sender is None or (self._sender.done() and not self._sender.cancelled())
        if self._sender is not None:
            self._sender.cancel()
            self._sender = None
        usable = (
            not self.closed
            and self._error is None
            and sent
            and incoming is not None
            and incoming.received is not None
            and incoming.complete
            and not incoming.surplus
            and incoming.received.keep_alive
            and incoming.received.framing.proves_end
        )
        if usable and self._reading_paused:
            self._reading_paused = False
            self._resume_reading()
        if not usable:
            self.close()
        return usable

    def close(self) -> None:
        """Drop the connection at once. Idempotent; awaits nothing."""
        if self._transport is not None:
            # A TLS transport that has ended already has nothing to abort, and before Python 3.11.4
            # says so by an AttributeError.
            with contextlib.suppress(AttributeError):
                self._transport.abort()
        if not self.closed:
            self.closed = True
            self.on_lost(self)

    # within

    async def _send_body(
        self,
        transport: asyncio.Transport,
        body: AsyncIterator[bytes],
        length: int | None,
        timeout_seconds: float,
        may_send: asyncio.Event,
    ) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CONTINUE_SECONDS):
                await may_send.wait()
        may_send.set()
        sent = 0
        async for piece in body:
            if not piece:
                continue
            sent += len(piece)
            if length is not None and sent > length:
                break
            transport.write(piece if length is not None else b"%x\r\n%b\r\n" % (len(piece), piece))
            try:
                async with asyncio.timeout(timeout_seconds):
                    await self._writable.wait()
            except TimeoutError:
                raise UpstreamTimeout("The upstream stopped taking the request.") from None
            if self.closed or transport.is_closing():
                return
        if length is None:
            transport.write(b"0\r\n\r\n")
        elif sent != length:
            raise InvalidTarget("The request's body is not as long as its Content-Length says.")

    def _sent(self, sender: asyncio.Task[None]) -> None:
        """The body is out, or will never be: then neither can the answer be waited for."""
        error = None if sender.cancelled() else sender.exception()
        if isinstance(error, ForebayError):
            self._fail(error)
        elif error is not None:
            self._fail(InvalidTarget("The request's body could not be read to its end."))
        self._wake()

    def _why_lost(
        self, incoming: Incoming, exc: Exception | None
    ) -> ForebayError | StaleConnection | None:
        if not incoming.started:
            if self.exchanges > 1:
                return StaleConnection()
            return UpstreamUnreachable("The upstream closed the connection without an answer.")
        if exc is not None and not incoming.complete:
            return UpstreamUnreachable("The connection to the upstream broke.")
        try:
            incoming.end()
        except UpstreamMisbehaved as error:
            return error
        return None

    def _fail(self, error: ForebayError) -> None:
        if self._error is None:
            self._error = error
        self.close()
        self._wake()

    def _pause_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    async def _wait(self, until: float | None) -> None:
        """Wait for the loop to report something; ``until`` is in the loop's time."""
        loop = asyncio.get_running_loop()
        self._waiter = waiter = loop.create_future()
        # One future for both ends: ``asyncio.timeout`` costs more than what is waited for here.
        deadline = None if until is None else loop.call_at(until, _give_up, waiter)
        try:
            await waiter
        finally:
            self._waiter = None
            if deadline is not None:
                deadline.cancel()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _give_up(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(UpstreamTimeout("The upstream was silent for too long."))


def _held_by_kernel(transport: asyncio.Transport | None) -> int:
    """Bytes in the socket's receive queue; 0 where the socket is gone or cannot tell."""
    held = bytearray(4)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        descriptor = transport.get_extra_info("socket").fileno() if transport else -1
        fcntl.ioctl(descriptor, termios.FIONREAD, held)
    return int.from_bytes(held, sys.byteorder, signed=True)
