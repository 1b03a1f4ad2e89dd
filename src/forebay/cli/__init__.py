"""The ``forebay`` command."""

from __future__ import annotations

from typing import Annotated

import typer

import forebay
from forebay.cli import config, doctor, env, fsck, get, pin, purge, serve

app = typer.Typer(
    name="forebay",
    help="A caching download accelerator: one upstream fetch, any number of readers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"forebay {forebay.__version__}")
        raise typer.Exit


@app.callback()
def _forebay(
    _version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Options that stand before every command."""


app.command("serve")(serve.serve)
app.command("get")(get.get)
app.command("purge")(purge.purge)
app.command("pin")(pin.pin)
app.command("fsck")(fsck.fsck)
app.command("env")(env.env)
app.command("doctor")(doctor.doctor)
app.add_typer(config.app, name="config", help="Look at the settings.")


def main() -> None:
    """Entry point of the installed command."""
    app()
