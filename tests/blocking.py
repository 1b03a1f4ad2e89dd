"""A detector of blocking calls below ``forebay`` on a running event loop."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator

import blockbuster
import blockbuster.blockbuster as blockbuster_module

_NEVER_WAITS_LONG = (
    # sendfile is only called where the page cache has been asked first.
    "os.sendfile",
    # Locks are held for a few instructions; whoever holds one over a disk call shows up there.
    "threading.Lock.acquire",
    "threading.Lock.acquire_lock",
    # Pure functions of strings, or of one look at a path that was just opened.
    "os.path.abspath",
    "os.path.samestat",
    "os.getcwd",
)

_MAY_BLOCK = (
    # A log line goes to a terminal, a pipe or a journal: that is the operator's bargain.
    ("logging/__init__.py", {"handle", "callHandlers", "flush"}),
    # Tracebacks read source files; modules load once.
    ("linecache.py", {"updatecache", "checkcache"}),
    # The size of a directory of /proc, which is no disk.
    ("forebay/web/capacity.py", {"open_descriptors"}),
    # FastAPI looks up an endpoint's source once per route, for its error messages.
    ("fastapi/routing.py", {"_extract_endpoint_context"}),
    ("<frozen importlib._bootstrap>", {"_find_and_load"}),
)


class RecordedBlockingError(blockbuster.BlockingError):
    """A blocking call on the loop that counts even where the code under test swallows it."""

    seen: list[str] = []  # noqa: RUF012 - one list on purpose: the detector is global too

    def __init__(self, func: str) -> None:
        super().__init__(func)
        self.seen.append(f"{func}\n{''.join(traceback.format_stack(limit=12)[:-2])}")


@contextlib.contextmanager
def watched_event_loop() -> Iterator[None]:
    """Make blocking calls that have a frame of ``forebay`` on their stack raise.

    Not watched, because they do not wait or cannot be told apart: ``os.pread``, ``os.open``,
    ``os.dup``, ``os.fstat``, ``os.close``. SQLite, sleeping, reading and writing of files,
    changes of directories and blocking sockets are.
    """
    detector = blockbuster.BlockBuster(scanned_modules=["forebay"])
    for name in _NEVER_WAITS_LONG:
        detector.functions.pop(name)
    for function in detector.functions.values():
        for filename, functions in _MAY_BLOCK:
            function.can_block_in(filename, functions)
    blockbuster_module.BlockingError = RecordedBlockingError  # type: ignore[misc]
    detector.activate()
    try:
        yield
    finally:
        detector.deactivate()
        blockbuster_module.BlockingError = blockbuster.BlockingError  # type: ignore[misc]
