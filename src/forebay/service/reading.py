"""A reply's whole body in memory, for those who have to look into it."""

from __future__ import annotations

import asyncio
import os

from forebay.errors import EntryDamaged
from forebay.model import Window
from forebay.ports import Reply
from forebay.streaming.reader import BytesBody, SequenceBody


async def read_up_to(reply: Reply, max_bytes: int) -> bytes | None:
    """The whole body, then closed; None where it is longer, what was read put back before it.

    Raises what the body raises, closed as well.
    """
    body = reply.body
    if body is None:
        return b""
    pieces: list[bytes] = []
    size = 0
    finished = False
    try:
        while (piece := await body.next_piece()) is not None:
            # A window is only valid until the next call; a page of it may have to come from disk.
            octets = await asyncio.to_thread(_pread, piece) if isinstance(piece, Window) else piece
            pieces.append(octets)
            size += len(octets)
            if size > max_bytes:
                reply.body = SequenceBody([BytesBody(b"".join(pieces)), body])
                finished = True
                return None
    finally:
        if not finished:
            await body.aclose()
    return b"".join(pieces)


def _pread(window: Window) -> bytes:
    octets, position = bytearray(), window.start
    while position < window.stop:
        part = os.pread(window.fileno, window.stop - position, position)
        if not part:
            raise EntryDamaged("The stored page is shorter than the index says; ask again.")
        octets += part
        position += len(part)
    return bytes(octets)
