"""Targets that were resolved lately: the first step, once for all who ask the same."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from forebay.model import Mount, Request, Target
from forebay.presets import resolving

REMEMBERED_TARGETS = 16384
REMEMBERED_LENGTH = 1024
"""Longer paths, queries and fields, which hardly come twice, are not kept: a target takes some
3 KB then, and all of them 50 MB."""


class Targets:
    """``presets.resolving.resolve`` over fixed mounts, with a bounded memory.

    A target follows from the request line, the authority, the port at which it came in and the
    fields that some mount forwards, and from nothing else of the request.
    """

    def __init__(self, mounts: Sequence[Mount], limit: int = REMEMBERED_TARGETS) -> None:
        self._mounts = mounts
        self._forwarded = frozenset(name.lower() for mount in mounts for name in mount.forward)
        self._limit = limit
        self._known: OrderedDict[tuple[Any, ...], Target] = OrderedDict()

    def of(
        self,
        request: Request,
        *,
        url: str | None = None,
        expected_digests: Sequence[tuple[str, str]] = (),
    ) -> Target:
        """The target of this request. Raises what ``resolve`` raises, each time."""
        selecting = tuple([line for line in request.fields if line[0] in self._forwarded])
        key = (
            request.raw_path,
            request.raw_query,
            request.scheme,
            request.authority,
            request.absolute,
            request.port,
            url,
            tuple(expected_digests),
            selecting,
        )
        target = self._known.get(key)
        if target is None:
            target = resolving.resolve(
                request, self._mounts, url=url, expected_digests=expected_digests
            )
            if _length(request, url, selecting) <= REMEMBERED_LENGTH:
                self._known[key] = target
            if len(self._known) > self._limit:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(key)
        return target


def _length(request: Request, url: str | None, selecting: Sequence[tuple[str, str]]) -> int:
    texts = [request.raw_path, request.raw_query or "", request.authority, url or ""]
    return sum(map(len, texts)) + sum(len(value) for _, value in selecting)
