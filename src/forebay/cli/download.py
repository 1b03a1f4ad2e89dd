"""One download into a file: go on where an earlier one stopped, retry, verify, put in place.

Beside ``FILE`` stand ``FILE.part`` with the bytes so far and ``FILE.part.json`` with the
validator they belong to; without a strong validator nothing is resumed (RFC 9110 §13.1.5).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from dataclasses import asdict, dataclass
from http.client import HTTPResponse
from pathlib import Path

from forebay.cli.answers import extent, pieces, request_fields, strong_etag
from forebay.cli.patience import DownloadError, Patience, WrongDigestError
from forebay.cli.progress import Meter
from forebay.cli.remote import Remote, RemoteError
from forebay.units import describe_size


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
        self._patience = Patience(first_pause_seconds)
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
        digest = sha256_of(self.part)
        if digest != expected:
            self._forget()
            raise WrongDigestError(
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
        while True:
            before = self.kept_bytes
            try:
                if self._fetch(meter):
                    return
                reason = "the connection broke off"
            except RemoteError as error:
                reason = self._patience.reason_of(error)
            try:
                self._patience.rest(reason, has_progressed=self.kept_bytes > before)
            except DownloadError as error:
                raise DownloadError(f"{error} {self.what_is_kept}".strip()) from None

    @property
    def what_is_kept(self) -> str:
        """A sentence about the bytes so far; empty where there are none."""
        if not self.kept_bytes:
            return ""
        kept = f"{describe_size(self.kept_bytes)} are kept in {self.part}"
        return f"{kept}; the same command goes on from there."

    def _fetch(self, meter: Meter) -> bool:
        """One request, and what comes of it to disk; true when the file is then whole."""
        have_bytes, etag = self._resumable()
        try:
            response = self._remote.open(self._address, request_fields(have_bytes, etag))
        except RemoteError as error:
            if error.status == 416 and have_bytes:
                # The file ends before our first missing byte: ours is whole, or of another file.
                if have_bytes == self._note_length():
                    return True
                self._forget()
                return False
            raise
        with response:
            self._patience.note_answer()
            return self._take(response, have_bytes, meter)

    def _take(self, response: HTTPResponse, have_bytes: int, meter: Meter) -> bool:
        self._cache_status = response.headers.get("Cache-Status")
        start, length_bytes = extent(response, have_bytes)
        if length_bytes is not None:
            self._check_room(length_bytes - start)
        self._write_note(response, length_bytes)
        with self.part.open("ab" if start else "wb") as file:
            position = start
            meter.at(position, length_bytes)
            for piece in pieces(response):
                file.write(piece)
                position += len(piece)
                meter.at(position, length_bytes)
        # Where no length was told, the last chunk of a chunked body has proved the end.
        return length_bytes is None or position == length_bytes

    def _check_room(self, needed_bytes: int) -> None:
        """Better said before an hour of downloading than after it."""
        there = shutil.disk_usage(self.part.parent).free
        if not self._resumable()[0]:
            there += self.kept_bytes  # these are overwritten
        if there < needed_bytes:
            raise DownloadError(
                f"{self._target} needs {describe_size(needed_bytes)} more, and its disk has "
                f"{describe_size(there)} free. {self.what_is_kept}".strip()
            )

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
        note = _Note(self._url, strong_etag(response), length_bytes)
        self._note_file.write_text(json.dumps(asdict(note)), "utf-8")

    def _forget(self) -> None:
        for file in (self.part, self._note_file):
            file.unlink(missing_ok=True)


def sha256_of(file: Path) -> str:
    """Its digest in lower-case hex. Raises ``OSError``."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
