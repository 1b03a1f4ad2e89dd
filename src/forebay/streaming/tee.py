"""The tee: chunks on their way to disk and onward, and the guard around their source."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Protocol

from forebay.errors import ObjectOutgrown
from forebay.model import Octets


class Sink(Protocol):
    """Where a copy of each chunk goes."""

    async def write(self, chunk: Octets) -> None:
        """Take the chunk; waits while too much is waiting already."""


async def tee(chunks: AsyncIterator[Octets], sink: Sink) -> AsyncGenerator[Octets, None]:
    """Every chunk, once the sink has taken it.

    Use it under ``contextlib.aclosing``: closing this generator closes its source first, so
    that nothing upstream stays open behind a consumer that has left.
    """
    try:
        async for chunk in chunks:
            await sink.write(chunk)
            yield chunk
    finally:
        await close_source(chunks)


async def clip(chunks: AsyncIterator[Octets], skip_bytes: int) -> AsyncGenerator[Octets, None]:
    """The chunks without their first ``skip_bytes`` bytes."""
    try:
        async for chunk in chunks:
            if skip_bytes >= len(chunk):
                skip_bytes -= len(chunk)
                continue
            yield chunk[skip_bytes:] if skip_bytes else chunk
            skip_bytes = 0
    finally:
        await close_source(chunks)


async def bound(chunks: AsyncIterator[Octets], most_bytes: int) -> AsyncGenerator[Octets, None]:
    """The chunks of a body whose length nobody told. Raises ``ObjectOutgrown`` beyond so many."""
    left = most_bytes
    try:
        async for chunk in chunks:
            left -= len(chunk)
            if left < 0:
                raise ObjectOutgrown("The object is larger than its mount allows.")
            yield chunk
    finally:
        await close_source(chunks)


async def close_source(chunks: AsyncIterator[Octets]) -> None:
    """Close an iterator that can be closed; others have nothing to release."""
    if isinstance(chunks, AsyncGenerator):
        await chunks.aclose()
