"""What the tests of presets say again and again."""

from __future__ import annotations

from dataclasses import replace

from forebay.model import Mount
from forebay.presets.contract import Context

INDEX = "https://index.example/"
BASE = "http://cache:8000/m/"
SHA256 = "ab" * 32
SHA512 = "cd" * 64


def mount(preset: str, *upstreams: str, **more: object) -> Mount:
    """A mount ``/m/`` of this preset that leads to every host unless told otherwise."""
    made = Mount(
        name="m", prefix="/m/", upstreams=upstreams or (INDEX,), preset=preset, link_hosts=("*",)
    )
    return replace(made, **more)  # type: ignore[arg-type]


def context(
    preset: str, page: str = "simple/a/", *, media_type: str = "", base: str = BASE, **more: object
) -> Context:
    """The context of a page below the index."""
    return Context(mount(preset, **more), INDEX + page, base, media_type)
