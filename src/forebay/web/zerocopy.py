"""Bytes of a file to a socket without passing through Python: ``sendfile`` on the event loop.

How it stands beside the transport. A transport owns its socket's number, and uvloop refuses to
watch it for others; so the interval is sent on a *duplicate* of the socket, watched with
``add_writer``, once the transport's own buffer is empty. One party at a time writes, so that
octets cannot change places. Being ours, the duplicate cannot be closed and given to another
connection under a running send; it is closed on every way out, since the peer sees no end of
the connection while it is open. It is only made where the socket does not take all at once.

How it stays off the disk. ``sendfile`` would wait for pages that are not in memory, and with it
every other client. Each slice is probed first with ``preadv2(RWF_NOWAIT)``; where a page is
missing (or the file system cannot tell), a thread reads the slice once, on a duplicate of the
file's descriptor that is the thread's own, and the slice then leaves from the page cache.

``mmap`` would spare system calls and kills the process when a file is truncated; ``sendfile``
only comes up short, and the response is cut.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable

from forebay.web.asgi import ResponseCutError

SLICE_BYTES = 4 * 1024 * 1024
"""What is probed and sent in one turn of the loop at most: a millisecond, so that a fast client
leaves others room. Sockets take 1 to 2 MiB at a time; with slices of 1 MiB 64 clients cost half
as much CPU again (docs/performance.md)."""

PROBE_STEP_BYTES = 256 * 1024
"""Distance of the probes in a slice: memory comes and goes in read-ahead windows of that order."""

COLD_BYTES = 1024 * 1024
"""What a thread reads ahead of the socket where pages are missing."""

_UNKNOWN = (errno.EAGAIN, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


def available() -> bool:
    """Whether this system has what is needed here (Linux)."""
    return hasattr(os, "sendfile") and hasattr(os, "RWF_NOWAIT")


def is_resident(fileno: int, start: int, stop: int) -> bool:
    """Whether reading ``[start, stop)`` of a file will not wait for the disk, as far as probes
    tell. False where the file system cannot say; true beyond the end, where nothing is read."""
    probe = [bytearray(1)]
    try:
        for position in (*range(start, stop, PROBE_STEP_BYTES), stop - 1):
            os.preadv(fileno, probe, position, os.RWF_NOWAIT)
    except OSError as error:
        if error.errno in _UNKNOWN:
            return False
        raise
    return True


def read_resident(fileno: int, start: int, stop: int) -> bytes | None:
    """The octets ``[start, stop)`` if they are all in memory, else None. Does not wait."""
    buffer = bytearray(stop - start)
    try:
        got = os.preadv(fileno, [buffer], start, os.RWF_NOWAIT)
    except OSError as error:
        if error.errno in _UNKNOWN:
            return None
        raise
    return bytes(buffer) if got == len(buffer) else None


async def bring_into_memory(fileno: int, start: int, stop: int) -> None:
    """Read ``[start, stop)`` once in a thread, so that the page cache has it.

    The thread reads from a duplicate that it closes itself: a cancelled caller may close the
    file while the read, which cannot be cancelled, still runs.
    """
    own = os.dup(fileno)

    def read() -> None:
        try:
            while_at = start
            while while_at < stop and (got := len(os.pread(own, stop - while_at, while_at))):
                while_at += got
        finally:
            os.close(own)

    await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, read))


class FileSend:
    """Sends some octets and then ``[start, stop)`` of a file on a connected stream socket.

    ``octets`` (the head of a response) may be empty. ``on_sent`` is told of every count of bytes
    of the file that the kernel took. The caller has seen to it that nothing else is waiting to
    be written. What the socket takes at once is sent before ``begin`` returns; the rest goes in
    slices, one for each turn of the loop, so that a fast client leaves others room.
    """

    def __init__(
        self, socket_fileno: int, file_fileno: int, start: int, stop: int,
        on_sent: Callable[[int], None] | None = None, octets: bytes = b"",
    ) -> None:  # fmt: skip
        self._loop = asyncio.get_running_loop()
        self._socket = socket_fileno
        self._file = file_fileno
        self._position = start
        self._stop = stop
        self._on_sent = on_sent
        self._octets = octets
        self._proven_stop = start
        self._watched = -1
        self._reading: asyncio.Future[None] | None = None
        self._on_end: Callable[[Exception | None], None] | None = None
        self._abandoned = False

    @property
    def left_bytes(self) -> int:
        """What has not been given to the kernel yet."""
        return self._stop - self._position + len(self._octets)

    def begin(self, on_end: Callable[[Exception | None], None]) -> None:
        """Send, and call ``on_end`` once, now or later: with None when all is sent or after
        ``abandon``, with ``ResponseCutError`` when the file is shorter than it should be, with
        ``OSError`` when the client has reset the connection."""
        self._on_end = on_end
        if self._abandoned:
            self._end(None)
        else:
            self._go_on()

    async def run(self) -> None:
        """Send until all is sent or ``abandon`` is called. Raises what ``begin`` tells."""
        ended: asyncio.Future[None] = self._loop.create_future()

        def settle(error: Exception | None) -> None:
            if ended.done():
                return
            if error is None:
                ended.set_result(None)
            else:
                ended.set_exception(error)

        self.begin(settle)
        try:
            await ended
        finally:
            self.abandon()

    def abandon(self) -> None:
        """The connection is gone: no more is sent. May be called at any moment."""
        self._abandoned = True
        if self._on_end is not None:
            self._end(None)

    def _end(self, error: Exception | None) -> None:
        """Stop watching, close what is ours, and say so, each once."""
        if self._watched >= 0:
            self._loop.remove_writer(self._watched)
            os.close(self._watched)
            self._watched = -1
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(error)

    def _go_on(self) -> None:
        """Send a slice; then end, or wait for the socket or for the disk."""
        try:
            is_waiting = self._send_some()
        except (OSError, ResponseCutError) as error:
            self._end(error)
            return
        if not is_waiting:
            self._end(None)

    def _send_some(self) -> bool:
        """Whether something is waited for now. Raises as ``run``, ``OSError`` also where the
        system has no descriptor left."""
        if self._octets and not self._send_octets():
            self._wait_for_socket()
            return True
        if self._position < self._stop and not self._send_slice():
            return True
        if self._position < self._stop:
            self._wait_for_socket()
            return True
        return False

    def _send_octets(self) -> bool:
        """Send what comes before the file; whether all of it is gone."""
        try:
            self._octets = self._octets[os.write(self._socket, self._octets) :]
        except (BlockingIOError, InterruptedError):
            return False
        return not self._octets

    def _send_slice(self) -> bool:
        """Send what is in memory; false where the disk has to be waited for first."""
        position = self._position
        if position >= self._proven_stop:
            stop = min(self._stop, position + SLICE_BYTES)
            if not is_resident(self._file, position, stop):
                self._wait_for_disk(stop)
                return False
            self._proven_stop = stop
        try:
            sent = os.sendfile(self._socket, self._file, position, self._proven_stop - position)
        except (BlockingIOError, InterruptedError):
            return True
        if sent == 0:
            raise ResponseCutError("the stored file is shorter than its entry says")
        self._position = position + sent
        if self._on_sent is not None:
            self._on_sent(sent)
        return True

    def _wait_for_socket(self) -> None:
        if self._watched < 0:
            self._watched = self._socket = os.dup(self._socket)
            self._loop.add_writer(self._watched, self._go_on)

    def _wait_for_disk(self, stop: int) -> None:
        """Have a thread read what is missing, a piece at a time; the socket is not watched."""
        if self._watched >= 0:
            self._loop.remove_writer(self._watched)
        else:
            self._watched = self._socket = os.dup(self._socket)
        stop = min(stop, self._position + COLD_BYTES)
        self._reading = asyncio.ensure_future(bring_into_memory(self._file, self._position, stop))
        self._reading.add_done_callback(lambda reading: self._has_read(reading, stop))

    def _has_read(self, reading: asyncio.Future[None], stop: int) -> None:
        if reading.cancelled() or self._reading is not reading:
            return
        self._reading = None
        error = reading.exception()
        if isinstance(error, OSError):
            # The disk's trouble, not the client's: as if the file ended here.
            self._end(ResponseCutError(f"the stored file cannot be read: {error.strerror}"))
            return
        self._proven_stop = stop
        self._loop.add_writer(self._watched, self._go_on)
        self._go_on()
