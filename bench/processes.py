"""What the kernel tells of a process and its children: CPU time, memory, whether they rest."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")
_STILL_SECONDS, _LOOK_SECONDS = 0.1, 0.02
_RESTING = frozenset("SIZXTt")
"""States of threads that neither run nor wait for a disk (proc(5))."""


def tree(pid: int) -> Iterator[int]:
    """The process, its children and theirs."""
    yield pid
    with contextlib.suppress(OSError):
        for child in (_PROC / f"{pid}/task/{pid}/children").read_text().split():
            yield from tree(int(child))


def cpu_seconds(pid: int) -> float:
    """User and system time of the process and its children so far."""
    return sum(_cpu_ticks(_read(f"{one}/stat")) for one in tree(pid)) / _TICKS_PER_SECOND


def anonymous_bytes(pid: int) -> int:
    """Memory of the process and its children that is no file's."""
    return 1024 * sum(_kib(_read(f"{one}/status"), "RssAnon") for one in tree(pid))


def descriptors(pid: int) -> int:
    """What the process and its children have open."""
    return sum(len(os.listdir(_PROC / f"{one}/fd")) for one in tree(pid))


def settled(pid: int, limit_seconds: float) -> bool:
    """Wait until the process and its children are quiet; whether they were before the limit.

    Quiet means that their CPU clock stood still for a tenth of a second, and that no thread runs
    or waits for the disk.
    """
    deadline = time.monotonic() + limit_seconds
    known, since = -1.0, 0.0
    while (now := time.monotonic()) < deadline:
        spent = cpu_seconds(pid)
        if spent != known:
            known, since = spent, now
        elif now - since >= _STILL_SECONDS and _rests(pid):
            return True
        time.sleep(_LOOK_SECONDS)
    return False


def _rests(pid: int) -> bool:
    for one in tree(pid):
        with contextlib.suppress(OSError):
            threads = os.listdir(_PROC / f"{one}/task")
            states = [_state(_read(f"{one}/task/{thread}/stat")) for thread in threads]
            if not _RESTING.issuperset(states):
                return False
    return True


def _read(name: str) -> str:
    """A file of the kernel's; nothing where the process has ended."""
    try:
        return (_PROC / name).read_text()
    except OSError:
        return ""


def _after_name(stat: str) -> list[str]:
    """The fields of a stat file from the third on: the name, in brackets, may hold anything."""
    return stat.rpartition(")")[2].split()


def _state(stat: str) -> str:
    fields = _after_name(stat)
    return fields[0] if fields else "X"


def _cpu_ticks(stat: str) -> int:
    fields = _after_name(stat)
    return int(fields[11]) + int(fields[12]) if fields else 0


def _kib(status: str, name: str) -> int:
    lines = status.splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(name + ":")), 0)
