"""Windows of a file on servers without zero-copy: read in large chunks off the loop.

``aiofiles`` carries ``os.pread`` into its thread pool. Reading by position leaves the
descriptor's own offset alone, which other readers of the same open file may share.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

from aiofiles.os import wrap

from forebay.model import Window
from forebay.web.asgi import ResponseCutError

CHUNK_BYTES = 1024 * 1024
"""Each chunk costs a hop to a thread and back; prototypes with 64 KiB chunks were about half as
fast as with 1 MiB."""

_pread = wrap(os.pread)


async def read_window(window: Window) -> AsyncIterator[bytes]:
    """The window's bytes in chunks of at most ``CHUNK_BYTES``.

    Raises ``ResponseCutError`` when the file is shorter than the window.
    """
    position = window.start
    while position < window.stop:
        wanted = min(CHUNK_BYTES, window.stop - position)
        chunk: bytes = await _pread(window.fileno, wanted, position)
        if not chunk:
            raise ResponseCutError("the stored file is shorter than its entry says")
        position += len(chunk)
        yield chunk
