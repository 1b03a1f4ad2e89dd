"""``forebay purge``: remove objects from the cache of a running Forebay."""

from __future__ import annotations

from typing import Annotated

import typer

from forebay.cli.choosing import (
    AllOption,
    MountOption,
    PrefixOption,
    TagOption,
    UrlArgument,
    chosen,
    counted,
    told_at,
)
from forebay.cli.common import CacheDirOption, ConfigOption, ServerOption, fail, server_url
from forebay.cli.reaching import ask_or_fail, reach_as_admin, settings_of
from forebay.units import describe_size


def purge(
    url: UrlArgument = None,
    prefix: PrefixOption = None,
    mount: MountOption = None,
    tag: TagOption = None,
    everything: AllOption = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")
    ] = False,
    server: ServerOption = None,
    config: ConfigOption = None,
    cache_dir: CacheDirOption = None,
) -> None:
    """Remove objects from the cache of the Forebay that runs here, or at --server.

    Clients that are reading a purged object finish undisturbed.
    """
    wanted = chosen(url, prefix, mount, tag, everything)
    if len(wanted) != 1:
        fail("Say what to purge: one of a URL, --prefix, --mount, --tag or --all.", status=2)
    settings = settings_of(config, cache_dir)
    remote = reach_as_admin(settings, server)
    wanted = told_at(server_url(settings, server), wanted)
    answer = ask_or_fail(remote, "/-/purge", {**wanted, "dry_run": dry_run})
    typer.echo(_tell(answer["objects"], answer["size_bytes"], dry_run=dry_run))


def _tell(objects: int, size_bytes: int, *, dry_run: bool) -> str:
    if not objects:
        return "Nothing in the cache matches."
    verb = "Would purge" if dry_run else "Purged"
    return f"{verb} {counted(objects)}, {describe_size(size_bytes)}."
