"""What a preset is: plain values, and pure functions over bytes and fields.

A preset says what is special about a kind of client. It never goes out, never looks at the
clock, and holds no registry's name: every host comes from the mount's ``upstreams``, or from
what the upstream's own index links to.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from forebay.model import Fields, Head, Mount

DEFAULT_MAX_BYTES = 64 * 1024 * 1024
"""An index above this is passed on as it came. The largest packuments and package lists of the
public registries come to 40 MB."""


@dataclass(frozen=True, slots=True)
class Context:
    """Where a response that is rewritten stands.

    ``page_url`` is its upstream address, from which relative links are read. ``base_url`` is
    the mount as this client sees it, absolute and with a slash at its end.
    """

    mount: Mount
    page_url: str
    base_url: str
    media_type: str = ""
    """Of the response, in lower case and without parameters."""

    @property
    def base_path(self) -> str:
        """The mount's path as the client sees it, with a slash at both ends."""
        return urlsplit(self.base_url).path


class Promise(NamedTuple):
    """What a path says of the bytes behind it.

    ``digest`` is (algorithm as in RFC 9530, lower-case hex). With ``content`` the digest *is*
    the object's identity: every path of the mount that promises it shares one entry.
    """

    digest: tuple[str, str]
    content: bool = False


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Which responses are rewritten, and how.

    ``paths`` is matched in full with path and query below the mount; ``content_types`` holds
    media types in lower case. ``transform`` raises ``ValueError`` where a body is not what its
    type says; the body is then passed on as it came.
    """

    paths: re.Pattern[str]
    content_types: frozenset[str]
    transform: Callable[[bytes, Context], bytes]
    methods: frozenset[str] = frozenset({"GET", "HEAD"})
    max_bytes: int = DEFAULT_MAX_BYTES
    for_links: bool = True
    """Whether it is done for the sake of links, and so not where the mount wants them left."""

    def concerns(self, content_type: str | None) -> bool:
        """Whether a response of this type is rewritten."""
        return media_type_of(content_type) in self.content_types


def media_type_of(content_type: str | None) -> str:
    """The media type in a Content-Type, in lower case and without parameters."""
    return (content_type or "").partition(";")[0].strip().lower()


def no_promise(path: str) -> Promise | None:  # noqa: ARG001 - the shape of a preset's function
    """Most paths say nothing of the bytes behind them."""
    return None


def unchanged_head(head: Head, redirects: Sequence[Head]) -> Head:  # noqa: ARG001
    """The head as it came."""
    return head


def unchanged_fields(fields: Fields) -> Fields:
    """The fields as they came."""
    return fields


def unchanged_reply(fields: Fields, context: Context) -> Fields:  # noqa: ARG001
    """The fields as they came."""
    return fields


@dataclass(frozen=True, slots=True)
class Preset:
    """What is known of one kind of client and its registries.

    ``settings`` are keys of a mount's table with the values they have where the mount does not
    set them; patterns are put behind the mount's own.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    rewrites: tuple[Rewrite, ...] = ()
    rewrites_links: bool = True
    """Whether links are rewritten where the mount does not say (``Mount.rewrite_links``)."""
    promise: Callable[[str], Promise | None] = no_promise
    """What a path below the mount promises."""
    shape_head: Callable[[Head, Sequence[Head]], Head] = unchanged_head
    """The head that counts, from the final one and those of the redirects before it."""
    shape_request: Callable[[Fields], Fields] = unchanged_fields
    """The fields that go upstream."""
    shape_reply: Callable[[Fields, Context], Fields] = unchanged_reply
    """The fields of the reply, with links that lead through the mount."""
    fetches_tokens: bool = False
    """Whether a Bearer challenge of the upstream's is answered here (RFC 6750 §3)."""

    def rewrite_for(self, method: str, path: str, mount: Mount) -> Rewrite | None:
        """The rewriting for this request, if there is one."""
        wants_links = self.rewrites_links if mount.rewrite_links is None else mount.rewrite_links
        for rewrite in self.rewrites:
            if method in rewrite.methods and rewrite.paths.fullmatch(path):
                return rewrite if wants_links or not rewrite.for_links else None
        return None
