"""Readers give their slice and no more, release what they hold, and digests are of the whole."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from forebay.errors import EntryDamaged, ForebayError
from forebay.model import Interval, Window
from forebay.ports import Body
from forebay.streaming import digests as digests_module
from forebay.streaming.digests import ALGORITHMS, Digester
from forebay.streaming.reader import BytesBody, SequenceBody, StoredReader, TransferReader
from tests.streaming.rig import content, take

BODY = content(5000)


@pytest.fixture
def blob() -> Iterator[int]:
    """A memory file with the body in it."""
    fileno = os.memfd_create("blob")
    os.write(fileno, BODY)
    yield fileno
    os.close(fileno)


class Growing:
    """A blob of which a test says how much there is."""

    def __init__(self) -> None:
        self.length_bytes: int | None = None
        self.until = 0
        self.left: list[TransferReader] = []
        self.waits = 0

    def readable_until(self, position: int) -> int:
        return max(position, self.until)

    async def wait_for(self, reader: TransferReader) -> None:
        self.waits += 1
        self.until += 100
        if self.until >= 1000:
            self.length_bytes = 1000
            self.until = 1000
        await asyncio.sleep(0)

    def leave(self, reader: TransferReader) -> None:
        self.left.append(reader)


@pytest.mark.parametrize(
    ("start", "stop", "found"),
    [
        (0, None, BODY[:1000]),
        (50, 150, BODY[50:150]),
        (950, None, BODY[950:1000]),
        (900, 2000, BODY[900:1000]),
        (1000, None, b""),
        (3000, 4000, b""),
        (20, 20, b""),
    ],
)
async def test_a_reader_gives_its_slice_as_far_as_there_is_one(
    blob: int, start: int, stop: int | None, found: bytes
) -> None:
    growing = Growing()
    reader = TransferReader(growing, os.dup(blob), start, stop)
    assert await take(reader) == found
    await reader.aclose()


async def test_a_closed_reader_has_left_once_and_gives_nothing(blob: int) -> None:
    growing = Growing()
    reader = TransferReader(growing, os.dup(blob), 0, None)
    await reader.aclose()
    await reader.aclose()
    assert growing.left == [reader]
    with pytest.raises(ForebayError):
        await reader.next_piece()


async def test_a_stored_slice_is_one_window(blob: int) -> None:
    reader = StoredReader(fileno := os.dup(blob), Interval(10, 20))
    assert await reader.next_piece() == Window(fileno, 10, 20)
    assert await reader.next_piece() is None
    await reader.aclose()
    await reader.aclose()
    empty = StoredReader(os.dup(blob), Interval(3, 3))
    assert await empty.next_piece() is None
    await empty.aclose()


async def test_several_bodies_follow_each_other_and_close_together(blob: int) -> None:
    growing = Growing()
    parts: list[Body] = [
        BytesBody(b"head"),
        StoredReader(os.dup(blob), Interval(0, 10)),
        BytesBody(b""),
        TransferReader(growing, os.dup(blob), 0, 50),
    ]
    body = SequenceBody(parts)
    assert await take(body, 14) == b"head" + BODY[:10]
    await body.aclose()
    assert len(growing.left) == 1
    assert await body.next_piece() is None


# Digests.


@pytest.mark.parametrize("name", ALGORITHMS)
async def test_the_digest_is_that_of_the_whole(blob: int, name: str) -> None:
    digester = Digester([name], os.dup(blob))
    expected = hashlib.new(ALGORITHMS[name], BODY, usedforsecurity=False).hexdigest()
    assert await digester.finish(len(BODY)) == {name: expected}
    await digester.aclose()
    await digester.aclose()


@pytest.mark.parametrize("length", [0, 1, 65_536, 65_537])
async def test_what_is_short_may_be_hashed_at_once(tmp_path: Path, length: int) -> None:
    file = tmp_path / "blob"
    file.write_bytes(b"x" * length)
    digester = Digester(["sha-256", "crc32"], os.open(file, os.O_RDONLY))
    assert await digester.finish(length) == {
        "sha-256": hashlib.sha256(b"x" * length).hexdigest(),
        "crc32": f"{zlib.crc32(b'x' * length):08x}",
    }
    await digester.aclose()


async def test_hashing_goes_along_with_the_growth_and_ends_with_the_same(
    blob: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests_module, "BATCH_BYTES", 100)
    monkeypatch.setattr(digests_module, "SMALL_BYTES", 0)
    monkeypatch.setattr(digests_module, "READ_BYTES", 64)
    digester = Digester(["sha-256", "md5"], os.dup(blob))
    for readable in range(0, len(BODY), 333):
        digester.grow(readable)
        await asyncio.sleep(0.01)
    found = await digester.finish(len(BODY))
    assert found["sha-256"] == hashlib.sha256(BODY).hexdigest()
    assert found["md5"] == hashlib.md5(BODY, usedforsecurity=False).hexdigest()
    await digester.aclose()


async def test_a_file_that_is_too_short_is_damaged(
    blob: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests_module, "BATCH_BYTES", 100)
    monkeypatch.setattr(digests_module, "SMALL_BYTES", 0)
    digester = Digester(["sha-256"], os.dup(blob))
    digester.grow(len(BODY) + 1)
    await asyncio.sleep(0.1)
    with pytest.raises(EntryDamaged):
        await digester.finish(len(BODY) + 1)
    await digester.aclose()


async def test_the_descriptor_is_not_closed_under_the_thread_that_reads_it(
    blob: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, go_on = threading.Event(), threading.Event()
    pread, seen = os.pread, []

    def slow_pread(fileno: int, size: int, position: int) -> bytes:
        entered.set()
        go_on.wait(5)
        found = pread(fileno, size, position)
        seen.append(len(found))
        return found

    monkeypatch.setattr(os, "pread", slow_pread)
    monkeypatch.setattr(digests_module, "READ_BYTES", 1000)
    monkeypatch.setattr(digests_module, "SMALL_BYTES", 0)
    digester = Digester(["sha-256"], os.dup(blob))
    finishing = asyncio.create_task(digester.finish(len(BODY)))
    for _ in range(3):
        await asyncio.sleep(0)
    assert entered.wait(5)
    finishing.cancel()
    closing = asyncio.create_task(digester.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.sleep(0)
    assert not closing.done()
    go_on.set()
    await asyncio.wait([finishing, closing])
    assert seen == [1000], "it stops at the next piece"
