"""What a redirect leads to, and what may go there with it (RFC 9110 §15.4)."""

from __future__ import annotations

from forebay.errors import InvalidTarget, UpstreamMisbehaved
from forebay.model import Fields, Head
from forebay.rules import urls
from forebay.rules.fields import is_secret
from forebay.rules.urls import Url

MAX_REDIRECTS = 10
"""curl follows 50, browsers 20, httpx 20; a chain longer than ten is a loop or a mistake."""

FOLLOWED = frozenset({301, 302, 303, 307, 308})


def is_followed(method: str, head: Head) -> bool:
    """Whether this answer is a redirect that is followed here, and not handed on.

    Only for GET and HEAD: repeating anything else elsewhere is for the client to decide.
    """
    return method in {"GET", "HEAD"} and head.status in FOLLOWED and "location" in head.fields


def next_url(base: Url, head: Head) -> Url:
    """The URL that the redirect names.

    Raises ``UpstreamMisbehaved`` when it cannot be read, or leads from https down to http.
    """
    locations = set(head.fields.get_all("location"))
    if len(locations) != 1:
        raise UpstreamMisbehaved("The upstream redirects to several addresses at once.")
    # Sloppy but common: spaces within Location, which browsers encode.
    reference = locations.pop().strip(" \t").replace(" ", "%20")
    try:
        url = urls.join(base, reference)
    except InvalidTarget:
        raise UpstreamMisbehaved(
            "The upstream redirects to an address that is not usable."
        ) from None
    if base.scheme == "https" and url.scheme == "http":
        raise UpstreamMisbehaved("The upstream redirects from https to http, which is not safe.")
    return url


def fields_for(fields: Fields, base: Url, url: Url) -> Fields:
    """The request fields for the next hop: nothing that looks like a secret leaves its origin."""
    if url.origin == base.origin:
        return fields
    return Fields((name, value) for name, value in fields if not is_secret(name))
