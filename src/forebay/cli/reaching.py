"""How the commands that talk to a Forebay begin: its settings, its address, its token."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from forebay.cli.common import (
    fail,
    overrides_from,
    reachable_url,
    scheme_of,
    server_url,
    settings_or_fail,
    token_or_fail,
)
from forebay.cli.remote import Remote, RemoteError
from forebay.settings import Settings
from forebay.settings.access import parse_address
from forebay.tokens import check_token


def settings_of(config: Path | None, cache_dir: Path | None) -> Settings:
    """The settings by the options that these commands share; where they are wrong, end."""
    return settings_or_fail(config, overrides_from(cache__dir=cache_dir))


def reach(settings: Settings, server: str | None, *, client_token: str | None = None) -> Remote:
    """The Forebay that a command is for, with the admin token if there is one at hand."""
    try:
        token = settings.admin_token(create=False)
    except (OSError, ValueError):
        token = None
    secret = None if token is None else token.get_secret_value()
    return _remote(settings, server, secret, client_token)


def client_token_or_fail(token: str | None) -> str | None:
    """The client token, without the space around it; where it cannot be one, say so and end."""
    if token is None or not token.strip():
        return None
    try:
        return check_token(token.strip())
    except ValueError as error:
        fail(f"This is no client token: {error}.", status=2)


def reach_as_admin(settings: Settings, server: str | None) -> Remote:
    """The admin side, for a command that is nothing without the token; where there is none, end."""
    token = token_or_fail(settings)
    if server is not None or settings.admin.listen is None:
        return _remote(settings, server, token)
    address, tls = parse_address(settings.admin.listen), _own_certificate(settings)
    if address.path is None:
        base = reachable_url(address.host, address.port, scheme_of(settings))
        return Remote(base, token, tls=tls)
    return Remote(f"{scheme_of(settings)}://localhost", token, tls=tls, socket_path=address.path)


def reach_without_token(settings: Settings, server: str | None) -> Remote:
    """The Forebay that a command is for, which asks only what everybody may."""
    return _remote(settings, server, None)


def _remote(
    settings: Settings, server: str | None, token: str | None, client_token: str | None = None
) -> Remote:
    tls = None if server is not None else _own_certificate(settings)
    return Remote(server_url(settings, server), token, tls=tls, client_token=client_token)


def _own_certificate(settings: Settings) -> ssl.SSLContext | None:
    """Trust in exactly the certificate that the service on this machine has: its name is that of
    the world's way in, and not of loopback."""
    if settings.tls.certificate is None:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.tls.certificate)
    except OSError as error:
        fail(f"The certificate {settings.tls.certificate} cannot be read: {error.strerror}.")
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def ask_or_fail(remote: Remote, path: str, body: Mapping[str, Any] | None = None) -> Any:
    """JSON from an admin address (``Remote.ask``); where there is none, say why and end."""
    try:
        return remote.ask(path, body)
    except RemoteError as error:
        fail(str(error))
