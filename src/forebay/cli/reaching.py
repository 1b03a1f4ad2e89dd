"""How the commands that talk to a Forebay begin: its settings, its address, its token."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from forebay.cli.common import fail, overrides_from, server_url, settings_or_fail, token_or_fail
from forebay.cli.remote import Remote, RemoteError
from forebay.settings import Settings


def settings_of(config: Path | None, cache_dir: Path | None) -> Settings:
    """The settings by the options that these commands share; where they are wrong, end."""
    return settings_or_fail(config, overrides_from(cache__dir=cache_dir))


def reach(settings: Settings, server: str | None) -> Remote:
    """The Forebay that a command is for, with the admin token if there is one at hand."""
    try:
        token = settings.admin_token(create=False)
    except (OSError, ValueError):
        token = None
    secret = None if token is None else token.get_secret_value()
    return Remote(server_url(settings, server), secret)


def reach_as_admin(settings: Settings, server: str | None) -> Remote:
    """The same for a command that is nothing without the token; where there is none, end."""
    return Remote(server_url(settings, server), token_or_fail(settings))


def ask_or_fail(remote: Remote, path: str, body: Mapping[str, Any] | None = None) -> Any:
    """JSON from an admin address (``Remote.ask``); where there is none, say why and end."""
    try:
        return remote.ask(path, body)
    except RemoteError as error:
        fail(str(error))
