"""The admin token is made once, is private from the first moment, and is never half read."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from forebay.tokens import check_token, read_or_make_token, read_token


def test_a_made_token_is_long_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "admin-token"
    token = read_or_make_token(path)
    assert len(token) >= 40
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == ["admin-token"], "no temporary stays behind"


def test_a_token_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "admin-token"
    assert read_or_make_token(path) == read_or_make_token(path) == read_token(path)


def test_many_starters_agree_on_one_token(tmp_path: Path) -> None:
    path = tmp_path / "admin-token"
    barrier, tokens = threading.Barrier(8), []

    def start() -> None:
        barrier.wait()
        tokens.append(read_or_make_token(path))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tokens) == 8
    assert len(set(tokens)) == 1


def test_a_file_system_without_hard_links_gets_its_token_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    path = tmp_path / "admin-token"
    assert read_or_make_token(path) == read_token(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_no_file_means_no_token(tmp_path: Path) -> None:
    assert read_token(tmp_path / "nothing") is None


def test_space_around_a_token_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("  abc-123\r\n\n")
    assert read_token(path) == "abc-123"


@pytest.mark.parametrize("content", ["", "\n", "two words", "täglich", "a\x00b"])
def test_a_file_that_holds_no_token_is_refused_without_telling_its_content(
    tmp_path: Path, content: str
) -> None:
    path = tmp_path / "token"
    path.write_text(content)
    with pytest.raises(ValueError, match="no usable token") as caught:
        read_or_make_token(path)
    assert not content.strip() or content not in str(caught.value)
    assert path.read_text() == content, "what an operator put there is not overwritten"


@pytest.mark.parametrize("token", ["", "a b", "a\tb", "ä", "a\nb"])
def test_what_an_authorization_field_cannot_carry_is_no_token(token: str) -> None:
    with pytest.raises(ValueError, match="token"):
        check_token(token)
