"""What the commands share: their options, reading settings, and how they say that they fail."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeAlias

import typer

from forebay.settings import Settings, SettingsError, load
from forebay.settings.environment import CLIENT_TOKEN_VARIABLE

ConfigOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--config", help="The TOML file to read.", envvar="FOREBAY_CONFIG"),
]
CacheDirOption: TypeAlias = Annotated[
    Path | None, typer.Option("--cache-dir", help="The directory of the cache.")
]
ServerOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--server", help="The running Forebay, such as http://127.0.0.1:8000."),
]
ClientTokenOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--token",
        help="The client token that the mount asks for. Other users see options: use the variable.",
        envvar=CLIENT_TOKEN_VARIABLE,
        show_envvar=True,
    ),
]

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - compared with, not bound


def fail(message: str, *, status: int = 1) -> NoReturn:
    """Say on standard error why the command gives up, and end it with this exit status."""
    typer.echo(message, err=True)
    raise typer.Exit(status)


def overrides_from(**options: Any) -> dict[str, dict[str, Any]]:
    """The options that were given, as ``settings.load`` takes them.

    A name is the table and the key with ``__`` between, as in the variables.
    """
    tables: dict[str, dict[str, Any]] = {}
    for name, value in options.items():
        if value is not None:
            table, _, key = name.partition("__")
            tables.setdefault(table, {})[key] = value
    return tables


def settings_or_fail(
    config: Path | None, overrides: dict[str, dict[str, Any]] | None = None
) -> Settings:
    """The settings in force; where they are wrong, say everything that is, and end."""
    try:
        return load(config, overrides)
    except SettingsError as error:
        fail("\n".join(error.problems))


def reachable_url(host: str, port: int, scheme: str = "http") -> str:
    """The address at which this machine reaches a service that listens there."""
    name = _EVERYWHERE.get(host, f"[{host}]" if ":" in host else host)
    return f"{scheme}://{name}:{port}"


def main_url(settings: Settings) -> str:
    """The address at which this machine reaches the service with these settings."""
    return reachable_url(settings.server.host, settings.server.port, scheme_of(settings))


def scheme_of(settings: Settings) -> str:
    """What the service speaks."""
    return "http" if settings.tls.certificate is None else "https"


def server_url(settings: Settings, server: str | None) -> str:
    """The base address of the Forebay that a command is for, without a slash at its end."""
    if server is None:
        return main_url(settings)
    given = server if "://" in server else f"{scheme_of(settings)}://{server}"
    return given.rstrip("/")


def token_or_fail(settings: Settings) -> str:
    """The admin token of the service on this machine; where there is none, say so and end."""
    try:
        token = settings.admin_token(create=False)
    except (OSError, ValueError) as error:
        fail(f"The admin token cannot be read: {error}.")
    if token is None:
        fail(
            f"There is no admin token in {settings.token_path}. Start Forebay once with the same "
            "--config and --cache-dir, or set FOREBAY_ADMIN__TOKEN."
        )
    return token.get_secret_value()
