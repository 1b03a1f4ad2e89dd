"""Real processes: killed at any moment, stopped gracefully, and several workers at once."""

from __future__ import annotations

import asyncio
import os
import random
from hashlib import sha256
from pathlib import Path

from tests.fakes.origin import Origin
from tests.live.children import Child, child

MAX_AGE = ("cache-control", "max-age=600")
ROUNDS = int(os.environ.get("CRASH_ROUNDS", "3"))
"""As a soak: ``CRASH_ROUNDS=300 ./scripts/test tests/live/test_crash.py -k moment``."""
FILES = 6


async def test_whatever_the_moment_of_a_kill_every_byte_served_is_right(
    tmp_path: Path, origin: Origin
) -> None:
    chance = random.Random(20)
    bodies = {f"/{n}": chance.randbytes(chance.randrange(1, 3_000_000)) for n in range(FILES)}
    for path, body in bodies.items():
        origin.add(path, body=body, etag=f'"{path}"', headers=[MAX_AGE], pace_bytes_per_second=8e6)
    for _ in range(ROUNDS):
        async with child(tmp_path / "cache", origin) as service:
            asking = [asyncio.create_task(_ask_on(service, bodies, chance)) for _ in range(4)]
            await asyncio.sleep(chance.uniform(0.0, 0.5))
            await service.kill()
            await asyncio.gather(*asking)
    async with child(tmp_path / "cache", origin) as service:
        for path, body in bodies.items():
            answer = await service.fetch(path)
            assert answer.whole
            assert sha256(answer.body).digest() == sha256(body).digest()
        views = (await service.admin("/-/objects")).json()["objects"]
        assert all(view["complete"] for view in views)
        assert len(views) == len(bodies)
    blobs = [path for path in (tmp_path / "cache" / "blobs").rglob("*") if path.is_file()]
    assert {path.name for path in blobs} == {view["entry_id"] for view in views}
    on_disk_bytes = sum(path.stat().st_blocks * 512 for path in blobs)
    assert sum(view["size_bytes"] for view in views) == on_disk_bytes


async def _ask_on(service: Child, bodies: dict[str, bytes], chance: random.Random) -> None:
    """Ask for wholes and parts until the service is gone; nothing whole may be wrong."""
    while service.process.poll() is None:
        path = chance.choice(sorted(bodies))
        body, lines = bodies[path], []
        start = chance.randrange(len(body)) if chance.random() < 0.4 else 0
        if start:
            lines.append(f"Range: bytes={start}-")
        try:
            answer = await service.fetch(path, *lines)
        except (OSError, EOFError, TimeoutError):
            continue
        assert answer.status in {200, 206}
        expected = body[start:] if answer.status == 206 else body
        assert expected.startswith(answer.body)
        assert not answer.whole or answer.body == expected


async def test_after_a_kill_a_download_goes_on_from_the_last_checkpoint(
    tmp_path: Path, origin: Origin
) -> None:
    body = random.Random(21).randbytes(2_000_000)
    resource = origin.add("/f", body=body, etag='"one"', stall_at=1_500_000, headers=[MAX_AGE])
    async with child(tmp_path / "cache", origin) as service:
        download = await service.start(service.path("/f"))
        await download.read_until(1_500_000)
        await asyncio.sleep(2.6)  # a checkpoint is due every two seconds
        await service.kill()
    resource.stall_at = None
    async with child(tmp_path / "cache", origin) as service:
        answer = await service.fetch("/f")
        assert (answer.body, answer.whole) == (body, True)
    assert origin.requests[-1].range == "bytes=1500000-1999999"
    assert origin.requests[-1].fields.get("if-range") == '"one"'
    assert origin.body_bytes_sent == len(body)


async def test_sigterm_lets_running_downloads_finish(tmp_path: Path, origin: Origin) -> None:
    body = random.Random(22).randbytes(2_000_000)
    resource = origin.add("/f", body=body, etag='"one"', stall_at=500_000, headers=[MAX_AGE])
    async with child(tmp_path / "cache", origin) as service:
        download = await service.start(service.path("/f"))
        await download.read_until(500_000)
        ending = asyncio.create_task(service.end())
        await asyncio.sleep(0.2)
        resource.go_on.set()
        assert await download.read_until(len(body)) == body
        assert await ending == 0
        await origin.wait_for_connections(0)


async def test_sigterm_cuts_what_takes_too_long_and_keeps_what_has_come(
    tmp_path: Path, origin: Origin
) -> None:
    body = random.Random(23).randbytes(1_000_000)
    resource = origin.add("/f", body=body, etag='"one"', stall_at=500_000, headers=[MAX_AGE])
    config = tmp_path / "forebay.toml"
    await asyncio.to_thread(config.write_text, '[server]\nlog_level = "warning"\n')
    async with child(tmp_path / "cache", origin, config=config) as service:
        download = await service.start(service.path("/f"))
        await download.read_until(500_000)
        download.leave()
        assert await service.end() == 0
    resource.stall_at = None
    async with child(tmp_path / "cache", origin) as service:
        assert (await service.fetch("/f")).body == body
    assert origin.body_bytes_sent == len(body)


async def test_two_workers_serve_right_bytes_and_see_each_others_purges(
    tmp_path: Path, origin: Origin
) -> None:
    old, new = random.Random(24).randbytes(1_000_000), random.Random(25).randbytes(1_000_000)
    origin.add("/f", body=old, etag='"one"', headers=[MAX_AGE])
    async with child(tmp_path / "cache", origin, "--workers", "2") as service:
        answers = await asyncio.gather(*(service.fetch("/f") for _ in range(20)))
        assert all((answer.body, answer.whole) == (old, True) for answer in answers)
        hits = [await service.fetch("/f") for _ in range(10)]
        assert all(hit.body == old for hit in hits)
        assert "hit" in hits[-1].cache_status
        origin.add("/f", body=new, etag='"two"', headers=[MAX_AGE])
        purged = await service.admin("/-/purge", {"url": origin.url("/f")})
        assert purged.json()["objects"] == 1
        after = [await service.fetch("/f") for _ in range(20)]
        assert all(answer.body == new for answer in after)
        assert await service.end() == 0
