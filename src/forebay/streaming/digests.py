"""Digests of a blob while it grows: hashed in order, off the event loop, from the file."""

from __future__ import annotations

import asyncio
import hashlib
import os
import zlib
from collections.abc import Iterable
from typing import Protocol

from forebay.errors import EntryDamaged
from forebay.streaming.steadfast import see_through

READ_BYTES = 1024 * 1024
BATCH_BYTES = 8 * 1024 * 1024
"""Least that is worth a trip to a thread before the end."""
SMALL_BYTES = 64 * 1024
"""Most that is hashed at once where it is in memory: 0.05 ms, less than the trip to a thread."""

ALGORITHMS = {
    "sha-256": "sha256",
    "sha-512": "sha512",
    "sha": "sha1",
    "md5": "md5",
    "blake2b": "blake2b",
}
"""Names of the Hash Algorithms for HTTP Digest Fields registry (RFC 9530 §7.2), to hashlib's."""


class Running(Protocol):
    """A digest that is being computed, as hashlib has it."""

    def update(self, data: bytes | bytearray, /) -> None: ...

    def hexdigest(self) -> str: ...


class _Crc32:
    """CRC-32 of ISO 3309, as S3 tells it: four bytes, the highest first."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes | bytearray, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def hexdigest(self) -> str:
        return f"{self._value:08x}"


def begun(algorithm: str) -> Running:
    """A digest of no bytes yet. Raises ``KeyError`` for an unknown algorithm."""
    if algorithm == "crc32":
        return _Crc32()
    return hashlib.new(ALGORITHMS[algorithm], usedforsecurity=False)


class Digester:
    """Hashes the bytes of a file from its beginning on, as far as they are there."""

    def __init__(self, algorithms: Iterable[str], fileno: int) -> None:
        """Takes over the descriptor. Raises ``KeyError`` for an unknown algorithm."""
        self._hashes = {name: begun(name) for name in algorithms}
        self._fileno = fileno
        self._position = 0
        self._closing = False
        self._job: asyncio.Task[None] | None = None

    def grow(self, readable: int) -> None:
        """Bytes up to ``readable`` are there: hash on if it is worth it. Does not wait."""
        if self._job is None and readable - self._position >= BATCH_BYTES:
            self._job = self._start(readable)

    async def finish(self, length_bytes: int) -> dict[str, str]:
        """The digests of the whole, in lower-case hex. Raises ``EntryDamaged``."""
        if self._job is not None:
            await asyncio.wait([self._job])
        if not self._hash_small_rest(length_bytes):
            self._job = self._start(length_bytes)
            await asyncio.shield(self._job)
        return {name: value.hexdigest() for name, value in self._hashes.items()}

    async def aclose(self) -> None:
        """Close the descriptor once no thread reads it. Idempotent."""
        self._closing = True
        try:
            if self._job is not None:
                await see_through(self._job)
        finally:
            if self._fileno >= 0:
                os.close(self._fileno)
                self._fileno = -1

    def _hash_small_rest(self, stop: int) -> bool:
        """Hash what is left if that waits for nothing; whether it is done."""
        size_bytes = stop - self._position
        if size_bytes > SMALL_BYTES:
            return False
        rest = bytearray(size_bytes)
        try:
            # A flag that makes the system call fail rather than wait for the disk.
            flags = getattr(os, "RWF_NOWAIT", 0)
            if size_bytes and os.preadv(self._fileno, [rest], self._position, flags) < size_bytes:
                return False
        except OSError:
            return False
        for value in self._hashes.values():
            value.update(rest)
        self._position = stop
        return True

    def _start(self, stop: int) -> asyncio.Task[None]:
        job = asyncio.create_task(asyncio.to_thread(self._hash_until, stop))

        def done(job: asyncio.Task[None]) -> None:
            # What failed on the way is tried again by ``finish``, from where it stands.
            if not job.cancelled():
                job.exception()
            if self._job is job:
                self._job = None

        job.add_done_callback(done)
        return job

    def _hash_until(self, stop: int) -> None:
        while self._position < stop and not self._closing:
            size_bytes = min(READ_BYTES, stop - self._position)
            piece = os.pread(self._fileno, size_bytes, self._position)
            if not piece:
                raise EntryDamaged("A stored file is shorter than what was written to it.")
            for value in self._hashes.values():
                value.update(piece)
            self._position += len(piece)
