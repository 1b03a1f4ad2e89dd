"""The files: writing them, locking them, measuring them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from forebay.errors import EntryDamaged, StoreError
from forebay.store import blobs
from forebay.store.blobs import Blobs
from tests.store.support import BLOCK, file_size_limit, pattern


@pytest.fixture
def files(tmp_path: Path) -> Blobs:
    made = Blobs(tmp_path / "blobs")
    made.prepare()
    return made


def test_pieces_of_any_number_and_size_are_written_in_order(files: Blobs) -> None:
    body = pattern(3 * blobs.PIECES_PER_CALL)
    pieces = [body[at : at + 1] for at in range(len(body))]
    pieces[7:7] = [b"", b""]
    fileno = files.create("aaaa")
    assert blobs.write_pieces(fileno, 5, pieces) == blobs.rounded_up(len(body) + 5)
    assert os.pread(fileno, 1 << 20, 0) == bytes(5) + body
    blobs.release(fileno)


@pytest.mark.parametrize("limit", [0, 1, 4, 5, 9, 10])
def test_a_write_that_is_cut_short_goes_on_until_the_error(files: Blobs, limit: int) -> None:
    fileno = files.create("aaaa")
    with file_size_limit(limit), pytest.raises(OSError, match="too large"):
        blobs.write_pieces(fileno, 0, [b"abcd", b"e", b"fghij", b"k"])
    assert os.pread(fileno, 100, 0) == b"abcdefghijk"[:limit]
    blobs.release(fileno)


@pytest.mark.parametrize("entry_id", ["", "abc", "../../etc/x", "aa/bb", "a" * 65, "aa\0aaa", ".."])
def test_an_id_that_could_lead_elsewhere_names_no_file(files: Blobs, entry_id: str) -> None:
    with pytest.raises(ValueError, match="entry id"):
        files.create(entry_id)
    with pytest.raises(EntryDamaged):
        files.open_for_reading(entry_id, 0, exactly=False)
    with pytest.raises(EntryDamaged):
        files.open_for_writing(entry_id)
    files.remove(entry_id)
    assert not files.is_being_written(entry_id)
    assert not files.remove_leftover(entry_id, lambda _: False)


def test_a_blob_has_one_writer_and_tells_who_asks(files: Blobs) -> None:
    fileno = files.create("aaaa")
    assert files.is_being_written("aaaa")
    with pytest.raises(StoreError, match="writing this entry"):
        files.open_for_writing("aaaa")
    reader = blobs.reader_of(fileno)
    blobs.release(fileno)
    assert not files.is_being_written("aaaa")
    blobs.release(files.open_for_writing("aaaa"))
    os.close(reader)


def test_a_reader_of_an_unlinked_blob_reads_and_cannot_write(files: Blobs) -> None:
    fileno = files.create("aaaa")
    files.remove("aaaa")
    reader = blobs.reader_of(fileno)
    blobs.write_pieces(fileno, 0, [b"late"])
    assert os.pread(reader, 10, 0) == b"late"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(reader, b"x")
    os.close(reader)
    blobs.release(fileno)


@pytest.mark.parametrize(
    ("covered", "exactly", "is_good"),
    [(0, False, True), (9, False, True), (10, True, True), (9, True, False), (11, False, False)],
)
def test_a_blob_is_read_only_when_it_has_what_is_claimed(
    files: Blobs, covered: int, exactly: bool, is_good: bool
) -> None:
    fileno = files.create("aaaa")
    blobs.write_pieces(fileno, 0, [bytes(10)])
    blobs.release(fileno)
    if is_good:
        os.close(files.open_for_reading("aaaa", covered, exactly=exactly))
    else:
        with pytest.raises(EntryDamaged, match="length"):
            files.open_for_reading("aaaa", covered, exactly=exactly)


def test_a_leftover_goes_unless_it_is_claimed_or_written(files: Blobs) -> None:
    fileno = files.create("aaaa")
    assert not files.remove_leftover("aaaa", lambda _: False)
    blobs.release(fileno)
    assert not files.remove_leftover("aaaa", lambda asked: asked == "aaaa")
    assert files.remove_leftover("aaaa", lambda _: False)
    assert not files.remove_leftover("aaaa", lambda _: False)
    assert files.in_shard("aa") == {}


def test_measures_count_blocks_and_not_length(files: Blobs) -> None:
    fileno = files.create("aaaa")
    blobs.write_pieces(fileno, 1 << 30, [b"x"])
    blobs.sync(fileno)
    files.sync_name("aaaa")
    measured = files.in_shard("aa")["aaaa"]
    assert measured == blobs.measure(fileno)
    assert measured.length_bytes == (1 << 30) + 1
    assert measured.size_bytes == BLOCK
    blobs.release(fileno)


def test_a_blob_is_created_again_after_its_directory_was_deleted(tmp_path: Path) -> None:
    files = Blobs(tmp_path / "never made")
    assert files.shards() == []
    assert files.in_shard("aa") == {}
    blobs.release(files.create("aaaa"))
    assert files.shards() == ["aa"]


def test_a_probe_leaves_nothing(files: Blobs, tmp_path: Path) -> None:
    before = sorted((tmp_path / "blobs").iterdir())
    files.probe()
    with file_size_limit(100), pytest.raises(OSError, match="too large"):
        files.probe()
    assert sorted((tmp_path / "blobs").iterdir()) == before
