"""TLS by certificate files, which are read again when they change.

A context that connections are already made with takes a new certificate for those to come, so
that nothing has to be restarted. What is new is tried on a context of its own first: a renewal may
be seen half done, and a broken pair must not end a service that works.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from pathlib import Path

logger = logging.getLogger("forebay.web")

LOOK_EVERY_SECONDS = 5.0


class Certificates:
    """The pair of files, and the one context that serves with them."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Raises ``ValueError`` with a sentence where the files are no pair, ``OSError`` where
        they cannot be read."""
        self._certificate = certificate
        self._key = key
        self._seen = self._look()
        self.context = self._fresh()

    async def keep_up(self) -> None:
        """Look at the files now and then, for ever; blocks only to read a pair that is new."""
        while True:
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            if await asyncio.to_thread(self.have_changed):
                # Not in the thread: handshakes in the loop use the context meanwhile.
                self.reload()

    def have_changed(self) -> bool:
        """Whether there is another pair of files than at the last look."""
        try:
            seen = self._look()
        except OSError:
            return False  # Being replaced; the next look will find them.
        before, self._seen = self._seen, seen
        return seen != before

    def reload(self) -> bool:
        """Serve what is in the files now; False, with a line in the log, where that cannot be."""
        try:
            self._fresh()
            self.context.load_cert_chain(self._certificate, self._key)
        except (OSError, ValueError) as error:
            logger.error("the old certificate stays in use: %s", error)
            return False
        logger.info("the certificate %s was read again", self._certificate)
        return True

    def _fresh(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        for file in (self._certificate, self._key):
            file.open("rb").close()  # ssl does not say which of the two it could not read.
        try:
            # A password would be asked for on a terminal that nobody looks at.
            context.load_cert_chain(self._certificate, self._key, password=_no_password)
        except ssl.SSLError as error:
            raise ValueError(
                f"{self._certificate} and {self._key} are not a certificate and its key in PEM "
                f"({error.reason or 'unreadable'})"
            ) from None
        return context

    def _look(self) -> tuple[tuple[int, int, int], ...]:
        found = (os.stat(file) for file in (self._certificate, self._key))
        return tuple((one.st_ino, one.st_mtime_ns, one.st_size) for one in found)


def _no_password() -> str:
    raise ValueError("the key has a password; Forebay needs one without")
