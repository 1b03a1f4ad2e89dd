"""A progress bar for one download: bytes, rate, time left, and what the service does for it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from forebay.cli.remote import Remote, RemoteError

_POLL_SECONDS = 0.5


class Meter(Protocol):
    """What a download reports to; sizes in bytes."""

    def at(self, position: int, length_bytes: int | None) -> None:
        """So much is on disk, of so much in all, where that is known."""


class _Silent:
    def at(self, position: int, length_bytes: int | None) -> None:
        pass


class _Bar:
    def __init__(self, progress: Progress, name: str) -> None:
        self._progress = progress
        self._task = progress.add_task(name, total=None, upstream="")

    def at(self, position: int, length_bytes: int | None) -> None:
        self._progress.update(self._task, completed=position, total=length_bytes)

    def upstream(self, text: str) -> None:
        self._progress.update(self._task, upstream=text)


@contextlib.contextmanager
def progress_of(
    remote: Remote, url: str, name: str, console: Console | None = None
) -> Iterator[Meter]:
    """A bar on standard error while the block runs; nothing where that is no terminal."""
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield _Silent()
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[upstream]}", markup=False),
    )
    stop = threading.Event()
    with Progress(*columns, console=console) as progress:
        bar = _Bar(progress, name)
        watcher = threading.Thread(target=_watch, args=(remote, url, bar, stop), daemon=True)
        watcher.start()
        try:
            yield bar
        finally:
            stop.set()


def _watch(remote: Remote, url: str, bar: _Bar, stop: threading.Event) -> None:
    """Show the transfer's segments for as long as the service tells about them."""
    while not stop.wait(_POLL_SECONDS):
        try:
            answer = remote.ask("/-/transfers")
        except RemoteError:
            return
        bar.upstream(tell_segments(answer, url))


def tell_segments(answer: Any, url: str) -> str:
    """What ``/-/transfers`` says of this URL: ``4 segments from 2 mirrors``; empty if nothing."""
    running = answer.get("transfers", []) if isinstance(answer, Mapping) else answer
    name = url.partition("#")[0]
    for transfer in running:
        if transfer["name"] == name:
            segments = transfer["segments"]
            mirrors = {segment["mirror"] for segment in segments}
            return f"{_count(len(segments), 'segment')} from {_count(len(mirrors), 'mirror')}"
    return ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
