"""A small cache stays small, temporaries included, and what does not fit passes through."""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import suppress
from pathlib import Path

from tests.fakes.origin import Origin
from tests.live.running import Running, running

MAX_AGE = ("cache-control", "max-age=600")
MiB = 1024 * 1024
LIMIT = {"cache": {"max_size": 4 * MiB}}


def body_of(number: int, size_bytes: int = MiB) -> bytes:
    return random.Random(number).randbytes(size_bytes)


def sizes_on_disk(cache: Path) -> dict[str, int]:
    """What every file below the directory takes, the index excepted."""
    sizes = {}
    for folder, _, names in os.walk(cache / "blobs"):
        for name in names:
            path = os.path.join(folder, name)
            with suppress(FileNotFoundError):
                sizes[path] = os.stat(path).st_blocks * 512
    return sizes


def on_disk_bytes(cache: Path) -> int:
    """What they took together at one moment, or a little less.

    Files come and go while they are looked at one by one, so that one may be seen beside the one
    that it made way for. But names are never used again and files only grow: those that a second
    look finds again were all there between the two, and at least so large as at the first.
    """
    first, second = sizes_on_disk(cache), sizes_on_disk(cache)
    return sum(size_bytes for path, size_bytes in first.items() if path in second)


async def test_the_limit_holds_at_every_moment(
    tmp_path: Path, origin: Origin, no_leaks: None
) -> None:
    for number in range(16):
        origin.add(f"/{number}", body=body_of(number), etag=f'"{number}"', headers=[MAX_AGE],
                   pace_bytes_per_second=20e6)  # fmt: skip
    seen: list[int] = []
    async with running(tmp_path / "cache", origin, tables=LIMIT) as service:
        watching = asyncio.create_task(_watch(service, seen))
        for first in range(0, 16, 4):
            numbers = range(first, first + 4)
            answers = await asyncio.gather(*(service.fetch(f"/{n}") for n in numbers))
            for number, answer in zip(numbers, answers, strict=True):
                assert (answer.body, answer.whole) == (body_of(number), True)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        stats = (await service.admin("/-/stats")).json()
    assert max(seen) > 2 * MiB, "it was really filled"
    assert max(seen) <= 4 * MiB
    assert stats["size_bytes"] <= 4 * MiB
    assert stats["evicted_objects"] > 0


async def _watch(service: Running, seen: list[int]) -> None:
    assert (service.cache / "blobs").is_dir()
    while True:
        seen.append(await asyncio.to_thread(on_disk_bytes, service.cache))
        await asyncio.sleep(0.01)


async def test_what_is_asked_for_most_lately_stays(tmp_path: Path, origin: Origin) -> None:
    for number in range(5):
        origin.add(f"/{number}", body=body_of(number), etag=f'"{number}"', headers=[MAX_AGE])
    async with running(tmp_path / "cache", origin, tables=LIMIT) as service:
        for number in (0, 1, 2):
            await service.fetch(f"/{number}")
            await asyncio.sleep(0.01)  # so that times of use differ
        await service.fetch("/0")
        for number in (3, 4):
            await service.fetch(f"/{number}")
            await asyncio.sleep(0.01)
        before = len(origin.requests)
        assert "hit" in (await service.fetch("/0")).cache_status
        assert len(origin.requests) == before


async def test_an_object_larger_than_the_cache_passes_through_and_evicts_nothing(
    tmp_path: Path, origin: Origin, no_leaks: None
) -> None:
    large = body_of(99, 5 * MiB)
    origin.add("/small", body=body_of(1), etag='"s"', headers=[MAX_AGE])
    origin.add("/large", body=large, etag='"l"', headers=[MAX_AGE])
    async with running(tmp_path / "cache", origin, tables=LIMIT) as service:
        await service.fetch("/small")
        answers = await asyncio.gather(*(service.fetch("/large") for _ in range(2)))
        for answer in answers:
            assert (answer.body, answer.whole) == (large, True)
            assert "larger than the cache" in answer.cache_status
            assert "stored" not in answer.cache_status
        assert "hit" in (await service.fetch("/small")).cache_status


async def test_a_body_that_outgrows_the_cache_without_telling_first_is_cut_or_whole(
    tmp_path: Path, origin: Origin, no_leaks: None
) -> None:
    large = body_of(99, 6 * MiB)
    origin.add("/large", body=large, chunked=True, headers=[MAX_AGE])
    async with running(tmp_path / "cache", origin, tables=LIMIT) as service:
        answer = await service.fetch("/large")
        assert large.startswith(answer.body)
        assert answer.whole == (answer.body == large)
        assert on_disk_bytes(service.cache) <= 4 * MiB
        origin.add("/small", body=body_of(1), etag='"s"', headers=[MAX_AGE])
        assert (await service.fetch("/small")).body == body_of(1)
