"""The store's own threads: nothing that may wait for a disk runs on the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeAlias, TypeVar

_BLOB_THREADS = 4
_CHECK_THREADS = 2
_CHORE_THREADS = 3  # one may be taken by a sweep, the others sync

T = TypeVar("T")
_Job: TypeAlias = "tuple[Callable[[], Any], asyncio.Future[Any]]"
_Outcome: TypeAlias = "tuple[asyncio.Future[Any], Any, BaseException | None]"


class Worker:
    """One thread for short jobs, one behind the other.

    An executor of one thread costs three times as much a job, in locks that only several threads
    need. Outcomes go back to the loop together, as many as there are when it gets to them.
    """

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._outcomes: deque[_Outcome] = deque()
        self._is_called = False
        self._name = name
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, job: Callable[[], T]) -> asyncio.Future[T]:
        """Begin a job behind those that were; its outcome. On the loop that uses this worker.

        One that is cancelled before its job has begun is left out.
        """
        if self._thread is None:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._jobs.put((job, outcome))
        return outcome

    def stop(self) -> None:
        """Let the thread end behind the jobs that were begun. Does not wait."""
        if self._thread is not None:
            self._thread = None
            self._jobs.put(None)

    def _work(self) -> None:
        while (taken := self._jobs.get()) is not None:
            job, outcome = taken
            if outcome.cancelled():
                continue
            try:
                self._report((outcome, job(), None))
            except BaseException as error:
                self._report((outcome, None, error))
            # Neither may live until the next job comes.
            del taken, job, outcome

    def _report(self, outcome: _Outcome) -> None:
        self._outcomes.append(outcome)
        if self._is_called or self._loop is None:
            return
        self._is_called = True
        with suppress(RuntimeError):  # a loop that has ended waits for nothing
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._is_called = False  # before the last look, so that what comes behind it calls again
        while self._outcomes:
            outcome, result, error = self._outcomes.popleft()
            if outcome.cancelled():
                continue
            if error is None:
                outcome.set_result(result)
            else:
                outcome.set_exception(error)


class Threads:
    """Seven kinds of work that must not wait for each other.

    ``index_writer`` is one thread, so that the process never waits for its own lock on the
    database and changes come in one order; ``index_reader`` is one beside it, whom no change
    holds up. ``puts`` writes and syncs small entries, many at a time. ``blobs`` writes bytes for
    clients who wait for them, ``checks`` reads bytes to verify them; ``unlinks`` removes files,
    for which writers wait while the cache is full; ``chores`` does what takes long: syncs and
    sweeps.
    """

    def __init__(self) -> None:
        self.index_writer = Worker("forebay-index-writer")
        self.index_reader = Worker("forebay-index-reader")
        self.puts = Worker("forebay-puts")
        self.blobs = ThreadPoolExecutor(_BLOB_THREADS, "forebay-blobs")
        self.checks = ThreadPoolExecutor(_CHECK_THREADS, "forebay-checks")
        self.unlinks = ThreadPoolExecutor(1, "forebay-unlinks")
        self.chores = ThreadPoolExecutor(_CHORE_THREADS, "forebay-chores")

    def stop(self) -> None:
        """Let the threads end; what they have begun is finished. Does not wait."""
        for worker in (self.index_writer, self.index_reader, self.puts):
            worker.stop()
        for pool in (self.blobs, self.checks, self.unlinks, self.chores):
            pool.shutdown(wait=False)
