"""The store's own threads: nothing that may wait for a disk runs on the event loop."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

_BLOB_THREADS = 4
_CHECK_THREADS = 2
_CHORE_THREADS = 3  # one may be taken by a sweep, the others sync


class Threads:
    """Six kinds of work that must not wait for each other.

    ``index_writer`` is one thread, so that the process never waits for its own lock on the
    database and changes come in one order; ``index_reader`` is one beside it, whom no change
    holds up. ``blobs`` writes bytes for clients who wait for them, ``checks`` reads bytes to
    verify them; ``unlinks`` removes files, for which writers wait while the cache is full;
    ``chores`` does what takes long: syncs and sweeps.
    """

    def __init__(self) -> None:
        self.index_writer = ThreadPoolExecutor(1, "forebay-index-writer")
        self.index_reader = ThreadPoolExecutor(1, "forebay-index-reader")
        self.blobs = ThreadPoolExecutor(_BLOB_THREADS, "forebay-blobs")
        self.checks = ThreadPoolExecutor(_CHECK_THREADS, "forebay-checks")
        self.unlinks = ThreadPoolExecutor(1, "forebay-unlinks")
        self.chores = ThreadPoolExecutor(_CHORE_THREADS, "forebay-chores")

    def stop(self) -> None:
        """Let the threads end; what they have begun is finished. Does not wait."""
        pools = (self.index_writer, self.index_reader, self.blobs, self.checks, self.unlinks)
        for pool in (*pools, self.chores):
            pool.shutdown(wait=False)
