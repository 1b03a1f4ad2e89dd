"""Absolute http and https URLs, read strictly and written one way (RFC 3986, RFC 9110 §4.2).

The address that is checked must be the address that is fetched, so what libraries disagree
on is refused or settled here, before any of them sees it: userinfo, odd numbers for IPv4,
look-alikes of dots, zone ids, backslashes, control characters, ports that are not numbers.

Text is in *octet form*: each character is one octet of the request line (Latin-1), as in
``model.Request``. Paths and queries keep their octets; only dot segments are resolved, and
what may not stand in a request line is percent-encoded. ``from_text`` takes ordinary text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from urllib.parse import urljoin

import idna

from forebay.errors import InvalidTarget

MAX_URL_BYTES = 8192
"""Longer addresses are refused; most servers take no longer request line (nginx 8 KiB,
Apache httpd 8,190 octets), and RFC 9110 §4.1 asks for at least 8,000."""

DEFAULT_PORTS = {"http": 80, "https": 443}

_FORBIDDEN = re.compile(r"[\x00-\x20\x7f\\]")
_SHAPE = re.compile(
    r"(?P<scheme>[a-z]+)://(?P<authority>[^/?]*)(?P<path>[^?]*)(?P<query>\?.*)?", re.I
)
_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^\[\]:]*)(?::(?P<port>[0-9]{0,5}))?")
_LABEL = re.compile(r"[a-z0-9_-]{1,63}")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_DOTS = frozenset("\u3002\uff0e\uff61")
_DOT_SEGMENT = re.compile(r"(?:\.|%2e){1,2}", re.I)
_STRAY_PERCENT = re.compile(r"%(?![0-9a-f]{2})", re.I)
_ESCAPE = re.compile(r"%[0-9a-f]{2}", re.I)
_NON_ASCII = re.compile(r"[\x80-\xff]")


@dataclass(frozen=True, slots=True)
class Url:
    """An absolute URL in normal form.

    ``host`` is lower-case ASCII: a name without a final dot, a dotted quad, or an IPv6 address
    without its brackets. ``path`` begins with ``/``. ``query`` is None where there is no ``?``.
    """

    scheme: str
    host: str
    port: int
    path: str
    query: str | None = None

    @property
    def authority(self) -> str:
        """Host and, unless it is the scheme's own, port: the Host field (RFC 9110 §7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme and authority (RFC 6454 §6.2)."""
        return f"{self.scheme}://{self.authority}"

    @property
    def request_target(self) -> str:
        """Path and query: origin-form (RFC 9112 §3.2.1)."""
        return self.path if self.query is None else f"{self.path}?{self.query}"

    def __str__(self) -> str:
        return self.origin + self.request_target

    def below(self, rest: str, query: str | None) -> Url:
        """The URL with ``rest``, in octet form and without a leading slash, after this path."""
        return replace(self, path=clean_path(self.path + rest), query=_clean_query(query))


@lru_cache(maxsize=512)
def parse(text: str) -> Url:
    """The URL that ``text``, in octet form, spells. A fragment is dropped.

    Raises ``InvalidTarget`` for anything that is not a plain absolute http or https URL.
    """
    if len(text) > MAX_URL_BYTES:
        raise InvalidTarget(f"The address is longer than {MAX_URL_BYTES} bytes; use a shorter one.")
    if _FORBIDDEN.search(text):
        raise InvalidTarget(
            "The address has a space, a control character or a backslash; percent-encode it."
        )
    match = _SHAPE.fullmatch(text.partition("#")[0])
    if match is None or match["scheme"].lower() not in DEFAULT_PORTS:
        raise InvalidTarget("The address must begin with http:// or https:// and name a host.")
    scheme = match["scheme"].lower()
    host, port = _read_authority(match["authority"], DEFAULT_PORTS[scheme])
    query = match["query"]
    return Url(
        scheme, host, port, clean_path(match["path"]), _clean_query(query[1:] if query else None)
    )


def from_text(text: str) -> Url:
    """The URL that ordinary text spells, with any characters in it as UTF-8."""
    try:
        return parse(text.encode().decode("latin-1"))
    except UnicodeEncodeError:
        raise InvalidTarget("The address is not valid Unicode; percent-encode it.") from None


def join(base: Url, reference: str) -> Url:
    """The URL that ``reference`` (octet form, as in Location) names, seen from ``base``.

    RFC 3986 §5.2. Raises ``InvalidTarget`` when that is not an http or https URL.
    """
    # urljoin drops some control characters without a word; they must be refused instead.
    if _FORBIDDEN.search(reference) or len(reference) > MAX_URL_BYTES:
        raise InvalidTarget("The address redirected to cannot be read.")
    try:
        joined = urljoin(str(base), reference)
    except ValueError:
        raise InvalidTarget("The address redirected to cannot be read.") from None
    return parse(joined)


def clean_path(path: str) -> str:
    """The path with dot segments resolved, also where a dot is spelled ``%2e``.

    RFC 3986 §5.2.4. Empty segments stay, and so does ``%2f``, which separates nothing.
    """
    kept: list[str] = []
    segments = path.split("/")[1:] if path.startswith("/") else path.split("/")
    for number, segment in enumerate(segments, start=1):
        last = number == len(segments)
        if not _DOT_SEGMENT.fullmatch(segment):
            kept.append(_encode(segment))
            continue
        if len(segment.lower().replace("%2e", ".")) == 2 and kept:
            kept.pop()
        if last:
            kept.append("")
    return "/" + "/".join(kept)


def fold_escapes(text: str) -> str:
    """The text with the hex digits of every percent-escape in upper case (RFC 3986 §6.2.2.1)."""
    return _ESCAPE.sub(lambda match: match[0].upper(), text)


def host_of(authority: str) -> str:
    """The normal form of the host in a Host field. Raises ``InvalidTarget``."""
    return _read_authority(authority, 80)[0]


def _clean_query(query: str | None) -> str | None:
    return None if query is None else _encode(query)


def _encode(text: str) -> str:
    """Percent-encode what may not be sent: octets beyond ASCII, and a lone ``%`` as itself."""
    text = _STRAY_PERCENT.sub("%25", text)
    return _NON_ASCII.sub(lambda match: f"%{ord(match[0]):02X}", text)


@lru_cache(maxsize=256)
def _read_authority(authority: str, default_port: int) -> tuple[str, int]:
    if "@" in authority:
        raise InvalidTarget("The address has a user name or password in it; leave that out.")
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise InvalidTarget("The host or port in the address cannot be read.")
    port = int(match["port"]) if match["port"] else default_port
    if not 1 <= port <= 65535:
        raise InvalidTarget("The port in the address is not between 1 and 65535.")
    host = match["host"]
    if host.startswith("["):
        return _read_ipv6(host[1:-1]), port
    return _read_name(host), port


def _read_ipv6(text: str) -> str:
    try:
        address = IPv6Address(text)
    except AddressValueError:
        raise InvalidTarget("The IPv6 address in the address cannot be read.") from None
    if address.scope_id is not None:
        raise InvalidTarget("The IPv6 address has a zone, which means nothing here.")
    return str(address)


def _read_name(text: str) -> str:
    """A name or dotted quad in normal form; other numeric spellings of IPv4 are refused.

    A name whose last label is a number is what some resolvers read as an IPv4 address
    (decimal, octal, hex, short), so it must be a dotted quad exactly.
    """
    host = (text if text.isascii() else _to_ascii(text)).lower().removesuffix(".")
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise InvalidTarget("The host name in the address cannot be read.")
    if not _NUMBER.fullmatch(labels[-1]):
        return host
    try:
        return str(IPv4Address(host))
    except AddressValueError:
        raise InvalidTarget("Write an IPv4 address as four decimal numbers.") from None


def _to_ascii(text: str) -> str:
    """The IDNA form of an international name (RFC 5891 §4) given in UTF-8 octets."""
    try:
        name = text.encode("latin-1").decode()
        if _DOTS.intersection(name):
            raise InvalidTarget("The host name has a character that only looks like a dot.")
        return idna.encode(name, uts46=True).decode()
    except (UnicodeError, idna.IDNAError):
        raise InvalidTarget("The host name in the address is not a valid name.") from None
