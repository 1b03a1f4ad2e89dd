"""``forebay pin``: let objects of a running Forebay never be evicted, or let them be again."""

from __future__ import annotations

from typing import Annotated

import typer

from forebay.cli.common import (
    CacheDirOption,
    ConfigOption,
    ServerOption,
    fail,
    overrides_from,
    server_url,
    settings_or_fail,
    token_or_fail,
)
from forebay.cli.remote import Remote, RemoteError


def pin(
    url: Annotated[str | None, typer.Argument(help="The object's upstream URL.")] = None,
    prefix: Annotated[
        str | None, typer.Option(help="Everything whose URL begins with this.")
    ] = None,
    mount: Annotated[str | None, typer.Option(help="Everything of this mount.")] = None,
    tag: Annotated[str | None, typer.Option(help="Everything with this surrogate key.")] = None,
    off: Annotated[bool, typer.Option("--off", help="Let them be evicted again.")] = False,
    server: ServerOption = None,
    config: ConfigOption = None,
    cache_dir: CacheDirOption = None,
) -> None:
    """Never evict these objects, which are stored already, nor what replaces them.

    A purge takes them all the same.
    """
    chosen = {"url": url, "prefix": prefix, "mount": mount, "tag": tag}
    wanted = {key: value for key, value in chosen.items() if value is not None}
    if len(wanted) != 1:
        fail("Say what to pin: one of a URL, --prefix, --mount or --tag.", status=2)
    settings = settings_or_fail(config, overrides_from(cache__dir=cache_dir))
    remote = Remote(server_url(settings, server), token_or_fail(settings))
    try:
        answer = remote.ask("/-/unpin" if off else "/-/pin", wanted)
    except RemoteError as error:
        fail(str(error))
    count = answer["objects"]
    noun = "object" if count == 1 else "objects"
    typer.echo(f"{'Unpinned' if off else 'Pinned'} {count:,} {noun}.")
