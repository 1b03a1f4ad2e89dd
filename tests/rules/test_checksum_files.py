"""Where checksum files stand, and what they say of one file and of no other."""

from __future__ import annotations

import hashlib

import pytest

from forebay.rules.checksum_files import (
    ChecksumFile,
    checksum_files,
    digest_in,
    is_checksum_file,
)

HEX = hashlib.sha256(b"the bytes").hexdigest()
LONG = hashlib.sha512(b"the bytes").hexdigest()
OTHER = "00" * 32
PATTERNS = ("{name}.sha256", "SHA256SUMS", "../SHA256SUMS", "sums/{name}.txt")


def test_patterns_are_read_from_the_directory_of_the_object() -> None:
    assert checksum_files("/a/b/f%20g.iso?x=/y", PATTERNS) == (
        ChecksumFile("/a/b/f%20g.iso.sha256", "f g.iso", True),
        ChecksumFile("/a/b/SHA256SUMS", "f g.iso", False),
        ChecksumFile("/a/SHA256SUMS", "b/f g.iso", False),
        ChecksumFile("/a/b/sums/f%20g.iso.txt", "f g.iso", True),
    )


def test_no_pattern_leads_above_the_mount() -> None:
    found = checksum_files("/f.iso", ("../SHA256SUMS", "../../x", "SHA256SUMS"))
    assert [file.path for file in found] == ["/SHA256SUMS"]


@pytest.mark.parametrize("path", ["/", "/a/", "/a/SHA256SUMS", "/a/f.sha256", "/a/f.sha256?x=1"])
def test_directories_and_checksum_files_have_none_of_their_own(path: str) -> None:
    assert checksum_files(path, PATTERNS) == ()


@pytest.mark.parametrize("path", ["/SHA256SUMS.gpg", "/.sha256", "/f.sha256x", "/xSHA256SUMS"])
def test_what_only_looks_like_one_is_none(path: str) -> None:
    assert not is_checksum_file(path, PATTERNS)


def listed(text: str, name: str = "file.iso", path: str = "/SHA256SUMS") -> object:
    return digest_in(text, ChecksumFile(path, name, False))


@pytest.mark.parametrize(
    "text",
    [
        f"{HEX}  file.iso\n",
        f"{HEX} *file.iso\n",
        f"{HEX}\tfile.iso\r\n",
        f"{OTHER}  other.iso\n{HEX.upper()}  ./file.iso\n",
        f"{OTHER}  ./netboot/file.iso\n{HEX}  ./file.iso\n",
        f"SHA256 (file.iso) = {HEX}\n",
        f"MD5 (file.iso) = {'0' * 32}\nSHA256 (file.iso) = {HEX}\n",
        f"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n# file.iso: 9 bytes\n"
        f"SHA256 (file.iso) = {HEX}\n-----BEGIN PGP SIGNATURE-----\n",
    ],
)
def test_a_list_tells_the_digest_of_the_file(text: str) -> None:
    assert listed(text) == ("sha-256", HEX)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not a digest",
        "<html><title>404</title></html>",
        f"{HEX}\n",
        f"{HEX}  other.iso\n",
        f"{HEX}  ./netboot/file.iso\n",
        f"{HEX}  File.iso\n",
        f"MD5 (file.iso) = {HEX}\n",
        f"{HEX[:50]}  file.iso\n",
    ],
)
def test_a_list_of_other_files_tells_nothing(text: str) -> None:
    assert listed(text) is None


def test_a_list_further_up_names_the_file_by_its_directory() -> None:
    text = f"{OTHER}  file.iso\n{HEX}  ./netboot/gtk/file.iso\n"
    assert listed(text, "netboot/gtk/file.iso") == ("sha-256", HEX)


@pytest.mark.parametrize(
    ("path", "digits", "algorithm"),
    [
        ("/SHA512SUMS", LONG, "sha-512"),
        ("/B2SUMS", LONG, "blake2b"),
        ("/f.blake2b", LONG, "blake2b"),
        ("/f.b2", LONG, "blake2b"),
        ("/checksums.txt", LONG, "sha-512"),
        ("/sha256sums.txt", HEX, "sha-256"),
        ("/f.sha1", "0" * 40, "sha"),
        ("/MD5SUMS", "0" * 32, "md5"),
        ("/f.md5", HEX, None),
        ("/SHA256SUMS", LONG, None),
    ],
)
def test_the_name_of_the_list_says_of_which_algorithm_it_is(
    path: str, digits: str, algorithm: str | None
) -> None:
    found = listed(f"{digits}  file.iso\n", path=path)
    assert found == (None if algorithm is None else (algorithm, digits))


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        (f"{HEX}\n", HEX),
        (f"# comment\n{HEX}\n", HEX),
        (f"{HEX}  build/dist/file.iso\n", HEX),
        (f"{HEX}  renamed.iso\n", HEX),
        (f"{OTHER}  other.iso\n{HEX}  file.iso\n", HEX),
        (f"{HEX}\n{OTHER}\n", None),
        (f"{HEX}  a\n{OTHER}  b\n", None),
    ],
)
def test_a_file_beside_one_object_is_about_that_object(text: str, digits: str | None) -> None:
    found = digest_in(text, ChecksumFile("/file.iso.sha256", "file.iso", True))
    assert found == (None if digits is None else ("sha-256", digits))


def test_names_with_backslashes_are_read_as_they_were_written() -> None:
    assert listed(f"\\{HEX}  a\\\\b\\nc\n", "a\\b\nc") == ("sha-256", HEX)
