"""``forebay fsck``: compare every stored byte with its checksum, and discard what is damaged."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

import typer

from forebay.cli.common import CacheDirOption, ConfigOption, ServerOption, fail
from forebay.cli.reaching import ask_or_fail, reach_as_admin, settings_of
from forebay.errors import StoreError
from forebay.ports import Scrubbed
from forebay.rules.eviction import Eviction
from forebay.settings import Settings
from forebay.store.disk import DiskStore
from forebay.units import describe_size

DAMAGED_STATUS = 3
"""Exit status when damage was found; it has been dealt with by then."""
_ASK_EVERY_SECONDS = 0.5


def fsck(
    online: Annotated[
        bool,
        typer.Option("--online", help="Let the Forebay that runs do it, beside its work."),
    ] = False,
    server: ServerOption = None,
    config: ConfigOption = None,
    cache_dir: CacheDirOption = None,
) -> None:
    """Compare every stored byte with its checksum. Damaged ones are fetched again when wanted.

    Without --online or --server the cache must not be in use; it is read as fast as the disk
    can. The exit status is 0 where all is well, 3 where damage was found, 1 on trouble.
    """
    settings = settings_of(config, cache_dir)
    done = _by_service(settings, server) if online or server else _alone(settings)
    typer.echo(_tell(done))
    if done.trouble is not None:
        fail(done.trouble)
    if not done.finished:
        fail("It was ended before it had seen everything.")
    if done.damaged_blocks:
        raise typer.Exit(DAMAGED_STATUS)


def _alone(settings: Settings) -> Scrubbed:
    """Open the cache, sweep it, and read it all."""

    async def work() -> Scrubbed:
        store = DiskStore(
            settings.cache.dir,
            max_size_bytes=None,
            min_free_bytes=0,
            # Otherwise all rows would be ranked and marked anew, here and at the next start.
            eviction=Eviction(settings.cache.eviction),
            pinned_mounts=settings.pinned_mounts(),
        )
        await store.open()
        try:
            await store.swept()
            return await store.scrub()
        finally:
            await store.close()

    if not settings.cache.dir.is_dir():
        fail(f"There is no cache in {settings.cache.dir}.")
    try:
        return asyncio.run(work())
    except StoreError as error:
        fail(f"{error.detail} Or use --online.")


def _by_service(settings: Settings, server: str | None) -> Scrubbed:
    remote = reach_as_admin(settings, server)
    told: dict[str, Any] = ask_or_fail(remote, "/-/scrub", {})
    while told["running"]:
        time.sleep(_ASK_EVERY_SECONDS)
        told = ask_or_fail(remote, "/-/scrub")
    return Scrubbed(**told)


def _tell(done: Scrubbed) -> str:
    read = f"{done.objects:,} objects, {describe_size(done.read_bytes)} read"
    if not done.damaged_blocks:
        return f"{read}, no damage."
    return (
        f"{read}, {done.damaged_blocks:,} damaged blocks in {done.damaged_objects:,} objects: "
        "they are fetched again when they are wanted."
    )
