"""``forebay purge``: remove objects from the cache of a running Forebay."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from forebay.cli.common import CacheDirOption, ConfigOption, ServerOption, fail
from forebay.cli.reaching import ask_or_fail, reach_as_admin, settings_of
from forebay.units import describe_size


def purge(
    url: Annotated[str | None, typer.Argument(help="The object's upstream URL.")] = None,
    prefix: Annotated[
        str | None, typer.Option(help="Everything whose URL begins with this.")
    ] = None,
    mount: Annotated[str | None, typer.Option(help="Everything of this mount.")] = None,
    tag: Annotated[str | None, typer.Option(help="Everything with this surrogate key.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="The whole cache.")] = False,
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
    chosen: dict[str, Any] = {"url": url, "prefix": prefix, "mount": mount, "tag": tag}
    wanted = {key: value for key, value in chosen.items() if value is not None}
    if everything:
        wanted["all"] = True
    if len(wanted) != 1:
        fail("Say what to purge: one of a URL, --prefix, --mount, --tag or --all.", status=2)
    remote = reach_as_admin(settings_of(config, cache_dir), server)
    answer = ask_or_fail(remote, "/-/purge", {**wanted, "dry_run": dry_run})
    typer.echo(_tell(answer["objects"], answer["size_bytes"], dry_run=dry_run))


def _tell(objects: int, size_bytes: int, *, dry_run: bool) -> str:
    if not objects:
        return "Nothing in the cache matches."
    noun = "object" if objects == 1 else "objects"
    verb = "Would purge" if dry_run else "Purged"
    return f"{verb} {objects:,} {noun}, {describe_size(size_bytes)}."
