"""``forebay fsck``, and what it asks of a service that runs."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from forebay.cli import app
from forebay.store.disk import DiskStore
from forebay.web.admin import make_admin
from forebay.web.metrics import Metrics
from forebay.web.readiness import Readiness
from tests.fakes.scripted_server import response, scripted_server
from tests.service.scene import Scene
from tests.store.support import blob_files, pattern, put

runner = CliRunner()


def fill(directory: Path) -> None:
    """A cache with one object, as a service that was stopped leaves it."""

    async def work() -> None:
        store = DiskStore(directory, max_size_bytes=None, min_free_bytes=0)
        await store.open()
        await put(store, pattern(2_000_000))
        await store.close()

    asyncio.run(work())


def fsck(directory: Path, *more: str) -> Result:
    return runner.invoke(app, ["fsck", "--cache-dir", str(directory), *more])


def test_a_sound_cache_is_said_to_be_sound(tmp_path: Path) -> None:
    fill(tmp_path)
    result = fsck(tmp_path)
    assert result.exit_code == 0
    assert "1 objects" in result.output
    assert "no damage" in result.output


def test_damage_has_an_exit_status_of_its_own_and_is_dealt_with(tmp_path: Path) -> None:
    fill(tmp_path)
    (name,) = blob_files(tmp_path)
    with (tmp_path / "blobs" / name[:2] / name).open("r+b") as file:
        file.write(b"\xff")
    result = fsck(tmp_path)
    assert result.exit_code == 3
    assert "1 damaged blocks in 1 objects" in result.output
    assert fsck(tmp_path).exit_code == 0


def test_a_directory_without_a_cache_is_named(tmp_path: Path) -> None:
    result = fsck(tmp_path / "nothing")
    assert result.exit_code == 1
    assert str(tmp_path / "nothing") in result.output
    assert not (tmp_path / "nothing").exists()


async def test_a_cache_in_use_is_left_to_who_uses_it(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, max_size_bytes=None, min_free_bytes=0)
    await store.open()
    result = await asyncio.to_thread(fsck, tmp_path)
    await store.close()
    assert result.exit_code == 1
    assert "in use by another Forebay" in result.output
    assert "--online" in result.output


@pytest.mark.parametrize(
    ("more", "status", "told"),
    [
        ({"finished": True}, 0, "no damage"),
        ({"finished": True, "damaged_blocks": 2, "damaged_objects": 1}, 3, "2 damaged blocks"),
        ({"trouble": "The index is locked."}, 1, "The index is locked."),
        ({}, 1, "before it had seen everything"),
    ],
)
def test_online_the_service_is_asked_until_it_has_done(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: dict[str, object],
    status: int,
    told: str,
) -> None:
    monkeypatch.setenv("FOREBAY_ADMIN__TOKEN", "a-token-for-tests")
    monkeypatch.setattr("forebay.cli.fsck._ASK_EVERY_SECONDS", 0.01)
    running = json.dumps({"running": True}).encode()
    done = json.dumps({"running": False, "objects": 5, **more}).encode()
    answers = [response("200 OK", body) for body in (running, running, done)]
    with scripted_server(*answers) as server:
        result = fsck(tmp_path, "--server", server.url)
    assert result.exit_code == status
    assert told in result.output


async def test_a_scrub_is_begun_by_post_and_told_by_get() -> None:
    scene = Scene()
    scene.add()
    await scene.get()
    admin = make_admin(scene.service, Metrics(), Readiness())
    transport = httpx.ASGITransport(admin)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.get("/-/scrub")).json()["finished"] is False
        begun = await client.post("/-/scrub")
        assert begun.status_code == 202
        assert (await client.get("/-/scrub")).json()["objects"] == 1
    await scene.close()
