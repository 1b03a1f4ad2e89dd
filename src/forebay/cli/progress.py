"""A progress bar for one download: bytes, rate, time left, and what the service does for it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

import typer
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
from forebay.units import describe_size

_POLL_SECONDS = 0.5
_LINE_EVERY_SECONDS = 10.0
_WIDE = 120
"""Columns of a terminal on which all that is told has room."""
_UNTOLD = "segments: no admin token"


class Meter(Protocol):
    """What a download reports to; sizes in bytes."""

    def at(self, position: int, length_bytes: int | None) -> None:
        """So much is on disk, of so much in all, where that is known."""


class Lines:
    """Where nobody sees a bar: a line now and then, none for what is quick."""

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._told_at: tuple[float, int] | None = None

    def at(self, position: int, length_bytes: int | None) -> None:
        now = self._clock()
        if self._told_at is None or position < self._told_at[1]:
            self._told_at = (now, position)
        then, before = self._told_at
        if now - then < _LINE_EVERY_SECONDS:
            return
        self._told_at = (now, position)
        rate = describe_size((position - before) / (now - then))
        of_all = "" if length_bytes is None else f" of {describe_size(length_bytes)}"
        typer.echo(f"{self._name}: {describe_size(position)}{of_all}, {rate}/s", err=True)


class _Bar:
    def __init__(self, progress: Progress, name: str) -> None:
        self._progress = progress
        self._task = progress.add_task(name, total=None, upstream="")
        self.is_wide = progress.console.width >= _WIDE
        self.length_bytes: int | None = None

    def at(self, position: int, length_bytes: int | None) -> None:
        self.length_bytes = length_bytes
        self._progress.update(self._task, completed=position, total=length_bytes)

    def upstream(self, text: str) -> None:
        self._progress.update(self._task, upstream=text)


@contextlib.contextmanager
def progress_of(
    remote: Remote, url: str, name: str, console: Console | None = None
) -> Iterator[Meter]:
    """A bar on standard error while the block runs; a line now and then where nobody sees one."""
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield Lines(name)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=40 if console.width >= _WIDE else 10),
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
        except RemoteError as error:
            if error.status in {401, 403}:
                bar.upstream(_UNTOLD)
            return
        bar.upstream(tell_segments(answer, url, bar.length_bytes, with_rate=bar.is_wide))


def tell_segments(
    answer: Any, url: str, length_bytes: int | None = None, *, with_rate: bool = False
) -> str:
    """What ``/-/transfers`` says of this URL: ``4 segments from 2 mirrors, 8 MB/s``; empty if
    nothing. Under a mount's address transfers have other names: the last segment and the length
    tell them then."""
    running = answer.get("transfers", []) if isinstance(answer, Mapping) else answer
    name = url.partition("#")[0]
    named = [one for one in running if one["name"] == name]
    alike = [
        one
        for one in running
        if length_bytes is not None
        and one.get("length_bytes") == length_bytes
        and _last_segment(one["name"]) == _last_segment(name)
    ]
    for transfer in (named or alike)[:1]:
        segments = transfer["segments"]
        mirrors = {segment["mirror"] for segment in segments}
        told = f"{_count(len(segments), 'segment')} from {_count(len(mirrors), 'mirror')}"
        rate = transfer.get("rate_bytes_per_second")
        return f"{told}, {describe_size(rate)}/s" if with_rate and rate else told
    return ""


def _last_segment(url: str) -> str:
    return urlsplit(url).path.rpartition("/")[2]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
