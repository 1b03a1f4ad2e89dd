"""Kinds of values that settings are made of: each parses, checks and prints itself.

A validator raises ``ValueError`` with the part of a sentence that follows the key's name.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from forebay.units import format_duration, format_size, parse_duration, parse_size

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HOST_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?")
_CHECKSUM_PATH = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})+")
_UNSAFE_IN_URL = re.compile(r"[^!-~]|[\"<>\\^`{|}]")

NO_VALUE_WORD = "none"
"""TOML has no null; this word stands for it where a setting may be without a value."""

NEVER_FORWARDED = frozenset(
    {
        "accept-encoding", "cache-control", "connection", "content-length", "expect",
        "forwarded", "host", "if-match", "if-modified-since", "if-none-match", "if-range",
        "if-unmodified-since", "keep-alive", "pragma", "proxy-authenticate",
        "proxy-authorization", "proxy-connection", "range", "te", "trailer",
        "transfer-encoding", "upgrade", "via",
    }
)  # fmt: skip
"""Request fields that Forebay answers or writes itself, or that end at each hop."""


class Table(BaseModel):
    """Base of every table: frozen, and a key that is not known is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def _or_none(value: Any) -> Any:
    return None if isinstance(value, str) and value.strip().lower() == NO_VALUE_WORD else value


def _listed(value: Any) -> Any:
    """A lone string where a list is expected is a list of one."""
    return (value,) if isinstance(value, str) else value


def _as_path(value: Any) -> Any:
    return Path(value).expanduser() if isinstance(value, str) else value


def _as_network(value: Any) -> Any:
    try:
        return ipaddress.ip_network(value)
    except ValueError:
        raise ValueError(
            f"{value!r} is not a network; write it like 10.0.0.0/8, 192.168.7.9 or fd00::/8"
        ) from None


def _host_pattern(value: str) -> str:
    host = value.strip().lower().removesuffix(".")
    try:
        return str(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        labels = host.removeprefix("*.").split(".")
    if not all(_HOST_LABEL.fullmatch(label) for label in labels):
        raise ValueError(
            f"{value!r} is not a host; write a name without scheme, port or path, "
            "such as example.org, or *.example.org for every name below it"
        )
    return host


def _host(value: str) -> str:
    if value.strip().startswith("*"):
        raise ValueError(f"{value!r} stands for many hosts; name each one")
    return _host_pattern(value)


def _field_name(value: str) -> str:
    if not _TOKEN.fullmatch(value):
        raise ValueError(f"{value!r} is not the name of a header field")
    return value.lower()


def _forwardable(value: str) -> str:
    if value == "authorization":
        raise ValueError("'authorization' goes upstream by a mount's share, not by forward")
    if value in NEVER_FORWARDED:
        raise ValueError(f"{value!r} is never forwarded: Forebay answers or writes it itself")
    return value


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"{value!r} is not a regular expression: {error}") from None
    return value


def _checksum_pattern(value: str) -> str:
    *segments, name = value.split("/")
    written_out = name.replace("{name}", "x")
    while segments[:1] == [".."]:
        del segments[0]
    if (
        not written_out
        or name == "{name}"
        or {"", ".", ".."} & {*segments, written_out}
        or not _CHECKSUM_PATH.fullmatch("/".join([*segments, written_out]))
    ):
        raise ValueError(
            f"{value!r} does not name a file beside an object; write it like SHA256SUMS, "
            "../SHA256SUMS or {name}.sha256"
        )
    return value


def _base_url(value: str) -> str:
    """An absolute http or https URL that ends with a slash, its scheme and host lower-case."""
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{value!r} is not a URL: {error}") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{value!r} is not an absolute http or https URL")
    if _UNSAFE_IN_URL.search(value):
        raise ValueError(f"{value!r} holds characters that a URL must percent-encode")
    if parts.username is not None or parts.password is not None:
        raise ValueError(
            "a URL with a user name or password in it is not accepted; a mount's token_file, "
            "token_variable or netrc hold credentials"
        )
    if "?" in value or "#" in value:
        raise ValueError(f"{value!r} has a query or fragment; a base URL has none")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    authority = host if port is None else f"{host}:{port}"
    return f"{parts.scheme}://{authority}{parts.path.rstrip('/')}/"


class Listen(NamedTuple):
    """An address to listen on; an empty ``host`` is the server's own."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def _as_listen(value: Any) -> Any:
    match = re.fullmatch(r"(?:(\[[0-9A-Fa-f:.]+\]|[^:\[\]]*):)?([0-9]{1,5})", str(value))
    if match is None or not 0 < int(match[2]) < 65536:
        raise ValueError(f"{value!r} is no address to listen on; write it like :5000 or [::1]:5000")
    return Listen((match[1] or "").strip("[]"), int(match[2]))


ListenAddress: TypeAlias = Annotated[
    Listen, BeforeValidator(_as_listen), PlainSerializer(str, when_used="json")
]
"""Where a mount listens by itself, written like ``:5000`` or ``127.0.0.1:5000``."""

Size: TypeAlias = Annotated[
    int, BeforeValidator(parse_size), PlainSerializer(format_size, when_used="json")
]
"""Bytes, written like ``500G`` or ``64KiB``."""

Duration: TypeAlias = Annotated[
    float, BeforeValidator(parse_duration), PlainSerializer(format_duration, when_used="json")
]
"""Seconds, written like ``30d`` or ``1h30m``."""

OptionalSize: TypeAlias = Annotated[Size | None, BeforeValidator(_or_none)]
OptionalDuration: TypeAlias = Annotated[Duration | None, BeforeValidator(_or_none)]

PathValue: TypeAlias = Annotated[Path, BeforeValidator(_as_path)]
Network: TypeAlias = Annotated[
    ipaddress.IPv4Network | ipaddress.IPv6Network, BeforeValidator(_as_network)
]
Host: TypeAlias = Annotated[str, AfterValidator(_host)]
HostPattern: TypeAlias = Annotated[str, AfterValidator(_host_pattern)]
FieldName: TypeAlias = Annotated[str, AfterValidator(_field_name)]
ForwardedField: TypeAlias = Annotated[FieldName, AfterValidator(_forwardable)]
Pattern: TypeAlias = Annotated[str, AfterValidator(_pattern)]
ChecksumPattern: TypeAlias = Annotated[str, AfterValidator(_checksum_pattern)]
BaseUrl: TypeAlias = Annotated[str, AfterValidator(_base_url)]

Listed = BeforeValidator(_listed)
"""Marks a list that may be written as a lone string."""
