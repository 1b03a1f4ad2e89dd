"""``forebay config show`` and ``forebay config check``."""

from __future__ import annotations

import tomli_w
import typer

from forebay.cli.common import CacheDirOption, ConfigOption, overrides_from, settings_or_fail

config = typer.Typer(no_args_is_help=True, add_completion=False, help="Look at the settings.")


@config.command()
def show(config: ConfigOption = None, cache_dir: CacheDirOption = None) -> None:
    """Print what is in force, as a config file that would say the same; secrets are hidden."""
    settings = settings_or_fail(config, overrides_from(cache__dir=cache_dir))
    origin = f"{settings.config} and the environment" if settings.config else "the environment"
    typer.echo(f"# In force, from {origin} over the defaults.")
    typer.echo(tomli_w.dumps(settings.describe()), nl=False)


@config.command()
def check(config: ConfigOption = None) -> None:
    """Read the settings, name everything that is wrong with them, and exit 1 if anything is."""
    settings = settings_or_fail(config)
    where = str(settings.config) if settings.config else "Without a config file, the environment"
    mounts = ", ".join(mount.name for mount in settings.mount_table()) or "none"
    typer.echo(f"{where} is right. Ways in: {mounts}.")
