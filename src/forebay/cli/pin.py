"""``forebay pin``: let objects of a running Forebay never be evicted, or let them be again."""

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


def pin(
    url: UrlArgument = None,
    prefix: PrefixOption = None,
    mount: MountOption = None,
    tag: TagOption = None,
    everything: AllOption = False,
    off: Annotated[bool, typer.Option("--off", help="Let them be evicted again.")] = False,
    server: ServerOption = None,
    config: ConfigOption = None,
    cache_dir: CacheDirOption = None,
) -> None:
    """Never evict these objects, which are stored already, nor what replaces them.

    A purge takes them all the same.
    """
    wanted = chosen(url, prefix, mount, tag, everything)
    if len(wanted) != 1:
        fail("Say what to pin: one of a URL, --prefix, --mount, --tag or --all.", status=2)
    settings = settings_of(config, cache_dir)
    remote = reach_as_admin(settings, server)
    wanted = told_at(server_url(settings, server), wanted)
    answer = ask_or_fail(remote, "/-/unpin" if off else "/-/pin", wanted)
    typer.echo(f"{'Unpinned' if off else 'Pinned'} {counted(answer['objects'])}.")
