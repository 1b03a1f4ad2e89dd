"""From a request to the upstream URL it names, and to the key that equal requests share.

Step 1 of the way of a request. The ways in, in the order they are tried:

1. ``url=`` given beside the request (``/-/fetch?url=``);
2. a mount that claims the authority of the request (``Mount.hosts``) or the port at which it
   came in (``Mount.port``);
3. absolute-form, from a client that takes us for a proxy (RFC 9112 §3.2.2);
4. URL in path: ``/https://host/p?q``, also ``/https:/host/p`` (servers in front collapse
   slashes) and ``/https%3A/host%3A8443/p`` (pip encodes the colons);
5. a mount whose prefix the path has, the longest first, so that the prefix ``/`` takes the rest.

1, 3 and 4 belong to the built-in mount ``"url"`` and give the same key for the same URL.
Nothing from a client reaches upstream unless it selects what is stored: that is URL and
``forwarded``.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from urllib.parse import unquote_to_bytes

from forebay.errors import InvalidTarget, UnknownMount
from forebay.model import Fields, Mount, Request, Target
from forebay.rules import urls
from forebay.rules.urls import Url

URL_MOUNT = "url"
"""The name of the built-in mount for URLs that requests name in full."""

_URL_IN_PATH = re.compile(r"/+(https?)(?::|%3a)/+(.*)", re.I | re.S)
_OTHER_SCHEME = re.compile(r"/+(?!https?[:%])[a-z][a-z0-9+.-]*(?::|%3a)//", re.I)
_ENCODED_COLON = re.compile("%3a", re.I)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SECRET_PARAMETERS = _words(
    """
    access_token accesstoken api_key apikey auth auth_token authorization awsaccesskeyid
    client_secret credential googleaccessid hdnea hdnts hmac id_token jwt key key-pair-id
    keypairid oss-access-key-id ossaccesskeyid passwd password policy private_token
    refresh_token secret session sessionid sig sign signature token verify x-amz-credential
    x-amz-security-token x-amz-signature x-goog-credential x-goog-signature
    x-oss-credential x-oss-security-token x-oss-signature
    """
)
"""Query parameters, lower-case, whose values are credentials or signatures."""

SECRET_WORDS = (
    "apikey",
    "api_key",
    "api-key",
    "credential",
    "passw",
    "secret",
    "signature",
    "token",
)
"""What in a name tells the same of parameters that nobody has listed."""

NEVER_FORWARDED = _words(
    """
    accept-encoding cache-control connection content-length expect forwarded host if-match
    if-modified-since if-none-match if-range if-unmodified-since keep-alive pragma
    proxy-authenticate proxy-authorization proxy-connection range te trailer
    transfer-encoding upgrade via
    """
)
"""Fields that a mount cannot forward: they belong to one connection or to one request."""

_DIGESTS_IN_VARIANT = re.compile(r"\+[0-9a-f]+")
_DIGEST_HEX_LENGTHS = {"md5": 32, "sha": 40, "sha-256": 64, "sha-512": 128}


def resolve(
    request: Request,
    mounts: Sequence[Mount],
    *,
    url: str | None = None,
    expected_digests: Sequence[tuple[str, str]] = (),
) -> Target:
    """The target of a request.

    ``url`` is ordinary text and comes before what the request line names.
    ``expected_digests`` are pairs of algorithm (RFC 9530 §5) and hex; like ``forwarded`` they
    make a variant under the key of the URL, so that whoever asks with them shares no transfer
    with who asks otherwise, and a purge of the URL takes all. Raises ``InvalidTarget`` for what
    cannot be read, ``UnknownMount`` for what is not served here.
    """
    mount, mirrors, below = _locate(request, mounts, url)
    forwarded = forwarded_fields(request.fields, mount.forward)
    digests = tuple(_digest(name, value) for name, value in expected_digests)
    return Target(
        key=_key(mount, mirrors[0]),
        name=masked(mirrors[0]),
        urls=tuple(str(mirror) for mirror in mirrors),
        mount=mount,
        path=below,
        forwarded=forwarded,
        expected_digests=digests,
        variant=_variant(forwarded, digests),
    )


def _locate(
    request: Request, mounts: Sequence[Mount], url: str | None
) -> tuple[Mount, tuple[Url, ...], str]:
    """Mount, URL at each mirror, and path with query below the mount."""
    if url is not None:
        return _at_url(mounts, urls.from_text(url))
    path, query = request.raw_path.partition("#")[0], request.raw_query
    claimed = claiming(request, mounts)
    if claimed is not None:
        return _at_mount(claimed, urls.clean_path(path)[1:], query)
    suffix = "" if query is None else f"?{query}"
    if request.absolute:
        return _at_url(mounts, urls.parse(f"{request.scheme}://{request.authority}{path}{suffix}"))
    in_path = _URL_IN_PATH.fullmatch(path)
    if in_path is not None and _url_mount(mounts) is not None:
        scheme, rest = in_path.groups()
        authority, slash, tail = rest.partition("/")
        authority = _ENCODED_COLON.sub(":", authority)
        return _at_url(mounts, urls.parse(f"{scheme}://{authority}{slash}{tail}{suffix}"))
    return _by_prefix(mounts, path, query)


def _by_prefix(
    mounts: Sequence[Mount], path: str, query: str | None
) -> tuple[Mount, tuple[Url, ...], str]:
    _check_octets(path, query)
    # Dot segments are resolved before the prefix is looked at: no path leaves its mount.
    clean = urls.clean_path(path)
    for mount in sorted(mounts, key=lambda mount: len(mount.prefix), reverse=True):
        if mount.upstreams and (clean + "/").startswith(mount.prefix):
            return _at_mount(mount, clean[len(mount.prefix) :], query)
    if _OTHER_SCHEME.match(path):
        raise InvalidTarget("Only http:// and https:// addresses can be fetched.")
    raise UnknownMount(
        "Nothing is served under this path; use the prefix of a mount, or /https://host/path."
        + _nearest(mounts, clean)
    )


def _nearest(mounts: Sequence[Mount], path: str) -> str:
    """A sentence with the mount that may have been meant. Bounded: anybody may ask, often."""
    asked = "/" + path[1:].partition("/")[0][:40] + "/"
    known = [mount.prefix for mount in mounts[:40] if mount.upstreams and len(mount.prefix) <= 42]
    close = difflib.get_close_matches(asked, known, n=1, cutoff=0.8)
    return f" {close[0]} is served." if close else ""


def _at_url(mounts: Sequence[Mount], url: Url) -> tuple[Mount, tuple[Url, ...], str]:
    mount = _url_mount(mounts)
    if mount is None:
        raise UnknownMount("Addresses in full are not served here; use the prefix of a mount.")
    return mount, (url,), url.request_target


def _at_mount(mount: Mount, rest: str, query: str | None) -> tuple[Mount, tuple[Url, ...], str]:
    _check_octets(rest, query)
    _check_stays(rest)
    mirrors = tuple(urls.from_text(base).below(rest, query) for base in mount.upstreams)
    path, sent = urls.clean_path(rest), mirrors[0].query
    return mount, mirrors, path if sent is None else f"{path}?{sent}"


def _check_octets(path: str, query: str | None) -> None:
    """Let the strict reader refuse what may not stand in a path or query."""
    urls.parse(f"http://mount/{path}?{query or ''}")


def _check_stays(rest: str) -> None:
    """Refuse a path below a mount that some servers read as leading out of the upstream's base:
    those that decode slashes and backslashes before they resolve dots, and those that take
    ``..;`` for ``..``. Everything else that is encoded is upstream's affair."""
    if ".." not in rest and "%2e" not in rest.lower():
        return
    for segment in rest.split("/"):
        pieces = re.split(rb"[/\\]", unquote_to_bytes(segment))
        # A segment that is nothing but dots is resolved here (``urls.clean_path``).
        if (len(pieces) > 1 or pieces[0] != b"..") and any(
            piece.partition(b";")[0] == b".." for piece in pieces
        ):
            raise InvalidTarget(
                "The path has an encoded '..' in it that leads out of its mount for some servers; "
                "write it plainly."
            )


def _url_mount(mounts: Sequence[Mount]) -> Mount | None:
    return next((m for m in mounts if m.name == URL_MOUNT and not m.upstreams), None)


def claiming(request: Request, mounts: Sequence[Mount]) -> Mount | None:
    """The mount to which every path of this request's origin belongs; None where there is none."""
    return next((mount for mount in mounts if claims(mount, request)), None)


def claims(mount: Mount, request: Request) -> bool:
    """Whether the mount has the request's origin for its own: by the port at which it came in,
    by host alone, or by host and port."""
    if mount.port is not None and mount.port == request.port:
        return bool(mount.upstreams)
    authority = request.authority
    if not mount.hosts or not mount.upstreams:
        return False
    spelled = authority.lower()
    host = re.sub(r":[0-9]*$", "", spelled).removesuffix(".")
    return not {claim.lower() for claim in mount.hosts}.isdisjoint({host, spelled})


def with_digests(target: Target, digests: Sequence[tuple[str, str]]) -> Target:
    """The target with these digests expected, and no others; a variant of its own."""
    expected = tuple(_digest(name, value) for name, value in digests)
    variant = _variant(target.forwarded, expected)
    return replace(target, expected_digests=expected, variant=variant)


def forwarded_fields(fields: Fields, names: Sequence[str]) -> Fields:
    """The request fields that go upstream, in the one form that the key also has.

    Accept is left out where it says nothing (absent, or any type will do); otherwise its
    members are lower-cased and sorted over all lines, since clients send them in any order
    (RFC 9110 §12.5.1). Other fields are trimmed.
    """
    lines: list[tuple[str, str]] = []
    for name in sorted({name.lower() for name in names} - NEVER_FORWARDED):
        value = fields.combined(name)
        if value is None:
            continue
        shaped = _accept(value) if name == "accept" else value.strip(" \t")
        if shaped:
            lines.append((name, shaped))
    return Fields(lines)


def _accept(value: str) -> str:
    members = {
        re.sub(r"[ \t]*([;=])[ \t]*", r"\1", m.strip(" \t").lower()) for m in value.split(",")
    }
    members.discard("")
    if any(member.partition(";")[0] == "*/*" for member in members):
        return ""
    return ", ".join(sorted(members))


def _key(mount: Mount, url: Url) -> str:
    query = _without(url.query, mount.policy.drop_query)
    path = urls.fold_escapes(url.path)
    target = path if query is None else f"{path}?{urls.fold_escapes(query)}"
    parts = [mount.name, url.origin, target]
    # JSON keeps the parts apart whatever characters are in them.
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def variant_without_digests(variant: str) -> str:
    """The variant of a target that is like that of this ``Target.variant`` but for the digests
    that it expects."""
    return _DIGESTS_IN_VARIANT.sub("", variant, count=1)


def _variant(forwarded: Fields, digests: Sequence[tuple[str, str]]) -> str:
    return _hashed(forwarded) + (f"+{_hashed(sorted(digests))}" if digests else "")


def _hashed(pairs: Iterable[tuple[str, str]]) -> str:
    parts = tuple(pairs)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32] if parts else ""


def _without(query: str | None, dropped: Sequence[str]) -> str | None:
    """The query less the parameters of these names; None when nothing is left of it."""
    if query is None or "*" in dropped:
        return None
    if not dropped:
        return query
    kept = [part for part in query.split("&") if _parameter(part) not in dropped]
    return "&".join(kept) if kept else None


def _parameter(part: str) -> str:
    return unquote_to_bytes(part.partition("=")[0].replace("+", " ")).decode("utf-8", "replace")


def masked(url: Url) -> str:
    """The URL for people to see: values of credentials and signatures are ``***``."""
    if url.query is None:
        return str(url)
    parts = [
        f"{part.partition('=')[0]}=***" if _is_secret(_parameter(part)) and "=" in part else part
        for part in url.query.split("&")
    ]
    return f"{url.origin}{url.path}?{'&'.join(parts)}"


def masked_text(url: str) -> str:
    """As ``masked``, for an address that has been read before."""
    return masked(urls.from_text(url))


def _is_secret(name: str) -> bool:
    plain = name.strip().lower()
    return plain in SECRET_PARAMETERS or any(word in plain for word in SECRET_WORDS)


def _digest(name: str, value: str) -> tuple[str, str]:
    algorithm, digits = name.lower(), value.strip().lower()
    length = _DIGEST_HEX_LENGTHS.get(algorithm, len(digits))
    if not re.fullmatch(r"(?:[0-9a-f]{2})+", digits) or len(digits) != length:
        raise InvalidTarget(f"The expected {algorithm} digest is not hexadecimal of its length.")
    return algorithm, digits
