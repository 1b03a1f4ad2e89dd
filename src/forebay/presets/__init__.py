"""What a kind of client needs, as pure rules; ``preset_of`` finds them for a mount.

::

    contract     what a preset is
    plain        generic, immutable, apt, dnf, conda, maven, go: lifetimes and promises
    pypi npm cargo git_lfs huggingface oci       those that rewrite, merge or fetch tokens
    links        link paths: how other hosts are led through a mount, and which
    resolving    from request to target, presets taken into account
    anchors documents link_fields challenges     HTML, JSON, Link, WWW-Authenticate
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forebay.model import Mount
from forebay.presets.cargo import CARGO
from forebay.presets.contract import Context, Preset, Promise, Rewrite
from forebay.presets.git_lfs import GIT_LFS
from forebay.presets.huggingface import HUGGINGFACE
from forebay.presets.npm import NPM
from forebay.presets.oci import OCI
from forebay.presets.plain import APT, CONDA, DNF, GENERIC, GO, IMMUTABLE, MAVEN
from forebay.presets.pypi import PYPI

__all__ = ["PRESETS", "Context", "Preset", "Promise", "Rewrite", "preset_of", "preset_settings"]

PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        GENERIC, IMMUTABLE, APT, PYPI, NPM, HUGGINGFACE, CONDA, MAVEN, GO, CARGO, DNF, GIT_LFS, OCI,
    )
}  # fmt: skip


def preset_of(mount: Mount) -> Preset:
    """The mount's preset; ``generic`` for a name that nobody knows."""
    return PRESETS.get(mount.preset, GENERIC)


def preset_settings() -> dict[str, Mapping[str, Any]]:
    """The keys that each preset sets for its mounts, by the preset's name."""
    return {name: preset.settings for name, preset in PRESETS.items()}
