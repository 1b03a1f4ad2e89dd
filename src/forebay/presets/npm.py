"""npm registries: packuments, whole and abbreviated, and the tarballs they name.

npm itself leads tarballs of its built-in registry to the one that is configured, and keeps the
public address in its lockfile, so packuments are left alone unless the mount asks for
rewriting (``rewrite_links = true``), which pnpm, yarn and registries with tarballs elsewhere
need.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from forebay.presets.contract import Context, Preset, Rewrite
from forebay.presets.documents import child, read_object, replace_text, write
from forebay.presets.links import LINK_SEGMENT, local_link
from forebay.rules import urls

_PACKUMENTS = re.compile(r"/(?!-/|~f/)(?:@[^/?]+(?:/|%2f))?[^/@?]+(?:/[^/?]+)?(?:\?.*)?", re.I)


def rewrite_packument(body: bytes, context: Context) -> bytes:
    """A packument, or one version of it, with tarballs through the mount."""
    document = read_object(body)
    page = urls.parse(context.page_url)

    def change_in(version: Any) -> None:
        dist = child(version, "dist")

        def change(reference: str) -> str | None:
            local = local_link(context, reference, page)
            if local is not None and local.startswith(LINK_SEGMENT):
                # Below the registry a tarball keeps its known path, which lockfiles rely on;
                # from elsewhere it brings its digest.
                digest = sri_digest(child(dist, "integrity"))
                local = local_link(context, reference, page, digest)
            return None if local is None else context.base_url + local

        replace_text(dist, "tarball", change)

    versions = document.get("versions")
    for version in versions.values() if isinstance(versions, dict) else ():
        change_in(version)
    change_in(document)
    return write(document)


def sri_digest(integrity: Any) -> tuple[str, str] | None:
    """The strongest sha512 or sha256 in an integrity text (Subresource Integrity §3.5)."""
    if not isinstance(integrity, str):
        return None
    for kind in ("sha512", "sha256"):
        for word in integrity.split():
            name, _, encoded = word.partition("?")[0].partition("-")
            if name != kind:
                continue
            try:
                return kind, base64.b64decode(encoded, validate=True).hex()
            except (binascii.Error, ValueError):
                continue
    return None


NPM = Preset(
    name="npm",
    settings={
        "immutable": (r".*\.tgz(?:\?.*)?",),
        "heuristic_fraction": 0.0,
        "ttl": 60.0,
        "negative_ttl": 10.0,
        "stale_if_error": 86_400.0,
    },
    rewrites=(
        Rewrite(
            _PACKUMENTS,
            frozenset({"application/json", "application/vnd.npm.install-v1+json"}),
            rewrite_packument,
        ),
    ),
    rewrites_links=False,
)
