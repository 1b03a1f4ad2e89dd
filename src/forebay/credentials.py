"""A mount's own credentials: what Forebay shows to that mount's upstreams.

They come from a file with a token, from a variable of the environment, or from a netrc file,
and are read again now and then, since tokens are changed while services run. Nothing of them is
logged, listed or stored; ``str`` and ``repr`` of what is here tell nothing.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import netrc
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

REREAD_SECONDS = 30.0
"""How old what was read may be. Kubernetes brings a changed secret within a minute or two, and
tokens for registries are good for an hour."""
_MAX_FILE_BYTES = 64 * 1024
_SENDABLE = re.compile(r"[\x21-\x7e]+")

log = logging.getLogger("forebay.credentials")


class OwnCredential:
    """The value of Authorization for one mount, as its source has it now.

    ``read`` gives the value, may block, and raises ``OSError`` or ``ValueError``; it is called
    once here, so that what cannot work is known at start. ``clock`` is monotonic, in seconds.
    """

    def __init__(self, read: Callable[[], str], clock: Callable[[], float]) -> None:
        self._read = read
        self._clock = clock
        self._value = read()
        self._read_time = clock()

    async def value(self) -> str:
        """The value to send. Where the source cannot be read any more, the last one stays."""
        if self._clock() - self._read_time >= REREAD_SECONDS:
            self._read_time = self._clock()
            try:
                self._value = await asyncio.to_thread(self._read)
            except (OSError, ValueError) as trouble:
                log.warning("a mount's credentials stay as they were: %s", trouble)
        return self._value


def from_file(path: Path, username: str | None) -> str:
    """Authorization with the token in this file. Raises ``OSError`` and ``ValueError``."""
    with path.open("rb") as file:
        content = file.read(_MAX_FILE_BYTES)
    return _authorization(content.decode("utf-8", "replace").strip(), username, str(path))


def from_variable(name: str, username: str | None) -> str:
    """Authorization with the token in this variable of the environment. Raises ``ValueError``."""
    return _authorization(os.environ.get(name, "").strip(), username, f"the variable {name}")


def from_netrc(path: Path, upstreams: Sequence[str]) -> str:
    """Authorization with the login that this netrc file has for the hosts of all these upstreams.

    Raises ``OSError`` where it cannot be read, ``ValueError`` where it has nothing for one of
    them, or not the same for each: the mirrors of a mount are shown one thing.
    """
    try:
        hosts = netrc.netrc(path)
    except netrc.NetrcParseError as error:
        raise ValueError(f"{path} is no netrc file: {error.msg}, line {error.lineno}") from None
    found: set[str] = set()
    for upstream in upstreams:
        host = urlsplit(upstream).hostname or ""
        login = hosts.authenticators(host)
        if login is None:
            raise ValueError(f"{path} has no entry for {host}")
        found.add(_basic(login[0], login[2] or "", str(path)))
    if len(found) != 1:
        raise ValueError(
            f"{path} has different entries for mirrors of one mount; give each a mount of its own"
        )
    return found.pop()


def _authorization(token: str, username: str | None, source: str) -> str:
    if not _SENDABLE.fullmatch(token):
        raise ValueError(f"{source} holds no token that can be sent: visible ASCII, without spaces")
    return f"Bearer {token}" if username is None else _basic(username, token, source)


def _basic(username: str, password: str, source: str) -> str:
    """Basic credentials (RFC 7617 §2)."""
    if ":" in username or not (username or password):
        raise ValueError(f"the user name for {source} is empty or has a colon")
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode("ascii")
