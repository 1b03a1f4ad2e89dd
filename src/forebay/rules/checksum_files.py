"""Files of checksums beside the files they are about: where they stand, and what they say.

An operator names them by patterns relative to an object's directory: ``SHA256SUMS``,
``{name}.sha256``, ``../SHA256SUMS``. The text is that of coreutils' ``*sum`` programs, or BSD's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from forebay.rules import urls
from forebay.rules.digest_fields import SIZES, Digest

NAME: Final = "{name}"
"""Stands in a pattern for the last segment of the object's path."""

_UP: Final = "../"
# The words in the name of a checksum file that say of which algorithm all in it is.
_WORDS: Final = (
    (re.compile(r"sha-?512"), "sha-512"),
    (re.compile(r"sha-?256"), "sha-256"),
    (re.compile(r"sha-?1(?![0-9])"), "sha"),
    (re.compile(r"md5"), "md5"),
    (re.compile(r"blake2b?(?![0-9a-z])|(?<![0-9a-z])b2(?![0-9])"), "blake2b"),
)
_BY_HEX_LENGTH: Final = {32: "md5", 40: "sha", 64: "sha-256", 128: "sha-512"}
# Digest, blank, mode ("*" for binary), name. A backslash before it all says that the name has some.
_SUM_LINE: Final = re.compile(r"(\\?)([0-9A-Fa-f]{32,128})(?:[ \t]+[* ]?(.+))?")
_BSD_LINE: Final = re.compile(r"([A-Za-z0-9-]+) ?\((.+)\) ?= ?([0-9A-Fa-f]{32,128})")
_BSD_NAMES: Final = {
    "md5": "md5", "sha1": "sha", "sha256": "sha-256", "sha512": "sha-512", "blake2b": "blake2b",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ChecksumFile:
    """A file that may tell the digest of one object.

    ``path`` is its own, below the mount and percent-encoded; ``listed_name`` is what it calls
    the object. ``is_own`` says that it stands beside this object alone, and so is about it even
    where it names it otherwise, or not at all.
    """

    path: str
    listed_name: str
    is_own: bool


def checksum_files(path: str, patterns: Sequence[str]) -> tuple[ChecksumFile, ...]:
    """Where the digest of the object with this path (``Target.path``) may be told, in order.

    None for a directory, and none for what is itself such a file.
    """
    path = path.partition("?")[0]
    *directories, name = path.split("/")[1:]
    if not name or is_checksum_file(path, patterns):
        return ()
    found = []
    for pattern in patterns:
        ups = _ups(pattern)
        if ups > len(directories):
            continue  # above the mount
        directory = "/".join(directories)
        beside = urls.clean_path(f"{directory}/{pattern.replace(NAME, name)}")
        listed = "/".join([*directories[len(directories) - ups :], name])
        found.append(ChecksumFile(beside, _text(listed), NAME in pattern))
    return tuple(found)


def is_checksum_file(path: str, patterns: Sequence[str]) -> bool:
    """Whether a path ends as one of the patterns does: such a file has none beside it."""
    name = path.partition("?")[0].rpartition("/")[2]
    return any(_pattern_of(pattern).fullmatch(name) for pattern in patterns)


def digest_in(text: str, file: ChecksumFile) -> Digest | None:
    """The digest of the object in this text, or None where it is not told.

    A list counts only for the very path that it names: one of the same name in another directory
    is another file.
    """
    known = _algorithm_of(file.path.rpartition("/")[2])
    lines = list(_lines(text, known))
    told = [digest for name, digest in lines if name and _same(name, file.listed_name)]
    if told:
        return max(told, key=lambda digest: len(digest[1]))  # the strongest
    if not file.is_own:
        return None
    digests = {digest for name, digest in lines if name is None} or {d for _, d in lines}
    return digests.pop() if len(digests) == 1 else None


def _lines(text: str, known: str | None) -> Iterator[tuple[str | None, Digest]]:
    """Each name in the text, None where there is none, and its digest."""
    for line in text.splitlines():
        stripped = line.strip()
        bsd = _BSD_LINE.fullmatch(stripped)
        if bsd is not None:
            algorithm = _BSD_NAMES.get(bsd[1].lower().replace("-", ""))
            name, digits = bsd[2], bsd[3]
        elif (plain := _SUM_LINE.fullmatch(stripped)) is not None:
            digits, name = plain[2], plain[3]
            algorithm = known or _BY_HEX_LENGTH.get(len(digits))
            if name is not None and plain[1]:
                name = name.replace(r"\n", "\n").replace(r"\\", "\\")
        else:
            continue
        if algorithm is not None and len(digits) == 2 * SIZES[algorithm]:
            yield name, (algorithm, digits.lower())


def _same(name: str, listed_name: str) -> bool:
    return name.strip().removeprefix("./") == listed_name


def _algorithm_of(name: str) -> str | None:
    lowered = name.lower()
    return next((algorithm for word, algorithm in _WORDS if word.search(lowered)), None)


def _ups(pattern: str) -> int:
    """How many directories above the object the pattern leads."""
    ups = 0
    while pattern.startswith(_UP):
        pattern, ups = pattern.removeprefix(_UP), ups + 1
    return ups


def _pattern_of(pattern: str) -> re.Pattern[str]:
    last = pattern.rpartition("/")[2]
    return re.compile(".+".join(re.escape(piece) for piece in last.split(NAME)))


def _text(path: str) -> str:
    return unquote_to_bytes(path).decode("utf-8", "surrogateescape")
