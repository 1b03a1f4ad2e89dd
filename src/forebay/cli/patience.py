"""How often a download is tried again, and when it is given up."""

from __future__ import annotations

import time

from forebay.cli.remote import RemoteError

MAX_TRIES = 5
"""Tries in a row without one new byte before the download is given up."""
_WORTH_TRYING_AGAIN = frozenset({429, 500, 502, 503, 504})


class DownloadError(Exception):
    """The download failed for good; the message is for a person."""


class WrongDigestError(DownloadError):
    """The file is whole, and not the one that was asked for."""


class Patience:
    """Counts tries, and rests between them: longer each time, until something comes."""

    def __init__(self, first_pause_seconds: float) -> None:
        self._first_pause_seconds = first_pause_seconds
        self._pause_seconds = first_pause_seconds
        self._tries_left = MAX_TRIES
        self._has_been_answered = False

    def note_answer(self) -> None:
        """There is a service: from now on its absence is a pause of its own, and waited for."""
        self._has_been_answered = True

    def reason_of(self, error: RemoteError) -> str:
        """Why a try failed. Raises the error where another would meet with the same."""
        refused = error.status is not None and error.status not in _WORTH_TRYING_AGAIN
        if refused or (error.is_absent and not self._has_been_answered):
            raise error
        return str(error)

    def rest(self, reason: str, *, has_progressed: bool) -> None:
        """Wait for the next try. Raises ``DownloadError`` where there is none."""
        if has_progressed:
            self._tries_left, self._pause_seconds = MAX_TRIES, self._first_pause_seconds
        self._tries_left -= 1
        if not self._tries_left:
            told = reason.rstrip(".")
            raise DownloadError(f"Given up after {MAX_TRIES} tries without progress: {told}.")
        time.sleep(self._pause_seconds)
        self._pause_seconds *= 2
