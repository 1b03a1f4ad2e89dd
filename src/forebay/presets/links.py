"""Links out of an index, led through the mount that served it.

A link that lies under one of the mount's upstreams becomes a path of the mount. One that leads
to another host, or that carries a digest, becomes a *link path* below the mount::

    ~f/https/files.example/packages/a.whl
    ~f/sha256-9f86d0…/https/files.example:8443/packages/a.whl

Everything that is needed to answer it stands in it, so it works after a restart, in another
worker and from a lock file; and a digest in it is checked before the bytes are kept. Only
unreserved characters are used beside what the address has, and escapes are read either way:
pip encodes the colon.

Rewriting opens nothing. A link path is answered only for hosts in the mount's ``link_hosts``;
unless the operator has named the host itself there, and not by a pattern, its address goes through
the same guard as one that a client names (public addresses, allowed hosts and ports, every hop
checked). A link to any other host is left as it was, for the client to follow without us.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote

from forebay.errors import InvalidTarget, TargetForbidden
from forebay.model import Mount
from forebay.presets.contract import Context
from forebay.rules import urls
from forebay.rules.urls import Url

LINK_SEGMENT = "~f"
LINK_DIGESTS = {"sha256": ("sha-256", 64), "sha512": ("sha-512", 128)}
"""Digests that a link path may carry: name there, name in RFC 9530, count of hex digits."""

UNDIGESTED_ENDINGS = (".metadata", ".asc")
"""What indexes say is to be had by adding it to a file's address; the file's digest is not its
own (PEP 658, PEP 503)."""

_LINK = re.compile(
    r"/(?:~|%7e)f/(?:(?P<kind>sha256|sha512)-(?P<hex>[0-9a-f]+)/)?"
    r"(?P<scheme>https?)/(?P<authority>[^/?]+)(?P<rest>/[^?]*)?(?P<query>\?.*)?",
    re.I | re.S,
)

_ENCODED = re.compile("%(?:3a|5b|5d)", re.I)
"""What clients encode of an authority: the colon, and the brackets of IPv6. Anything else that is
encoded there is no authority."""

_WHITE = " \t\n\r\f"


class Link(NamedTuple):
    """What a link path names: an address, and the digest its bytes must have, if any."""

    url: Url
    digest: tuple[str, str] | None


def parse_link(path: str) -> Link | None:
    """The link in a path and query below a mount (octet form); None if it is another path.

    Raises ``InvalidTarget`` where a link's address or digest cannot be read.
    """
    match = _LINK.fullmatch(path)
    if match is None:
        return None
    authority = _ENCODED.sub(lambda found: unquote(found[0]), match["authority"])
    text = f"{match['scheme'].lower()}://{authority}{match['rest'] or '/'}{match['query'] or ''}"
    url = urls.parse(text)
    if match["kind"] is None:
        return Link(url, None)
    algorithm, length = LINK_DIGESTS[match["kind"].lower()]
    if len(match["hex"]) != length:
        raise InvalidTarget(f"The {algorithm} digest in the path has not its {length} digits.")
    if url.path.endswith(UNDIGESTED_ENDINGS):
        return Link(url, None)
    return Link(url, (algorithm, match["hex"].lower()))


def check_link(mount: Mount, url: Url) -> None:
    """Raise ``TargetForbidden`` where the mount does not lead to this host."""
    if not leads_to(mount, url):
        raise TargetForbidden(
            "This mount does not lead to that host; the operator can add it to link_hosts."
        )


def leads_to(mount: Mount, url: Url) -> bool:
    """Whether links to this address are led through the mount."""
    return below_upstream(mount, url) is not None or any(
        pattern == "*"
        or (url.host.endswith(pattern[1:]) if pattern.startswith("*.") else url.host == pattern)
        for pattern in mount.link_hosts
    )


def below_upstream(mount: Mount, url: Url) -> str | None:
    """The address's path below the first upstream that it lies under, without query."""
    for text in mount.upstreams:
        base = urls.from_text(text)
        if url.origin == base.origin and url.path.startswith(base.path):
            return url.path[len(base.path) :]
    return None


def local_link(
    context: Context, reference: str, base: Url, digest: tuple[str, str] | None = None
) -> str | None:
    """What a reference in an index becomes, below the mount and without a leading slash.

    ``reference`` is ordinary text, read from ``base``; its fragment stays. ``digest`` is a pair
    like ``("sha256", hex)``; kinds that a link path does not carry are left out. None where
    the reference is to stay as it is: another scheme, unreadable, or a host we do not lead to.
    """
    plain, mark, fragment = reference.strip(_WHITE).partition("#")
    try:
        url = urls.join(base, plain.encode().decode("latin-1").replace(" ", "%20"))
    except (InvalidTarget, UnicodeEncodeError):
        return None
    if not leads_to(context.mount, url):
        return None
    promised = _promised(digest)
    below = below_upstream(context.mount, url)
    if below is None or promised:
        below = f"{LINK_SEGMENT}/{promised}{url.scheme}/{url.authority}{url.path}"
    query = "" if url.query is None else f"?{url.query}"
    return f"{below}{query}{mark}{fragment}"


def _promised(digest: tuple[str, str] | None) -> str:
    """The digest as a segment with its slash; nothing for what cannot be carried."""
    if digest is None:
        return ""
    kind, value = digest[0].lower(), digest[1].lower()
    if kind not in LINK_DIGESTS or not re.fullmatch(r"[0-9a-f]+", value):
        return ""
    return f"{kind}-{value}/" if len(value) == LINK_DIGESTS[kind][1] else ""
