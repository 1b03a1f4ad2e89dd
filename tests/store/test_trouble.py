"""Never worse than no cache: every kind of trouble with the disk, and its end.

In each case the store refuses with a ``StoreError`` and nothing else, says so in ``usage``, goes
on giving what it can, and works again by itself when the trouble is over.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from forebay.errors import StoreError, StoreFull
from forebay.ports import Selection
from forebay.store.disk import DiskStore
from tests.store.support import completed, disk_bytes, new_entry, pattern, put, read

Trouble: TypeAlias = Callable[[Path, pytest.MonkeyPatch], AbstractContextManager[None]]


class FailingOs:
    """``os`` with some calls that fail, as they do on a disk in trouble."""

    def __init__(self, code: int, *names: str) -> None:
        self._code = code
        self._names = names

    def __getattr__(self, name: str) -> Any:
        return self._fail if name in self._names else getattr(os, name)

    def _fail(self, *_: Any, **__: Any) -> Any:
        raise OSError(self._code, os.strerror(self._code))


def failing(code: int, *names: str) -> Trouble:
    """These calls on blobs fail with this error."""

    @contextmanager
    def trouble(_: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        with monkeypatch.context() as patched:
            patched.setattr("forebay.store.blobs.os", FailingOs(code, *names))
            yield

    return trouble


@contextmanager
def index_locked(directory: Path, _: pytest.MonkeyPatch) -> Iterator[None]:
    """Another program has the database and does not let go."""
    with closing(sqlite3.connect(directory / "index" / "cache.db", isolation_level=None)) as one:
        one.execute("BEGIN IMMEDIATE")
        yield
        one.execute("ROLLBACK")


@contextmanager
def directory_lost(directory: Path, _: pytest.MonkeyPatch) -> Iterator[None]:
    """Somebody deletes the cache and puts a file in its place, for a while."""
    shutil.rmtree(directory)
    directory.write_text("not a directory")
    yield
    directory.unlink()


@contextmanager
def index_rotten(directory: Path, _: pytest.MonkeyPatch) -> Iterator[None]:
    """Noise in place of the database, header and all."""
    path = directory / "index" / "cache.db"
    with closing(sqlite3.connect(path)) as one:
        one.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:
        file.write(os.urandom(path.stat().st_size))
    yield


@dataclass(frozen=True)
class Case:
    """A kind of trouble: what a new object meets, and whether what was stored survives."""

    trouble: Trouble
    refusal: type[StoreError] = StoreError
    says: str = ""
    survives: bool = True


CASES = {
    "no space": Case(failing(errno.ENOSPC, "pwritev"), StoreFull, "disk of the cache is full"),
    "quota of the user": Case(failing(errno.EDQUOT, "pwritev"), StoreFull, "is full"),
    "no inodes": Case(failing(errno.ENOSPC, "open"), StoreFull, "is full"),
    "read-only": Case(failing(errno.EROFS, "open", "pwritev"), says="Read-only file system"),
    "no permission": Case(failing(errno.EACCES, "open"), says="Permission denied"),
    "I/O error at writing": Case(failing(errno.EIO, "pwritev"), says="Input/output error"),
    "I/O error at syncing": Case(failing(errno.EIO, "fdatasync"), says="Input/output error"),
    "too many open files": Case(failing(errno.EMFILE, "open"), says="Too many open files"),
    "index locked": Case(index_locked, says="index is locked"),
    "directory lost": Case(directory_lost, survives=False),
    "index corrupt": Case(index_rotten, survives=False),
}


@pytest.fixture(params=list(CASES.values()), ids=list(CASES))
def case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Case:
    monkeypatch.setattr("forebay.store.table.LOCK_TIMEOUT_SECONDS", 0.05)
    one: Case = request.param
    return one


async def until_refused(store: DiskStore) -> StoreError | None:
    """What a client's new object meets; None where the store has healed itself by then."""
    try:
        await put(store, b"new", key="new")
    except StoreError as error:
        return error
    return None


async def test_never_worse_than_no_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    cache = tmp_path / "cache"
    store = DiskStore(cache, max_size_bytes=None, min_free_bytes=0)
    await store.open()
    await store.swept()
    kept = await put(store, pattern(50_000), key="kept")
    running = await store.begin(new_entry("running", length=10_000), 10_000)
    await running.write(0, [pattern(10_000)[:5000]])
    reader = store.open_reader(kept)
    with case.trouble(cache, monkeypatch):
        refused = await until_refused(store)
        if case.says:
            assert isinstance(refused, case.refusal)
            assert case.says in refused.detail
            usage = await store.usage()
            assert not usage.healthy
            assert case.says in (usage.trouble or "")
        # Looking up and reading never raise anything that a caller does not expect.
        await store.find("kept")
        try:
            await store.remove(Selection(key="nothing"), dry_run=True)
            await running.write(5000, [pattern(10_000)[5000:]])
            await running.commit(completed(running.entry, 10_000))
        except StoreError:
            pass
        # Who reads, reads on.
        assert read(reader) == pattern(50_000)
        await store._upkeep._tick()
    await running.close()
    # The trouble is over: nobody needs to do anything.
    for _ in range(3):
        await store._upkeep._tick()
        await store.settle()
    fresh = await put(store, b"again", key="again")
    assert read(store.open_reader(fresh)) == b"again"
    assert await store.find("kept") == ((kept,) if case.survives else ())
    await store.swept()
    await store.settle()
    usage = await store.usage()
    assert (usage.healthy, usage.trouble) == (True, None)
    assert usage.size_bytes == disk_bytes(cache)
    await store.close()
    reopened = DiskStore(cache, max_size_bytes=None, min_free_bytes=0)
    await reopened.open()
    await reopened.swept()
    assert await reopened.find("again") == (fresh,)
    await reopened.close()
