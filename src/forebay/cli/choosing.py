"""Which objects a command means: the options, and what is sent of them."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import typer

UrlArgument: TypeAlias = Annotated[
    str | None,
    typer.Argument(help="The object's upstream URL, or its URL or path at the running Forebay."),
]
PrefixOption: TypeAlias = Annotated[
    str | None, typer.Option(help="Everything whose URL begins with this.")
]
MountOption: TypeAlias = Annotated[str | None, typer.Option(help="Everything of this mount.")]
TagOption: TypeAlias = Annotated[
    str | None, typer.Option(help="Everything with this surrogate key.")
]

AllOption: TypeAlias = Annotated[bool, typer.Option("--all", help="The whole cache.")]


def chosen(
    url: str | None, prefix: str | None, mount: str | None, tag: str | None, everything: bool
) -> dict[str, Any]:
    """What was given of these, as the admin side takes it."""
    given = {"url": url, "prefix": prefix, "mount": mount, "tag": tag}
    wanted: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    return {**wanted, "all": True} if everything else wanted


def told_at(base: str, wanted: dict[str, Any]) -> dict[str, Any]:
    """The same with URLs of the Forebay at ``base`` as paths: its admin side, which may have an
    address of its own, knows those by any name."""
    return {
        key: value.removeprefix(base) if str(value).startswith(f"{base}/") else value
        for key, value in wanted.items()
    }


def counted(objects: int) -> str:
    """So many objects, in words."""
    return f"{objects:,} {'object' if objects == 1 else 'objects'}"
