"""The format on disk: what an older Forebay wrote is read, and what is newer is refused."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from forebay.errors import StoreError
from forebay.model import Interval
from forebay.ports import Selection
from forebay.store.disk import DiskStore
from forebay.store.layout import FORMAT_VERSION
from forebay.store.notices import notices
from forebay.store.rows import Totals
from tests.store.support import BLOCK, new_entry, pattern, put, read


def store_at(directory: Path, **more: object) -> DiskStore:
    return DiskStore(directory, max_size_bytes=None, min_free_bytes=0, **more)  # type: ignore[arg-type]


def make_format_1(directory: Path) -> None:
    """Take away what format 2 has added, as if an older Forebay had written the directory."""
    (directory / "version").write_text("1\n")
    with closing(sqlite3.connect(directory / "index" / "cache.db", isolation_level=None)) as index:
        for kind, name in index.execute(
            "SELECT type, name FROM sqlite_master WHERE name LIKE 'Forebay%' AND sql IS NOT NULL"
        ).fetchall():
            index.execute(f"DROP {kind} IF EXISTS {name}")
        for column in ("mount", "epoch", "pinned", "rank"):
            index.execute(f"ALTER TABLE Cache DROP COLUMN {column}")
        index.execute("CREATE INDEX Forebay_used ON Cache(access_time)")
        index.execute("CREATE UNIQUE INDEX Forebay_blob ON Cache(filename)")


def times(directory: Path) -> dict[Path, int]:
    """When each file was last written."""
    return {path: path.stat().st_mtime_ns for path in directory.rglob("*") if path.is_file()}


async def test_a_directory_of_format_1_is_converted_where_it_lies(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    await store.open()
    entries = [
        await put(store, pattern(5000, n), new_entry(f"k{n}", length=5000, mount=f"m{n % 2}"))
        for n in range(6)
    ]
    store.touch(entries[0])
    await store.close()
    make_format_1(tmp_path)

    store = DiskStore(tmp_path, max_size_bytes=13 * BLOCK, min_free_bytes=0)
    await store.open()
    assert (tmp_path / "version").read_text() == f"{FORMAT_VERSION}\n"
    assert (await store.swept()).dropped_rows == 0
    for number, entry in enumerate(entries):
        assert await store.find(f"k{number}") == (entry,)
        assert await store.verify(entry, Interval(0, 5000)) is entry
        assert read(store.open_reader(entry)) == pattern(5000, number)
    assert (await store.scrub()).summed_blocks == 6
    await put(store, pattern(5000), key="new")
    assert await store.find("k0") != (), "it was used last"
    assert await store.find("k1") == ()
    assert (await store.remove(Selection(mount="m0"))).objects == 3
    await store.close()


async def test_a_conversion_that_a_crash_cut_short_is_done_again(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    await store.open()
    entry = await put(store, b"body")
    await store.close()
    (tmp_path / "version").write_text("1\n")
    store = store_at(tmp_path)
    await store.open()
    assert await store.find("aa") == (entry,)
    await store.close()
    assert (tmp_path / "version").read_text() == f"{FORMAT_VERSION}\n"


async def test_a_newer_format_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    await store.open()
    await put(store, b"body")
    await store.close()
    (tmp_path / "version").write_text(f"{FORMAT_VERSION + 1}\n")
    before = times(tmp_path)
    with pytest.raises(StoreError, match="use the Forebay that wrote it"):
        await store_at(tmp_path).open()
    after = times(tmp_path)
    assert {p for p in before if before[p] != after[p]} <= {tmp_path / "lock"}


# Announcements


@pytest.mark.parametrize(
    ("held", "limit", "quotas", "said"),
    [
        ({"m": Totals(5, 100)}, None, {}, []),
        ({"m": Totals(5, 100)}, 100, {"m": 100}, []),
        ({"gone": Totals(0, 0)}, None, {}, []),
        ({"gone": Totals(1200, 3 << 20)}, None, {}, ["1,200 objects", "'gone'"]),
        ({"m": Totals(5, 100)}, None, {"m": 60}, ["'m' holds 100", "40"]),
        ({"m": Totals(5, 100), "url": Totals(1, 50)}, 120, {}, ["holds 150", "30"]),
    ],
)
def test_what_a_changed_configuration_costs_is_said_in_numbers(
    held: dict[str, Totals], limit: int | None, quotas: dict[str, int], said: list[str]
) -> None:
    sentences = list(notices(held, {"m", "url"}, limit, quotas, free_bytes=70, min_free_bytes=70))
    assert len(sentences) == bool(said)
    assert all(word in "".join(sentences) for word in said)


def test_a_disk_with_too_little_room_is_told_at_the_start() -> None:
    (told,) = notices({}, {"m"}, None, {}, free_bytes=12_000_000, min_free_bytes=100_000_000)
    assert "12 MB free" in told
    assert "lower cache.min_free" in told


async def test_a_mount_that_is_gone_is_announced_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = store_at(tmp_path)
    await store.open()
    await put(store, b"body", new_entry("k", length=4, mount="old"))
    with caplog.at_level(logging.WARNING, "forebay.store"):
        await store.announce(["old"])
        assert caplog.messages == []
        await store.announce(["new"])
    assert "1 objects" in caplog.text
    assert "purge --mount old" in caplog.text
    await store.close()
