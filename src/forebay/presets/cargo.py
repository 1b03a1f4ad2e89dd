"""Cargo's sparse registries: small index files, and crates where ``config.json`` says.

``dl`` in ``config.json`` becomes a link path below the mount. Cargo puts the checksum of a
crate into an address that asks for it, and so every crate is checked before it is kept.
"""

from __future__ import annotations

import re

from forebay.errors import InvalidTarget
from forebay.presets.contract import Context, Preset, Rewrite
from forebay.presets.documents import JSON_TYPES, read_object, replace_text, write
from forebay.presets.links import LINK_SEGMENT, leads_to
from forebay.rules import urls

_MARKERS = ("{crate}", "{version}", "{prefix}", "{lowerprefix}", "{sha256-checksum}")
_CHECKSUM = "sha256-{sha256-checksum}"
_ADDRESS = re.compile(r"(https?)://([^/{}]+)(/.*)?", re.I | re.S)


def rewrite_config(body: bytes, context: Context) -> bytes:
    """``config.json`` with downloads through the mount."""
    document = read_object(body)

    def change(template: str) -> str | None:
        match = _ADDRESS.fullmatch(template)
        if match is None:
            return None
        scheme, authority, path = match[1].lower(), match[2], match[3] or ""
        try:
            if not leads_to(context.mount, urls.parse(f"{scheme}://{authority}/")):
                return None
        except InvalidTarget:
            return None
        if not any(marker in template for marker in _MARKERS):
            # What Cargo appends to an address without markers.
            path = f"{path.rstrip('/')}/{{crate}}/{{version}}/download"
        return f"{context.base_url}{LINK_SEGMENT}/{_CHECKSUM}/{scheme}/{authority}{path}"

    replace_text(document, "dl", change)
    return write(document)


CARGO = Preset(
    name="cargo",
    settings={
        "immutable": (r".*/download", r".*\.crate"),
        "heuristic_fraction": 0.0,
        "ttl": 60.0,
        "negative_ttl": 10.0,
        "stale_if_error": 86_400.0,
    },
    rewrites=(
        Rewrite(
            re.compile(r"/config\.json"),
            JSON_TYPES | {"application/octet-stream", "binary/octet-stream", "text/plain"},
            rewrite_config,
            max_bytes=64 * 1024,
        ),
    ),
)
