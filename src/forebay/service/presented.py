"""The network as a mount's preset sees it: heads merged over redirects, fields hidden.

Stands between the fetchers and the upstream client, so that what is stored, proved, continued
and passed on agree about one head (``presets.huggingface`` says what it is for).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace

from forebay.model import Ask, Head, Mount, Octets
from forebay.ports import Upstream, UpstreamResponse
from forebay.presets import Preset, preset_of
from forebay.presets.contract import unchanged_fields, unchanged_head
from forebay.rules import urls


class MountUpstreams:
    """Which mount an address of ours to an upstream belongs to.

    Only what a mount's upstreams were asked for counts (``Ask.unguarded``), not an address that
    a client has named. Where two mounts share an upstream, the first of them speaks.
    """

    def __init__(self, mounts: Sequence[Mount]) -> None:
        self._bases = [
            (str(urls.from_text(base)), mount) for mount in mounts for base in mount.upstreams
        ]
        # The longest first, the order of the mounts among equals.
        self._bases.sort(key=lambda pair: -len(pair[0]))

    def find(self, ask: Ask) -> tuple[str, Mount] | None:
        """The base address that the ask lies under, and its mount."""
        if not ask.unguarded:
            return None
        return next((pair for pair in self._bases if ask.url.startswith(pair[0])), None)


class PresentedUpstream:
    """``ports.Upstream`` whose heads are as presets shape them."""

    def __init__(self, upstream: Upstream, mounts: Sequence[Mount]) -> None:
        self._upstream = upstream
        self._upstreams = MountUpstreams([m for m in mounts if _shapes(preset_of(m))])

    def open(self, ask: Ask) -> AbstractAsyncContextManager[UpstreamResponse]:
        """See ``ports.Upstream.open``."""
        found = self._upstreams.find(ask)
        return self._upstream.open(ask) if found is None else self._present(ask, found[1])

    @asynccontextmanager
    async def _present(self, ask: Ask, mount: Mount) -> AsyncGenerator[UpstreamResponse]:
        preset = preset_of(mount)
        asked = replace(ask, fields=preset.shape_request(ask.fields))
        async with self._upstream.open(asked) as response:
            yield _Presented(response, preset.shape_head(response.head, response.redirects))


class _Presented:
    """A response under another head."""

    def __init__(self, response: UpstreamResponse, head: Head) -> None:
        self._response = response
        self._head = head

    @property
    def head(self) -> Head:
        return self._head

    @property
    def url(self) -> str:
        return self._response.url

    @property
    def redirects(self) -> tuple[Head, ...]:
        return self._response.redirects

    @property
    def framed(self) -> bool:
        return self._response.framed

    @property
    def unread_bytes(self) -> int:
        return self._response.unread_bytes

    async def is_here(self, within_seconds: float) -> bool:
        return await self._response.is_here(within_seconds)

    def chunks(self) -> AsyncIterator[Octets]:
        return self._response.chunks()


def _shapes(preset: Preset) -> bool:
    return preset.shape_head is not unchanged_head or preset.shape_request is not unchanged_fields
