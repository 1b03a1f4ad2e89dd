"""What the benchmark reads from its servers, and how it empties them."""

from __future__ import annotations

from pathlib import Path

from bench.servers import delete_files, requests_in

STATUS = """Active connections: 3 
server accepts handled requests
 16 17 3141 
Reading: 0 Writing: 1 Waiting: 2 
"""  # noqa: W291 - so nginx writes it


def test_the_requests_are_the_third_number_of_the_status() -> None:
    assert requests_in(STATUS) == 3141


def test_nginx_forgets_its_files_and_keeps_its_directories(tmp_path: Path) -> None:
    deep = tmp_path / "a/bc"
    deep.mkdir(parents=True)
    (deep / "0123").write_bytes(b"x")
    (tmp_path / "4567").write_bytes(b"y")
    delete_files(tmp_path)
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "a", deep]
