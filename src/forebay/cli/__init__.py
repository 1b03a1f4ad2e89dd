"""The ``forebay`` command."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import forebay

COMMANDS = ("serve", "get", "purge", "pin", "fsck", "env", "doctor", "config")
"""In the order of the help. Each is in the module of its name, a function or several in a
``typer.Typer``, of the same name again."""


class Commands(TyperGroup):
    """Commands that are imported when they are asked for.

    Somebody waits for ``serve`` to start, and it needs none of the others.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # Their names are all that the help's order and "Did you mean" need.
        names: dict[str, Any] = dict.fromkeys(COMMANDS)
        self.commands.update(names)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        found = getattr(import_module(f"forebay.cli.{cmd_name}"), cmd_name)
        if not isinstance(found, typer.Typer):
            alone = typer.Typer(add_completion=False)
            alone.command(cmd_name, help=_flowing(found.__doc__ or ""))(found)
            found = alone
        command = typer.main.get_command(found)
        command.name = cmd_name
        return command


def _flowing(text: str) -> str:
    """Paragraphs without the breaks of their lines in the source: the terminal has its own."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


app = typer.Typer(
    name="forebay",
    cls=Commands,
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


def main() -> None:
    """Entry point of the installed command."""
    app()
