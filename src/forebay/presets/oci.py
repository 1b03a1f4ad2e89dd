"""Container registries, read through (OCI distribution specification 1.1).

A mount's upstream is a registry's ``/v2/``. Blobs and manifests that are asked for by digest are
one entry for all repositories, checked against it; tags are revalidated. Tokens are fetched
here (``challenges``): a client that sees ``/v2/<mount>/…`` would ask for the wrong scope.
"""

from __future__ import annotations

import re

from forebay.model import Fields
from forebay.presets.contract import Context, Preset, Promise
from forebay.presets.link_fields import links_through

_DIGESTED = re.compile(
    r"/(?P<repository>[^?]+)/(?:blobs|manifests)/(?P<kind>sha256|sha512)(?::|%3a)"
    r"(?P<hex>[0-9a-f]+)(?:\?.*)?",
    re.I,
)
_NAMED = re.compile(r"/(?P<repository>[^?]+?)/(?:blobs|manifests|tags|referrers)/.*", re.S)
_KINDS = {"sha256": ("sha-256", 64), "sha512": ("sha-512", 128)}


def promise(path: str) -> Promise | None:
    """The digest by which a blob or manifest is asked for."""
    match = _DIGESTED.fullmatch(path)
    if match is None:
        return None
    algorithm, length = _KINDS[match["kind"].lower()]
    if len(match["hex"]) != length:
        return None
    return Promise((algorithm, match["hex"].lower()), content=True)


def repository_of(path: str) -> str | None:
    """The repository that a path below ``/v2/`` is about; None for what is about none."""
    match = _NAMED.fullmatch(path)
    return None if match is None else match["repository"]


def shape_reply(fields: Fields, context: Context) -> Fields:
    """Lists of tags go on through the mount; a challenge was for us to answer."""
    return links_through(fields.without("www-authenticate"), context)


OCI = Preset(
    name="oci",
    settings={
        "immutable": (r"/[^?]+/(?:blobs|manifests)/sha(?:256|512)(?::|%3[Aa])[0-9a-f]+(?:\?.*)?",),
        "heuristic_fraction": 0.0,
        "stale_if_error": 86_400.0,
    },
    promise=promise,
    shape_reply=shape_reply,
    fetches_tokens=True,
)
