"""Tokens in files; the admin token and other secrets of our own are made once, in a file that only
its owner may read.

Plain functions over paths, so that the service and the commands on the same machine find
the same token without knowing each other.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

TOKEN_FILE_NAME = "admin-token"  # noqa: S105 - a file's name, no secret
CREDENTIAL_KEY_NAME = "credential-key"
"""Beside the admin token, where a mount tells clients' credentials apart; the same for all
workers, and after a restart."""
_TOKEN_BYTES = 32
_MAX_FILE_BYTES = 4096


def check_token(token: str) -> str:
    """The token itself, if it can travel in an Authorization field (RFC 6750 §2.1).

    Raises ``ValueError`` with a sentence that does not repeat the token.
    """
    if not token:
        raise ValueError("the token is empty")
    if not all("!" <= character <= "~" for character in token):
        raise ValueError("the token may hold only visible ASCII characters, and no spaces")
    return token


def read_token(path: Path) -> str | None:
    """The token in this file, or None where there is no file.

    Space around the token is ignored. Raises ``ValueError`` where the file holds no token,
    ``OSError`` where it cannot be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES)
    except FileNotFoundError:
        return None
    try:
        return check_token(content.decode("ascii", "replace").strip())
    except ValueError as error:
        raise ValueError(f"{path} holds no usable token: {error}") from None


def read_or_make_token(path: Path) -> str:
    """The token in this file; where there is no file, a new token is put there, mode 0600.

    Several processes may call this at once: all get the one token that is then in the file,
    and none ever reads half of it. Missing directories are made. Raises as ``read_token``.
    """
    existing = read_token(path)
    if existing is not None:
        return existing
    path.parent.mkdir(parents=True, exist_ok=True)
    # A link of a finished file appears whole or not at all, and fails if another was first.
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(_TOKEN_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        except OSError:
            # A file system without hard links; the loser of a race is read again below.
            os.rename(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    token = read_token(path)
    if token is None:
        raise FileNotFoundError(f"{path} vanished while it was being made")
    return token
