"""Tags that an upstream gives to responses, so that many can be purged by one name."""

from __future__ import annotations

from typing import Final

from forebay.model import Head
from forebay.rules.fields import split_list

MAX_TAGS: Final = 64
MAX_TAG_CHARACTERS: Final = 256
"""Bounds on what an upstream can make us remember; Fastly allows 1,024 characters a key."""


def surrogate_keys(head: Head) -> tuple[str, ...]:
    """The members of Surrogate-Key (between spaces) and Cache-Tag (between commas), each once."""
    keys = [key for value in head.fields.get_all("surrogate-key") for key in value.split()]
    keys += [tag for value in head.fields.get_all("cache-tag") for tag in split_list(value)]
    kept = [key for key in dict.fromkeys(keys) if len(key) <= MAX_TAG_CHARACTERS]
    return tuple(kept[:MAX_TAGS])
