"""One download into a file: go on where an earlier one stopped, retry, verify, put in place.

Beside ``FILE`` stand ``FILE.part`` with the bytes so far and ``FILE.part.json`` with the
validator they belong to; without a strong validator nothing is resumed (RFC 9110 §13.1.5).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from http.client import HTTPException, HTTPResponse, IncompleteRead
from pathlib import Path

from forebay.cli.progress import Meter
from forebay.cli.remote import Remote, RemoteError
from forebay.units import describe_size

_CHUNK_BYTES = 256 * 1024
_MAX_TRIES = 5
"""Tries in a row without one new byte before the download is given up."""
_WORTH_TRYING_AGAIN = frozenset({429, 500, 502, 503, 504})
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


class DownloadError(Exception):
    """The download failed for good; the message is for a person."""


@dataclass(frozen=True, slots=True)
class _Note:
    """What the bytes in the part file belong to."""

    url: str
    etag: str | None
    length_bytes: int | None


class Download:
    """Brings ``address`` into ``target``; ``url`` is what the person asked for."""

    def __init__(
        self,
        remote: Remote,
        url: str,
        address: str,
        target: Path,
        sha256: str | None = None,
        *,
        first_pause_seconds: float = 0.5,
    ) -> None:
        self._first_pause_seconds = first_pause_seconds
        self.part = target.with_name(target.name + ".part")
        self._note_file = target.with_name(target.name + ".part.json")
        self._remote = remote
        self._url = url
        self._address = address
        self._target = target
        self._expected = sha256
        self._cache_status: str | None = None

    @property
    def kept_bytes(self) -> int:
        """How much of the file is on disk."""
        try:
            return self.part.stat().st_size
        except FileNotFoundError:
            return 0

    def run(self, meter: Meter) -> str:
        """Download all of it and say in a phrase what was done.

        Raises ``DownloadError``, ``RemoteError`` or ``OSError``; what has come stays on disk,
        unless its digest is wrong.
        """
        started = time.monotonic()
        had_bytes = self._resumable()[0]
        self._fetch_all(meter)
        seconds = time.monotonic() - started
        if self._expected is not None:
            self._verify(self._expected)
        os.replace(self.part, self._target)
        self._note_file.unlink(missing_ok=True)
        return self._tell(had_bytes, seconds)

    def _verify(self, expected: str) -> None:
        """Read the file as it is on disk; a wrong one goes, so that the next try starts anew."""
        digest = _sha256(self.part)
        if digest != expected:
            self._forget()
            raise DownloadError(
                f"The SHA-256 is {digest} and not {expected}: nothing was written. Either the "
                "number or the file at the source is wrong."
            )

    def _tell(self, had_bytes: int, seconds: float) -> str:
        size = self._target.stat().st_size
        rate = describe_size((size - had_bytes) / max(seconds, 0.001))
        resumed = f", {describe_size(had_bytes)} of it from before" if had_bytes else ""
        verified = ", SHA-256 verified" if self._expected else ""
        status = f"\n  Cache-Status: {self._cache_status}" if self._cache_status else ""
        return f"{describe_size(size)} in {seconds:.1f} s ({rate}/s){resumed}{verified}{status}"

    def _fetch_all(self, meter: Meter) -> None:
        tries_left = _MAX_TRIES
        pause_seconds = self._first_pause_seconds
        while True:
            before = self.kept_bytes
            try:
                if self._fetch(meter):
                    return
                reason = "the connection broke off"
            except RemoteError as error:
                if error.status is not None and error.status not in _WORTH_TRYING_AGAIN:
                    raise
                reason = str(error)
            if self.kept_bytes > before:
                tries_left, pause_seconds = _MAX_TRIES, self._first_pause_seconds
            tries_left -= 1
            if not tries_left:
                raise DownloadError(self._give_up(reason))
            time.sleep(pause_seconds)
            pause_seconds *= 2

    def _give_up(self, reason: str) -> str:
        told = f"Given up after {_MAX_TRIES} tries without progress: {reason.rstrip('.')}."
        if not self.kept_bytes:
            return told
        kept = f"{describe_size(self.kept_bytes)} are kept in {self.part}"
        return f"{told} {kept}; the same command goes on from there."

    def _fetch(self, meter: Meter) -> bool:
        """One request, and what comes of it to disk; true when the file is then whole."""
        have_bytes, etag = self._resumable()
        fields = {"Accept-Encoding": "identity"}
        if have_bytes and etag:
            fields |= {"Range": f"bytes={have_bytes}-", "If-Range": etag}
        try:
            response = self._remote.open(self._address, fields)
        except RemoteError as error:
            if error.status == 416 and have_bytes:
                # The file ends before our first missing byte: ours is whole, or of another file.
                if have_bytes == self._note_length():
                    return True
                self._forget()
                return False
            raise
        with response:
            return self._take(response, have_bytes, meter)

    def _take(self, response: HTTPResponse, have_bytes: int, meter: Meter) -> bool:
        self._cache_status = response.headers.get("Cache-Status")
        start, length_bytes = _extent(response)
        if start != (have_bytes if response.status == 206 else 0):
            raise DownloadError("The service sent another range than it was asked for.")
        self._write_note(response, length_bytes)
        with self.part.open("ab" if start else "wb") as file:
            position = start
            meter.at(position, length_bytes)
            for piece in _pieces(response):
                file.write(piece)
                position += len(piece)
                meter.at(position, length_bytes)
        # Where no length was told, the last chunk of a chunked body has proved the end.
        return length_bytes is None or position == length_bytes

    def _resumable(self) -> tuple[int, str | None]:
        """The bytes on disk and the validator that they may be continued with; (0, None) if not."""
        note = self._read_note()
        if note is None or note.url != self._url or note.etag is None:
            return 0, None
        return self.kept_bytes, note.etag

    def _note_length(self) -> int | None:
        note = self._read_note()
        return None if note is None else note.length_bytes

    def _read_note(self) -> _Note | None:
        try:
            return _Note(**json.loads(self._note_file.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def _write_note(self, response: HTTPResponse, length_bytes: int | None) -> None:
        etag = response.headers.get("ETag")
        strong = etag if etag and not etag.startswith("W/") else None
        note = _Note(self._url, strong, length_bytes)
        self._note_file.write_text(json.dumps(asdict(note)), "utf-8")

    def _forget(self) -> None:
        for file in (self.part, self._note_file):
            file.unlink(missing_ok=True)


def _extent(response: HTTPResponse) -> tuple[int, int | None]:
    """Where the body's first byte belongs, and the complete length where it is told."""
    if response.status != 206:
        return 0, response.length
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if match is None or match[1] is None:
        raise DownloadError("The service sent a part of the file without saying which.")
    return int(match[1]), None if match[3] == "*" else int(match[3])


def _pieces(response: HTTPResponse) -> Iterator[bytes]:
    """The body; a connection that breaks off raises ``RemoteError`` after the bytes that came.

    A body shorter than its Content-Length ends without a word: the caller counts.
    """
    try:
        while piece := response.read(_CHUNK_BYTES):
            yield piece
    except IncompleteRead as error:
        yield error.partial
        raise RemoteError("the connection broke off") from None
    except (OSError, HTTPException) as error:
        raise RemoteError(f"the connection broke off: {error}") from None


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
