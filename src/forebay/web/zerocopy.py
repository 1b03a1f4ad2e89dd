"""Bytes of a file to a socket without passing through Python: ``sendfile`` on the event loop.

How it stands beside the transport. A transport owns its socket's number, and uvloop refuses to
watch it for others; so the interval is sent on a *duplicate* of the socket, watched with
``add_writer``, once the transport's own buffer is empty. One party at a time writes, so that
octets cannot change places. Being ours, the duplicate cannot be closed and given to another
connection under a running send; it is closed on every way out, since the peer sees no end of
the connection while it is open.

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

SLICE_BYTES = 1024 * 1024
"""What is probed and sent in one turn of the loop, so that a fast client leaves others room."""

PROBE_STEP_BYTES = 256 * 1024
"""Distance of the probes in a slice: memory comes and goes in read-ahead windows of that order."""

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
    """Sends ``[start, stop)`` of a file on a connected stream socket, in slices.

    ``on_sent`` is told of every count of bytes that the kernel took. The caller has seen to it
    that nothing else is waiting to be written.
    """

    def __init__(
        self, socket_fileno: int, file_fileno: int, start: int, stop: int,
        on_sent: Callable[[int], None],
    ) -> None:  # fmt: skip
        self._loop = asyncio.get_running_loop()
        self._socket_fileno = socket_fileno
        self._file = file_fileno
        self._position = start
        self._stop = stop
        self._on_sent = on_sent
        self._proven_stop = start
        self._socket = -1
        self._turn: asyncio.Future[None] | None = None
        self._abandoned = False

    @property
    def left_bytes(self) -> int:
        """What has not been given to the kernel yet."""
        return self._stop - self._position

    def abandon(self) -> None:
        """The connection is gone: ``run`` returns early. May be called at any moment."""
        self._abandoned = True
        self._end_turn()

    async def run(self) -> None:
        """Send until all is sent or ``abandon`` is called.

        Raises ``ResponseCutError`` when the file is shorter than it should be, ``OSError`` when
        the client has reset the connection.
        """
        self._socket = os.dup(self._socket_fileno)
        try:
            while self.left_bytes and not self._abandoned:
                await self._prove()
                if not self._abandoned and self._send_slice():
                    await self._send_when_writable()
        finally:
            os.close(self._socket)

    async def _prove(self) -> None:
        """See to it that the slice at the position is in memory."""
        stop = min(self._stop, self._position + SLICE_BYTES)
        if not is_resident(self._file, self._position, stop):
            await bring_into_memory(self._file, self._position, stop)
        self._proven_stop = stop

    def _send_slice(self) -> bool:
        """Send what is proven; whether to go on when the socket takes more."""
        try:
            sent = os.sendfile(
                self._socket, self._file, self._position, self._proven_stop - self._position
            )
        except (BlockingIOError, InterruptedError):
            return True
        if sent == 0:
            raise ResponseCutError("the stored file is shorter than its entry says")
        self._position += sent
        self._on_sent(sent)
        return self.left_bytes > 0

    async def _send_when_writable(self) -> None:
        """One slice per turn of the loop, until done, cold, failed or abandoned."""
        self._turn = self._loop.create_future()
        self._loop.add_writer(self._socket, self._on_writable)
        try:
            await self._turn
        finally:
            self._loop.remove_writer(self._socket)
            self._turn = None

    def _on_writable(self) -> None:
        if self._turn is None or self._turn.done():
            return
        try:
            if self._position >= self._proven_stop:
                stop = min(self._stop, self._position + SLICE_BYTES)
                if not is_resident(self._file, self._position, stop):
                    self._end_turn()
                    return
                self._proven_stop = stop
            if not self._send_slice():
                self._end_turn()
        except (OSError, ResponseCutError) as error:
            self._turn.set_exception(error)

    def _end_turn(self) -> None:
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(None)
