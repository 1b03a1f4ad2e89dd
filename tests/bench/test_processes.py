"""What the kernel tells of processes, and when they are quiet."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import processes

STAT = "4242 ({name}) {state} 1 4242 4242 0 -1 4194560 9 0 0 0 {user} {system} 0 0 20 0 1 0 77"


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that stands for /proc, with process 1 and its child 2."""
    monkeypatch.setattr(processes, "_PROC", tmp_path)
    put(tmp_path, 1, name="master", user=100, system=20, kib=3000, children="2 ")
    put(tmp_path, 2, name="a) S (b", user=30, system=1, kib=500)
    return tmp_path


def put(
    proc: Path, pid: int, *, name: str, user: int = 0, system: int = 0, kib: int = 0,
    children: str = "", state: str = "S",
) -> None:  # fmt: skip
    thread = proc / f"{pid}/task/{pid}"
    thread.mkdir(parents=True, exist_ok=True)
    stat = STAT.format(name=name, state=state, user=user, system=system)
    (proc / f"{pid}/stat").write_text(stat)
    (thread / "stat").write_text(stat)
    (thread / "children").write_text(children)
    (proc / f"{pid}/status").write_text(f"Name:\tx\nVmRSS:\t9999 kB\nRssAnon:\t{kib} kB\n")


def test_cpu_seconds_are_those_of_user_and_system_of_all_processes(kernel: Path) -> None:
    assert processes.cpu_seconds(1) == 151 / os.sysconf("SC_CLK_TCK")


def test_memory_is_what_is_no_files(kernel: Path) -> None:
    assert processes.anonymous_bytes(1) == 3500 * 1024


def test_a_process_that_has_ended_counts_nothing(kernel: Path) -> None:
    assert processes.cpu_seconds(77) == 0
    assert processes.anonymous_bytes(77) == 0


@pytest.mark.parametrize("state", ["R", "D"])
def test_who_runs_or_waits_for_the_disk_is_not_quiet_though_the_clock_stands(
    kernel: Path, state: str
) -> None:
    put(kernel, 2, name="b", state=state)
    assert not processes.settled(1, limit_seconds=0.3)


def test_processes_that_sleep_are_quiet(kernel: Path) -> None:
    assert processes.settled(1, limit_seconds=60)


def test_a_real_process_is_quiet_when_it_sleeps_and_not_while_it_computes() -> None:
    computing = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    sleeping = subprocess.Popen(["sleep", "1000"])
    try:
        assert not processes.settled(computing.pid, limit_seconds=0.3)
        assert processes.settled(sleeping.pid, limit_seconds=60)
    finally:
        for process in (computing, sleeping):
            process.kill()
            process.wait()
