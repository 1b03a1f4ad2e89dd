"""Presets that need no rewriting: what never changes, and what is asked again.

Indexes follow what their upstream says. Where it says nothing they are not guessed to be
fresh (``heuristic_fraction = 0``) but revalidated, which costs a round trip and no body.
"""

from __future__ import annotations

import re

from forebay.presets.contract import Preset, Promise

_DAY = 86_400.0
_CHECKSUM = r"[0-9a-f]{32,128}"
_BY_HASH = re.compile(r".*/by-hash/(MD5Sum|SHA1|SHA256|SHA512)/([0-9a-f]+)")
_BY_HASH_KINDS = {
    "MD5Sum": ("md5", 32),
    "SHA1": ("sha", 40),
    "SHA256": ("sha-256", 64),
    "SHA512": ("sha-512", 128),
}


def by_hash(path: str) -> Promise | None:
    """The digest in a by-hash path of an apt repository."""
    match = _BY_HASH.fullmatch(path)
    if match is None:
        return None
    algorithm, length = _BY_HASH_KINDS[match[1]]
    return Promise((algorithm, match[2])) if len(match[2]) == length else None


GENERIC = Preset(name="generic")

IMMUTABLE = Preset(name="immutable", settings={"immutable": (".*",)})

APT = Preset(
    name="apt",
    settings={
        "immutable": (r".*/by-hash/.*", r".*\.(?:deb|udeb|ddeb|dsc|tar\.[a-z0-9]+|diff\.gz)"),
        # InRelease, Release and what they list belong together: each is asked about each time,
        # so that no two of them are of different days.
        "ttl_patterns": ((r".*/dists/.*", 0.0), (r".*/(?:In)?Release(?:\.gpg)?", 0.0)),
        "heuristic_fraction": 0.0,
        "negative_ttl": 10.0,
        "stale_if_error": _DAY,
    },
    promise=by_hash,
)

DNF = Preset(
    name="dnf",
    settings={
        "immutable": (rf".*/repodata/{_CHECKSUM}-.*", r".*\.d?rpm"),
        "ttl_patterns": ((r".*/repomd\.xml(?:\.asc|\.key)?", 0.0),),
        "heuristic_fraction": 0.0,
        "stale_if_error": _DAY,
    },
)

CONDA = Preset(
    name="conda",
    settings={
        "immutable": (r".*\.(?:conda|tar\.bz2)",),
        "heuristic_fraction": 0.0,
        "negative_ttl": 60.0,
        "stale_if_error": _DAY,
    },
)

MAVEN = Preset(
    name="maven",
    settings={
        # Snapshots are named before the rest: their files are replaced under one name.
        "ttl_patterns": (
            (r".*-SNAPSHOT/.*", 0.0),
            (r".*/maven-metadata(?:-[^/]*)?\.xml(?:\..*)?", 0.0),
        ),
        "immutable": (
            r"(?!.*-SNAPSHOT/).*\.(?:jar|pom|war|aar|ear|module|zip|tar\.gz|klib|so|xml)"
            r"(?<!/maven-metadata\.xml)(?:\.(?:asc|md5|sha1|sha256|sha512))?",
        ),
        "heuristic_fraction": 0.0,
        "negative_ttl": 10.0,
        "stale_if_error": _DAY,
    },
)

GO = Preset(
    name="go",
    settings={
        "immutable": (
            r".*/@v/[^/?]+\.(?:info|mod|zip|ziphash)",
            r".*/sumdb/[^?]*/(?:tile|lookup)/.*",
        ),
        "heuristic_fraction": 0.0,
        "ttl": 60.0,
        "negative_ttl": 10.0,
        "stale_if_error": _DAY,
    },
)
