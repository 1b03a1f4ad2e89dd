"""One download to standard output: what has been written cannot be taken back.

A connection that breaks off is gone on with where it broke, as long as the file is provably the
same; the digest is computed as the bytes go by, and a wrong one is told by the exit status.
"""

from __future__ import annotations

import hashlib
import time
from typing import BinaryIO

from forebay.cli.answers import extent, pieces, request_fields, strong_etag
from forebay.cli.patience import DownloadError, Patience, WrongDigestError
from forebay.cli.progress import Meter
from forebay.cli.remote import Remote, RemoteError
from forebay.units import describe_size


class Piping:
    """Brings ``address`` to ``out``."""

    def __init__(
        self,
        remote: Remote,
        address: str,
        out: BinaryIO,
        sha256: str | None = None,
        *,
        first_pause_seconds: float = 0.5,
    ) -> None:
        self._remote = remote
        self._address = address
        self._out = out
        self._expected = sha256
        self._patience = Patience(first_pause_seconds)
        self._digest = hashlib.sha256()
        self._etag: str | None = None
        self.written_bytes = 0

    def run(self, meter: Meter) -> str:
        """Write all of it and say in a phrase what was done.

        Raises ``DownloadError``, ``RemoteError`` or ``OSError``, with a part of it written.
        """
        started = time.monotonic()
        while True:
            before = self.written_bytes
            try:
                if self._fetch(meter):
                    break
                reason = "the connection broke off"
            except RemoteError as error:
                reason = self._patience.reason_of(error)
            self._patience.rest(reason, has_progressed=self.written_bytes > before)
        self._out.flush()
        found = self._digest.hexdigest()
        if self._expected not in {None, found}:
            raise WrongDigestError(
                f"The SHA-256 is {found} and not {self._expected}: do not use what was written."
            )
        seconds = max(time.monotonic() - started, 0.001)
        rate = describe_size(self.written_bytes / seconds)
        verified = ", SHA-256 verified" if self._expected else ""
        return f"{describe_size(self.written_bytes)} in {seconds:.1f} s ({rate}/s){verified}"

    def _fetch(self, meter: Meter) -> bool:
        fields = request_fields(self.written_bytes, self._etag)
        with self._remote.open(self._address, fields) as response:
            self._patience.note_answer()
            start, length_bytes = extent(response, self.written_bytes)
            if start != self.written_bytes:
                raise DownloadError(
                    "The connection broke off, and the rest cannot be had alone: what was written "
                    "is not the whole file."
                )
            self._etag = strong_etag(response)
            meter.at(start, length_bytes)
            for piece in pieces(response):
                self._out.write(piece)
                self._digest.update(piece)
                self.written_bytes += len(piece)
                meter.at(self.written_bytes, length_bytes)
        # Where no length was told, the last chunk of a chunked body has proved the end.
        return length_bytes is None or self.written_bytes == length_bytes
