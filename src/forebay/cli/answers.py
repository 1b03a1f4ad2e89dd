"""What the service answers to a download: which bytes, of what, and the bytes themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse, IncompleteRead

from forebay.cli.patience import DownloadError
from forebay.cli.remote import RemoteError

_CHUNK_BYTES = 256 * 1024
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


def request_fields(have_bytes: int, etag: str | None) -> dict[str, str]:
    """Asks for the whole, or for what is missing of the file with this strong validator."""
    fields = {"Accept-Encoding": "identity"}
    if have_bytes and etag:
        fields |= {"Range": f"bytes={have_bytes}-", "If-Range": etag}
    return fields


def strong_etag(response: HTTPResponse) -> str | None:
    """The validator under which bytes may be joined; None where there is no strong one."""
    etag = response.headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else None


def extent(response: HTTPResponse, have_bytes: int) -> tuple[int, int | None]:
    """Where the body's first byte belongs, and the complete length where it is told.

    Raises ``DownloadError`` for a part that was not asked for.
    """
    if response.status != 206:
        return 0, response.length
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if match is None or match[1] is None:
        raise DownloadError("The service sent a part of the file without saying which.")
    if int(match[1]) != have_bytes:
        raise DownloadError("The service sent another range than it was asked for.")
    return have_bytes, None if match[3] == "*" else int(match[3])


def pieces(response: HTTPResponse) -> Iterator[bytes]:
    """The body; a connection that breaks off raises ``RemoteError`` after the bytes that came.

    A body shorter than its Content-Length ends without a word: the caller counts.
    """
    try:
        # What has come is worth more than a full buffer: a slow file shows that it moves.
        while piece := response.read1(_CHUNK_BYTES):
            yield piece
    except IncompleteRead as error:
        yield error.partial
        raise RemoteError("the connection broke off") from None
    except (OSError, HTTPException) as error:
        raise RemoteError(f"the connection broke off: {error}") from None
