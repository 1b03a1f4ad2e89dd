"""Who may do what, and how much of it: tokens, addresses, ``[tls]`` and ``[limits]``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from forebay.settings.kinds import (
    NO_VALUE_WORD,
    Duration,
    Listed,
    Network,
    OptionalSize,
    PathValue,
    Table,
)
from forebay.tokens import check_token, read_token

Scope = Literal["read", "purge", "all"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_UNIX = "unix:"


class Address(NamedTuple):
    """Where to listen: a host and a port, or with ``path`` a unix socket."""

    host: str
    port: int
    path: Path | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return f"{_UNIX}{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(value: str) -> Address:
    """The address that ``127.0.0.1:8901``, ``[::1]:8901`` or ``unix:/run/forebay.sock`` means.

    Raises ``ValueError`` with the part of a sentence that follows the key's name.
    """
    if value.startswith(_UNIX):
        path = Path(value.removeprefix(_UNIX)).expanduser()
        # What fits into sockaddr_un is bounded by the kernel.
        if path.is_absolute() and len(str(path).encode()) <= 107:
            return Address("", 0, path)
    elif (match := _HOST_AND_PORT.fullmatch(value)) is not None and int(match[2]) <= 65535:
        return Address(match[1].strip("[]"), int(match[2]))
    raise ValueError(
        f"{value!r} is no address to listen on; write it like 127.0.0.1:8901, [::1]:8901 or "
        "unix:/run/forebay/admin.sock"
    )


def _address(value: str) -> str:
    parse_address(value)
    return value


def _token_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(
            f"{value!r} cannot be the name of a token; use letters, digits, '.', '_', '@' and '-'"
        )
    return value


def _usable_token(token: SecretStr) -> SecretStr:
    check_token(token.get_secret_value())
    return token


def _number_or_none(value: object) -> object:
    return None if value == NO_VALUE_WORD else value


UsableToken: TypeAlias = Annotated[SecretStr, AfterValidator(_usable_token)]
ListenAddress: TypeAlias = Annotated[str, AfterValidator(_address)]


class ClientToken(Table):
    """A token with the name by which logs and limits call its holder."""

    name: Annotated[str, AfterValidator(_token_name)]
    token: UsableToken | None = None
    token_file: PathValue | None = None

    @model_validator(mode="after")
    def _one_place(self) -> ClientToken:
        if (self.token is None) == (self.token_file is None):
            raise ValueError("sets one of token and token_file, not both and not neither")
        return self

    def reveal(self) -> str:
        """The token itself; blocks on the disk where it is in a file.

        Raises ``ValueError`` where the file holds no token, ``OSError`` where there is none.
        """
        if self.token is not None:
            return self.token.get_secret_value()
        assert self.token_file is not None  # noqa: S101  the validator has seen to it
        found = read_token(self.token_file)
        if found is None:
            raise FileNotFoundError(f"there is no file {self.token_file} for token {self.name}")
        return found


class AdminToken(ClientToken):
    """A token for the admin side, good for some of it."""

    scopes: Annotated[tuple[Scope, ...], Listed] = Field(default=("read",), min_length=1)


class ClientKeys(Table):
    """Who may download; a part of `[defaults]` and of each mount."""

    client_tokens: tuple[ClientToken, ...] = ()
    """Tokens of which a client must send one, as `{name = "ci", token = "…"}` or with
    `token_file`: as `Authorization: Bearer …`, or as the password of Basic with any user name, as
    pip, npm, apt, git and curl send it from an address like `https://any:TOKEN@cache/…`. Clients
    that use Forebay as a proxy send it as their proxy password. It never goes upstream. Empty
    means that no token is asked for."""

    client_networks: Annotated[tuple[Network, ...], Listed] = ()
    """Networks from which clients may come; with `client_tokens` both must be right. Others get
    403. Empty means from anywhere. (nginx `allow` and `deny`.)"""


class Tls(Table):
    """TLS for the service's own ports. Without it Forebay speaks plain HTTP."""

    certificate: PathValue | None = None
    """The file with the certificate and what leads from it to a root, in PEM. TLS 1.2 and 1.3 are
    spoken. Files that change are read again within ten seconds, and at SIGHUP; a pair that does
    not fit together is reported, and the old one goes on. Bytes are then encrypted in the
    process: hits cost more than over plain HTTP, where the kernel moves them by itself."""

    key: PathValue | None = None
    """The file with the certificate's private key, in PEM, without a password."""

    @model_validator(mode="after")
    def _both_or_none(self) -> Tls:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("needs both certificate and key")
        return self


class Limits(Table):
    """What one client may take, so that none takes everything from the others.

    A client is the token that it sent, or else its address (of IPv6 the first 64 bits). Each
    worker process counts for itself. All of these are off until they are set.
    """

    requests_per_second: Annotated[
        Annotated[float, Field(gt=0)] | None, BeforeValidator(_number_or_none)
    ] = None
    """Requests for downloads that a client may make in a second, in the long run; above it the
    answer is 429 with Retry-After. (nginx `limit_req`.)"""

    request_burst: int = Field(default=100, ge=1)
    """How many requests may come at once before `requests_per_second` bites. Package managers
    send a burst for each installation."""

    max_downloads: Annotated[
        Annotated[int, Field(ge=1)] | None, BeforeValidator(_number_or_none)
    ] = None
    """Downloads of one client that may run at the same time; further ones wait in the order they
    came. (nginx `limit_conn` refuses at once; browsers open 6 connections, aria2 16.)"""

    queue_timeout: Duration = 10.0
    """How long a download may wait for its turn before it is answered with 503 and Retry-After;
    `0s` refuses at once."""

    rate: OptionalSize = None
    """Bytes a second for all downloads of a client together, cold or hot. (nginx `limit_rate` is
    for each connection.)"""
