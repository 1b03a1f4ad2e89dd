"""``/-/fetch?url=…``: the way in for URLs that no path can carry unharmed."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote_from_bytes, unquote_to_bytes

from forebay.errors import InvalidTarget, RequestError
from forebay.web import digests

_ASCII_KEPT = bytes(range(0x80)).decode("ascii")


@dataclass(frozen=True, slots=True)
class FetchQuery:
    """What the query of ``/-/fetch`` asks for."""

    url: str
    expected_digests: digests.Digests


def parse_fetch(raw_query: str | None) -> FetchQuery:
    """Read the query, percent-decoding each value once.

    A ``+`` stays a plus, for it is common in file names and a blank is in no URL. Octets beyond
    ASCII that come out of the decoding are encoded again. Raises ``RequestError`` for unknown
    or repeated parameters, which nearly always come from a URL that was not encoded.
    """
    url: str | None = None
    expected: list[tuple[str, str]] = []
    for pair in (raw_query or "").split("&"):
        name, _, value = pair.partition("=")
        if name == "url" and url is None:
            url = _decode_url(value)
        elif name in digests.PARAMETERS and name not in dict(expected):
            expected.append((name, value))
        elif pair:
            raise RequestError(
                "Only url and one each of sha256, sha512, sha1, md5, blake2b are known here; "
                "percent-encode the URL's own '&' as %26."
            )
    if not url:
        raise InvalidTarget("Name the address to fetch: /-/fetch?url=https%3A%2F%2Fhost%2Fpath.")
    return FetchQuery(url, digests.from_parameters(expected))


def _decode_url(value: str) -> str:
    return quote_from_bytes(unquote_to_bytes(value.encode("latin-1")), safe=_ASCII_KEPT)
