"""What drafts and the store share: threads, index, blobs, and where errors are translated."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from forebay.errors import StoreError, StoreFull
from forebay.model import Entry
from forebay.rules.eviction import Eviction
from forebay.store.blobs import Blobs
from forebay.store.generation import Generation
from forebay.store.index import Index
from forebay.store.layout import FORMAT_VERSION, Layout
from forebay.store.lock import DirectoryLock
from forebay.store.lookup import Lookups
from forebay.store.room import Room
from forebay.store.rows import Row
from forebay.store.threads import Threads
from forebay.store.trouble import Health, is_corruption, is_full_index, log, translated
from forebay.store.turns import Turns

T = TypeVar("T")


class Engine:
    """One cache directory at work.

    ``in_index``, ``from_index``, ``with_blobs``, ``as_put``, ``as_chore`` and ``as_check`` run a
    job in the thread for its kind; ``OSError`` and ``sqlite3.Error`` become ``StoreError`` there
    and nowhere else.
    """

    def __init__(
        self,
        directory: Path,
        *,
        max_size_bytes: int | None,
        min_free_bytes: int,
        shared: bool,
        clock: Callable[[], float],
        quotas: Mapping[str, int],
        eviction: Eviction,
        pinned_mounts: Collection[str] = (),
    ) -> None:
        self.layout = Layout(directory)
        self.shared = shared
        self.clock = clock
        self.health = Health()
        self.generation = Generation(self.layout.generation) if shared else None
        self.turns = Turns(self.layout.turns) if shared else None
        self.index = Index(self.layout.index, self.generation, eviction, pinned_mounts)
        self.blobs = Blobs(self.layout.blobs)
        self.room = Room(self.index, self.blobs, max_size_bytes, min_free_bytes, shared, quotas)
        self.lookups = Lookups(self._read_entries, self.generation)
        self._lock = DirectoryLock(self.layout.lock)
        self._threads = Threads()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._unlinking: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.needs_sweep = True
        """Whether blobs and rows may disagree: after a start, and after the index was lost."""

    # Opening and closing

    async def open(self) -> None:
        """Take the directory and open what is in it, or make it.

        Raises ``StoreError`` with a sentence that names the directory.
        """
        self._loop = asyncio.get_running_loop()
        try:
            await self._threads.index_writer.submit(self._open)
        except (OSError, sqlite3.Error) as error:
            self._threads.stop()
            is_full = isinstance(translated(error), StoreFull)
            remedy = "free some of its disk" if is_full else "make it writable"
            raise StoreError(
                f"The cache directory {self.layout.directory} cannot be used ({error}): "
                f"{remedy}, or choose another one (cache.dir)."
            ) from error
        except StoreError:
            self._threads.stop()
            raise

    async def close(self) -> None:
        """Finish what has begun, make it durable, and give the directory up."""
        await self.settle()
        try:
            await self.as_chore(self.index.sync)
        except StoreError:
            log.warning("The last changes of the index may be lost if the power fails now.")
        for worker in (self._threads.index_reader, self._threads.index_writer):
            await worker.submit(self.index.release)
        await asyncio.wrap_future(self._threads.chores.submit(self._give_up))
        self._threads.stop()

    async def settle(self) -> None:
        """Wait until nothing that was spawned is running."""
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))

    # Jobs

    async def in_index(self, job: Callable[[], T], *, heals: bool = True) -> T:
        """Run a job that may change the index. Its success proves that the index can be changed
        again, unless ``heals`` is false: then it may have changed nothing."""
        started = self._threads.index_writer.submit(lambda: self._on_current(job))
        return await self._result(started, "index", heals=heals)

    async def from_index(self, job: Callable[[], T]) -> T:
        """Run a job that only reads the index; no change holds it up."""
        return await self._result(self._threads.index_reader.submit(job), "index", heals=False)

    def start_writing(self, job: Callable[[], T]) -> Future[T]:
        """Start a job that writes bytes; pass what it gives to ``written``."""
        return self._threads.blobs.submit(job)

    async def written(self, started: Future[T]) -> T:
        """The result of a started job. Its success proves that the disk takes bytes again."""
        return await self._result(started, "blobs", heals=True)

    async def with_blobs(self, job: Callable[[], T]) -> T:
        """Run a job on files that a client waits for."""
        return await self._result(self._threads.blobs.submit(job), "blobs", heals=False)

    async def as_chore(self, job: Callable[[], T]) -> T:
        """Run a job on files that takes long."""
        return await self._result(self._threads.chores.submit(job), "blobs", heals=False)

    async def as_put(self, job: Callable[[], T]) -> T:
        """Run a job that writes and syncs small entries. Its success proves that the disk takes
        bytes again."""
        return await self._result(self._threads.puts.submit(job), "blobs", heals=True)

    async def as_check(self, job: Callable[[], T]) -> T:
        """Run a job that reads stored bytes to verify them, for a client that waits."""
        return await self._result(self._threads.checks.submit(job), "blobs", heals=False)

    async def probe(self) -> None:
        """Try whether the disk takes bytes again. Raises ``StoreError`` while it does not."""
        await self.written(self.start_writing(self.blobs.probe))

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Work that goes on whoever waits for it leaves. ``settle`` waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def whole(self, work: Coroutine[Any, Any, T]) -> T:
        """Do all of this work or, when cancelled now, none of the waiting for it."""
        return await asyncio.shield(self.spawn(work))

    # Steps that several callers need

    async def drop(self, key: str, entry_id: str) -> bool:
        """Delete an entry's row and blob; whether the row was there. Raises ``StoreError``."""

        def job() -> list[Row]:
            with self.index.transaction():
                rows = [row for row in [self.index.get(key, entry_id)] if row is not None]
                self.index.delete(rows)
            return rows

        rows = await self.in_index(job)
        self.lookups.drop(key)
        self.unlink(rows)
        return bool(rows)

    async def drop_quietly(self, key: str, entry_id: str) -> None:
        """The same for those who have nobody to tell of trouble."""
        try:
            await self.drop(key, entry_id)
        except StoreError as error:
            log.info("A damaged entry stays in the index for now: %s", error.detail)

    def unlink(self, rows: Iterable[Row]) -> asyncio.Task[None] | None:
        """Remove the blobs of rows whose deletion is committed, behind the caller's back.

        Unlinking a large file takes its time, and its bytes count as free meanwhile: only who
        writes into the room it leaves must wait (``make_way``). What a crash leaves behind is
        swept at the next start. Gives the task, if there is one.
        """
        gone = list(rows)
        if not gone:
            return None
        self.room.mark_gone(gone)
        for row in gone:
            self.lookups.drop(row.key)
        size_bytes = sum(row.size_bytes for row in gone)
        self.room.unlinking_bytes += size_bytes
        task = self.spawn(self._unlink(gone, size_bytes))
        self._unlinking.add(task)
        task.add_done_callback(self._unlinking.discard)
        return task

    async def make_way(self, used_bytes: int) -> None:
        """Wait for files that leave while they and so many used bytes pass the limit together."""
        while self._unlinking and self.room.is_over_until_unlinked(used_bytes):
            await asyncio.wait(tuple(self._unlinking), return_when=asyncio.FIRST_COMPLETED)

    async def _unlink(self, rows: list[Row], size_bytes: int) -> None:

        def job() -> None:
            for row in rows:
                self.blobs.remove(row.entry_id)

        try:
            await self._result(self._threads.unlinks.submit(job), "blobs", heals=False)
        except StoreError as error:
            log.info("Files of removed entries stay until the next start: %s", error.detail)
        finally:
            self.room.unlinking_bytes -= size_bytes

    async def _read_entries(self, key: str) -> tuple[Entry, ...]:
        entries, damaged = await self.from_index(lambda: self.index.find(key))
        if damaged:
            log.warning("The index holds rows that cannot be read; they are removed.")
            self.spawn(self._drop_damaged(damaged))
        return entries

    async def _drop_damaged(self, numbers: tuple[int, ...]) -> None:
        def job() -> None:
            with self.index.transaction():
                self.index.delete_numbers(numbers)

        try:
            await self.in_index(job)
        except StoreError as error:
            log.info("A damaged entry stays in the index for now: %s", error.detail)

    # In the index writer's thread

    def _open(self) -> None:
        self.layout.directory.mkdir(parents=True, exist_ok=True)
        self._lock.acquire(shared=self.shared)
        try:
            self._open_contents()
        except BaseException:
            self._lock.release()
            raise

    def _open_contents(self) -> None:
        version = self.layout.version_found()
        self.blobs.prepare()
        if self.generation is not None:
            self.generation.open()
        if self.turns is not None:
            self.turns.open()
        try:
            self.index.open()
        except sqlite3.DatabaseError as error:
            if not is_corruption(error):
                raise
            self._set_index_aside()
        # The index has been converted in one transaction; a crash before this does it again.
        if version != FORMAT_VERSION:
            self.layout.write_version()
            if version is not None:
                log.info(
                    "The cache directory was of format %d and is of %d now.",
                    version,
                    FORMAT_VERSION,
                )

    def _on_current(self, job: Callable[[], T]) -> T:
        """Run the job on the index that the directory holds now.

        The directory may have been deleted, or a worker may have set a corrupt index aside.
        """
        if not self.index.is_current():
            log.warning("The cache directory has lost its index; it begins anew.")
            self.index.release()
            self._lock.release()
            self._open()
            self._begin_anew()
        try:
            return job()
        except sqlite3.DatabaseError as error:
            if is_corruption(error):
                self._set_index_aside()
            if not is_full_index(error):
                raise
            return self._with_sacrifice(job, error)

    def _with_sacrifice(self, job: Callable[[], T], error: sqlite3.Error) -> T:
        """Run the job again on a disk so full that not even a row can be deleted.

        The blobs of the least recently used go first this once, and their rows after: a crash
        between the two leaves rows without blobs, which everybody takes for damage.
        """
        rows = self.room.sacrifice()
        if not rows:
            raise error
        for row in rows:
            self.blobs.remove(row.entry_id)
        with self.index.transaction():
            self.index.delete(rows)
        self.index.shorten_log()
        self.room.mark_gone(rows)
        self.room.count_evicted(rows)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.lookups.clear)
        return job()

    def _set_index_aside(self) -> None:
        """Begin with an empty index; the sweep removes the blobs that nothing proves now."""
        self.index.release()
        aside = self.layout.set_aside_index()
        log.error("The index was corrupt and lies in %s; the cache begins empty.", aside)
        self.index.open()
        if self.generation is not None:
            self.generation.bump()
        self._begin_anew()

    def _begin_anew(self) -> None:
        self.needs_sweep = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.lookups.clear)

    def _give_up(self) -> None:
        if self.generation is not None:
            self.generation.close()
        if self.turns is not None:
            self.turns.close()
        self._lock.release()

    # Errors

    async def _result(self, started: Future[T] | asyncio.Future[T], part: str, *, heals: bool) -> T:
        try:
            result = await asyncio.wrap_future(started)
        except (OSError, sqlite3.Error) as error:
            if is_corruption(error):
                self.lookups.clear()
                self._heal()
            blamed = "index" if isinstance(error, sqlite3.Error) else part
            raise self.health.failed(blamed, error) from error
        except StoreError as error:
            if type(error) is StoreError and part == "index":
                self.health.refused(part, error)  # the directory is somebody else's now
            raise
        if heals:
            self.health.succeeded(part)
        return result

    def _heal(self) -> None:
        """Look at the whole index where it is changed, so that a corrupt one is set aside."""
        self._threads.index_writer.submit(lambda: self._on_current(self.index.check))
