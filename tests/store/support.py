"""Entries and bodies for the tests of the store."""

from __future__ import annotations

import os
import resource
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from forebay.model import Entry, Fields, Head, Identity, Interval
from forebay.ports import Draft, Store

BLOCK = 4096


def new_entry(
    key: str = "aa",
    *,
    length: int | None = None,
    name: str = "https://example.org/file",
    mount: str = "url",
    vary: tuple[tuple[str, str], ...] = (),
    tags: tuple[str, ...] = (),
    response_time: float = 1000.0,
) -> Entry:
    """A partial entry with a fresh id."""
    return Entry(
        key=key,
        entry_id=uuid.uuid4().hex,
        name=name,
        mount=mount,
        head=Head(200, Fields([("content-type", "text/plain"), ("x-odd", "\xe9")]), "OK"),
        identity=Identity(length_bytes=length, etag='"v1"'),
        request_time=response_time - 1,
        response_time=response_time,
        vary=vary,
        tags=tags,
    )


def completed(entry: Entry, length: int) -> Entry:
    """The entry as a transfer commits it."""
    return replace(
        entry,
        complete=True,
        coverage=(Interval(0, length),) if length else (),
        identity=replace(entry.identity, length_bytes=length),
    )


async def put(store: Store, body: bytes, entry: Entry | None = None, key: str = "aa") -> Entry:
    """Store a complete object; gives the entry as stored."""
    entry = new_entry(key, length=len(body)) if entry is None else entry
    draft: Draft = await store.begin(entry, len(body))
    try:
        await draft.write(0, [body])
        assert await draft.commit(completed(entry, len(body)))
        return draft.entry
    finally:
        await draft.close()


class Peekable(Protocol):
    """A store that may know what is under a key without waiting."""

    async def find(self, key: str) -> tuple[Entry, ...]: ...
    def find_cached(self, key: str) -> tuple[Entry, ...] | None: ...


async def cached(store: Peekable, key: str) -> tuple[Entry, ...]:
    """What is known of this key without waiting, once it has been looked up and nothing else has
    changed meanwhile: where the directory is shared, the sweep after a start is a change too."""
    while (entries := store.find_cached(key)) is None:
        await store.find(key)
    return entries


def read(fileno: int, count: int = 1 << 24, position: int = 0) -> bytes:
    """Read from a descriptor that the caller was given, and close it."""
    try:
        return os.pread(fileno, count, position)
    finally:
        os.close(fileno)


def blob_files(directory: Path) -> dict[str, os.stat_result]:
    """Every blob on disk. Looked for in a thread: where a loop runs, each call of a walk costs the
    detector of blocking calls a look at the whole stack."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_blob_files, directory).result()


def _blob_files(directory: Path) -> dict[str, os.stat_result]:
    return {
        name: os.stat(Path(folder) / name)
        for folder, _, names in os.walk(directory / "blobs")
        for name in names
    }


def disk_bytes(directory: Path) -> int:
    """What the blobs take on disk, as ``du`` counts it."""
    return sum(found.st_blocks * 512 for found in blob_files(directory).values())


def pattern(length: int, seed: int = 0) -> bytes:
    """Bytes in which no two blocks are alike."""
    parts: Iterable[bytes] = (
        f"{seed}:{number:012d};".encode() for number in range(length // 14 + 1)
    )
    return b"".join(parts)[:length]


@contextmanager
def file_size_limit(size_bytes: int) -> Iterator[None]:
    """Let the kernel cut writes off here, as a disk does that fills up: short, then an error."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
