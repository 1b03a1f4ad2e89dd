"""Where Forebay's CPU goes in a case: py-spy watches one more measurement, after the others.

Watching costs time itself, so nothing of it is among the figures. The flame graph has Python's
frames and, below them, those of C (``--native``); what the kernel does is in its system calls.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.workloads import Case, Stage

_RATE_HZ = 250
_TARGET = "forebay"
_STOP_SECONDS = 60.0


def program() -> str | None:
    """The py-spy beside this interpreter, or on the path."""
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if beside.exists() else shutil.which("py-spy")


def record(stage: Stage, case: Case, directory: Path) -> None:
    """Write ``directory/<case>.svg``. Nothing where Forebay is no target."""
    watcher = program()
    if watcher is None or _TARGET not in case.targets:
        return
    (pid,) = (cache.pid for cache in stage.caches if cache.name == _TARGET)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{file_name(case.name)}.svg"
    with _watching(watcher, pid, path):
        case.targets[_TARGET]()
    if path.exists():
        print(f"  where its CPU went: {path}", file=sys.stderr)


def file_name(case: str) -> str:
    """The case's name with what does not belong into a file's name as dashes."""
    return re.sub(r"[^a-z0-9]+", "-", case.lower()).strip("-")


@contextlib.contextmanager
def _watching(program: str, pid: int, path: Path) -> Iterator[None]:
    command = [program, "record", "--pid", str(pid), "--output", str(path), "--native"]
    command += ["--rate", str(_RATE_HZ), "--threads"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as watcher:
        assert watcher.stdout is not None
        try:
            watcher.stdout.readline()  # it is at work when it says so
            yield
        finally:
            watcher.send_signal(signal.SIGINT)
            watcher.communicate(timeout=_STOP_SECONDS)
