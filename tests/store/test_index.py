"""The index against what diskcache would do, and against what it makes for us."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from forebay.errors import StoreError, StoreFull
from forebay.store.index import Index
from forebay.store.rows import Row, Use
from forebay.store.table import TextDisk
from forebay.store.trouble import Health, is_corruption, is_full_index, translated
from tests.store.support import new_entry


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    made = Index(tmp_path / "index")
    made.open()
    yield made
    made.release()


def plan_of(directory: Path, where: str) -> str:
    with closing(sqlite3.connect(directory / "index" / "cache.db")) as connection:
        rows = connection.execute(f"EXPLAIN QUERY PLAN SELECT value FROM Cache {where}").fetchall()
    return " ".join(row[3] for row in rows)


# What we rely on


@pytest.mark.parametrize(
    ("where", "used"),
    [
        ("WHERE raw = 1 AND key >= 'a/' AND key < 'a0'", "Cache_key_raw (key>? AND key<?)"),
        ("WHERE raw = 1 AND key = 'a/b'", "Cache_key_raw (key=? AND raw=?)"),
        ("WHERE tag >= 'a' AND (tag, rowid) > ('a', 1) ORDER BY tag, rowid", "Cache_tag_rowid"),
        ("WHERE pinned = 0 AND (rank, rowid) > (1.0, 1) ORDER BY rank, rowid", "Forebay_rank"),
        (
            "WHERE mount = 'm' AND epoch = (SELECT epoch FROM Forebay_mounts WHERE mount = 'm')"
            " AND pinned = 0 AND (rank, rowid) > (1.0, 1) ORDER BY rank, rowid",
            "Forebay_mount",
        ),
        ("WHERE mount = 'm' AND epoch < 3 LIMIT 5", "Forebay_mount (mount=? AND epoch<?)"),
        ("WHERE filename >= 'ab' AND filename < 'ac'", "Forebay_blob"),
    ],
)
def test_every_question_has_its_index(index: Index, tmp_path: Path, where: str, used: str) -> None:
    plan = plan_of(tmp_path, where)
    assert used in plan
    assert "TEMP B-TREE" not in plan


def test_totals_are_kept_inside_the_transaction(index: Index) -> None:
    entries = [new_entry(f"k{n}", length=1) for n in range(3)]
    with index.transaction():
        for entry in entries:
            index.insert(entry, 100, 1.0)
        assert index.resize(entries[0].entry_id, 50)
        assert not index.resize("nobody", 50)
    assert index.totals() == (3, 250)
    with index.transaction():
        index.delete(index.variants("k1"))
    assert index.totals() == (2, 150)


def test_a_transaction_that_fails_changes_nothing(index: Index) -> None:
    def insert_and_fail() -> None:
        with index.transaction():
            index.insert(new_entry("k", length=1), 100, 1.0)
            raise StoreFull("no")

    with pytest.raises(StoreFull):
        insert_and_fail()
    assert index.totals() == (0, 0)
    with index.transaction():
        index.insert(new_entry("k", length=1), 100, 1.0)
    assert index.totals() == (1, 100)


def test_a_row_is_deleted_only_while_it_is_the_same_entry(index: Index) -> None:
    with index.transaction():
        index.insert(new_entry("k", length=1), 1, 1.0)
    (row,) = index.variants("k")
    stranger = Row(row.rowid, "k", "another", "", 1, 1.0, 0, "")
    with index.transaction():
        index.delete([stranger])
    assert index.variants("k") == [row]


def test_the_longest_unused_come_first_page_by_page(index: Index) -> None:
    entries = [new_entry(f"k{n}", length=1) for n in range(10)]
    with index.transaction():
        for number, entry in enumerate(entries):
            index.insert(entry, 1, float(number // 3))
    with index.transaction(silent=True):
        index.touch({entries[0].entry_id: Use(2, 9.0), entries[5].entry_id: Use(1, 0.0)})
    seen: list[Row] = []
    while page := index.lowest(seen[-1] if seen else None, 4):
        seen += page
    assert [row.key for row in seen] == [f"k{n}" for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 0)]
    assert {row.key: row.hits for row in seen if row.hits} == {"k0": 2, "k5": 1}


def test_names_that_are_no_text_for_sqlite_are_stored(index: Index) -> None:
    entry = new_entry("k", length=1, name="https://x/\ud800\U0010ffff")
    with index.transaction():
        index.insert(entry, 1, 1.0)
    assert index.find("k").entries == (entry,)


# What diskcache would do


def test_the_disk_class_takes_and_gives_nothing_but_text() -> None:
    disk = TextDisk("", min_file_size=0, pickle_protocol=0)
    assert disk.put("key") == ("key", True)
    assert disk.get("key", True) == "key"
    assert disk.store("text", False) == (0, 1, None, "text")
    assert disk.fetch(1, None, "text", False) == "text"
    for key in (b"x", 1, ("a",), None):
        with pytest.raises(TypeError):
            disk.put(key)
        with pytest.raises(TypeError):
            disk.store(key, False)
        with pytest.raises(ValueError, match="not text"):
            disk.get(key, True)
    with pytest.raises(ValueError, match="not text"):
        disk.get("key", False)
    for mode, filename, value, is_read in (
        (4, None, b"pickle", False),
        (4, "file", None, False),
        (3, "file", None, False),
        (1, None, b"bytes", False),
        (1, "file", "text", False),
        (1, None, "text", True),
    ):
        with pytest.raises(ValueError, match="not text"):
            disk.fetch(mode, filename, value, is_read)


def test_the_disk_class_removes_no_file_that_a_row_names(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("")
    TextDisk(str(tmp_path), min_file_size=0, pickle_protocol=0).remove("precious")
    assert (tmp_path / "precious").exists()


@pytest.mark.parametrize("setting", [("disk_evil", "1"), ("disk_directory", "/")])
def test_settings_that_nobody_wrote_are_corruption(
    tmp_path: Path, setting: tuple[str, str]
) -> None:
    index = Index(tmp_path / "index")
    index.open()
    index.release()
    with closing(sqlite3.connect(tmp_path / "index" / "cache.db")) as connection, connection:
        connection.execute("INSERT INTO Settings VALUES (?, ?)", setting)
    with pytest.raises(sqlite3.DatabaseError) as caught:
        index.open()
    assert is_corruption(caught.value)


# Errors


def test_a_check_reads_the_disk_and_not_what_the_connection_remembers(
    tmp_path: Path, index: Index
) -> None:
    with index.transaction():
        for number in range(300):
            index.insert(new_entry(f"key-{number}"), 4096, 1.0)
    database = tmp_path / "index" / "cache.db"
    with closing(sqlite3.connect(database)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    index.check()
    with database.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xa5" * (database.stat().st_size - 8192))
    with pytest.raises(sqlite3.DatabaseError) as raised:
        index.check()
    assert is_corruption(raised.value)


def test_after_one_long_wait_for_a_lock_the_others_are_short_until_one_succeeds(
    tmp_path: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    def patience() -> int:
        ((milliseconds,),) = index._table.ask("PRAGMA busy_timeout")
        return int(milliseconds)

    usual = patience()
    monkeypatch.setattr(index._table, "_timeout", 0.1)
    index.release()
    database = tmp_path / "index" / "cache.db"
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for _ in range(2):
            with pytest.raises(TimeoutError), index.transaction():
                pass
        monkeypatch.undo()  # connections of their own would be patient again
        with pytest.raises(TimeoutError), index.transaction():
            pass
        other.execute("ROLLBACK")
    with index.transaction():
        index.insert(new_entry(), 4096, 1.0)
        assert patience() == 50
    assert patience() == usual


def sqlite_error(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("said SQLite")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (OSError(errno.ENOSPC, "x", "/secret/path"), StoreFull, "is full"),
        (OSError(errno.EDQUOT, "x"), StoreFull, "is full"),
        (OSError(errno.EIO, "x", "/secret/path"), StoreError, "Input/output error"),
        (OSError(errno.EROFS, "x"), StoreError, "Read-only file system"),
        (TimeoutError("the index is locked"), StoreError, "the index is locked"),
        (sqlite_error(sqlite3.SQLITE_FULL), StoreFull, "is full"),
        (sqlite_error(sqlite3.SQLITE_IOERR_WRITE), StoreError, "said SQLite"),
        (sqlite3.OperationalError("without a code"), StoreError, "without a code"),
    ],
)
def test_foreign_errors_become_ours(
    error: OSError | sqlite3.Error, kind: type[StoreError], sentence: str
) -> None:
    ours = translated(error)
    assert type(ours) is kind
    assert sentence in ours.detail
    assert "/secret/path" not in ours.detail


def test_corruption_and_fullness_are_told_apart() -> None:
    assert is_corruption(sqlite_error(sqlite3.SQLITE_CORRUPT | 1 << 8))
    assert is_corruption(sqlite_error(sqlite3.SQLITE_NOTADB))
    assert not is_corruption(sqlite_error(sqlite3.SQLITE_BUSY))
    assert not is_corruption(OSError(errno.EIO, "x"))
    assert is_full_index(sqlite_error(sqlite3.SQLITE_FULL))
    assert not is_full_index(OSError(errno.ENOSPC, "x"))


def test_each_part_is_ill_until_its_own_success(caplog: pytest.LogCaptureFixture) -> None:
    health = Health()
    health.failed("index", OSError(errno.EIO, "x"))
    health.failed("index", OSError(errno.EIO, "x"))
    health.failed("blobs", OSError(errno.ENOSPC, "x"))
    health.succeeded("index")
    assert not health.is_ill("index")
    assert health.is_ill("blobs")
    told = health.trouble
    assert told == "The disk of the cache is full: free some space on it."
    health.succeeded("blobs")
    health.succeeded("blobs")
    assert health.trouble is None
    assert len(caplog.records) == 4
