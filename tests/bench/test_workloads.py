"""What is measured, and what the page about it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.__main__ import WORKLOADS
from bench.load import Load
from bench.servers import Program, Server, sliced
from bench.workloads import fresh_key

PAGE = (Path(__file__).parents[2] / "docs/performance.md").read_text("utf-8")


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_page_says_what_a_workload_shows(name: str) -> None:
    assert f"\n| {name} | " in PAGE


def test_no_two_keys_are_the_same() -> None:
    assert len({fresh_key() for _ in range(100)}) == 100


def test_slices_are_the_same_server_at_other_paths(tmp_path: Path) -> None:
    forgotten: list[Load] = []
    program = Program(["true"], tmp_path)
    program.process.wait()
    nginx = Server("nginx", 8080, program, "", {"far": "http://x/far"}, forgotten.append)
    slices = sliced(nginx)
    assert slices.bases == {"far": "http://127.0.0.1:8080/slice/far"}
    assert slices.pid == nginx.pid
    slices.forget(Load("http://x/"))
    assert forgotten == [Load("http://x/")]
