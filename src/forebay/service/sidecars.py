"""Checksums that stand in files beside the objects they are about (``Mount.checksums``).

A checksum file is asked for as any client would ask for it: by the same mount, into the same
entry, validated when it is stale, and by one request for all who want it. It is looked at while
the object is on its way, so that only the object's last byte may have to wait for it.

* It says what the object's digest is: the object comes to that, or is not kept and ends short.
* The object comes to something else: both may have changed, so the file is asked for once more,
  past everything stored, before the object is called false.
* There is none (an answer of 4xx), or it does not name the object: the object is kept as it came,
  and where there was none is remembered for a minute.
* It cannot be had now (no answer, 5xx, 429): the client gets the object, and it is not kept as
  whole, so that the next request for it asks again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeAlias

from forebay.errors import ForebayError, UpstreamError
from forebay.model import Fields, Request, Target
from forebay.ports import Reply
from forebay.rules import targets, urls
from forebay.rules.checksum_files import ChecksumFile, checksum_files, digest_in
from forebay.rules.digest_fields import Digests
from forebay.service.landings import alongside
from forebay.service.reading import read_up_to
from forebay.service.remembering import Remembered
from forebay.streaming.proving import LookUp

MAX_BYTES = 16 * 1024 * 1024
"""A longer file is no list of checksums: the largest of the public archives have 2 MB."""
MISSING_SECONDS = 60.0
"""How long a file that was not there is not asked for again."""

_ABOUT_THE_MOMENT = frozenset({408, 425, 429})
"""Statuses of 4xx that say nothing of whether the file is there."""

Tell: TypeAlias = Callable[[Request, Target], Awaitable[Reply]]
"""``Story.tell`` of a GET."""

log = logging.getLogger("forebay.service")


class Sidecars:
    """Looks up the digests of objects in the checksum files that their mounts name."""

    def __init__(self, tell: Tell, clock: Callable[[], float]) -> None:
        self._tell = tell
        self._missing = Remembered(clock, MISSING_SECONDS)

    def look_up_for(self, request: Request, target: Target) -> LookUp | None:
        """How to ask for the digest of this target; None where nothing would be learnt.

        Whoever names a digest has a better word for it than a file beside it.
        """
        if not target.mount.checksums or target.expected_digests:
            return None
        files = checksum_files(target.path, target.mount.checksums)
        if not files:
            return None

        async def look_up(afresh: bool) -> Digests:
            return await self._digests(request, target, files, afresh=afresh)

        return look_up

    async def _digests(
        self, request: Request, target: Target, files: tuple[ChecksumFile, ...], *, afresh: bool
    ) -> Digests:
        """What the first of the files that tells anything says. Raises ``UpstreamError``."""
        for file in files:
            asked, beside = _beside(request, target, file, afresh=afresh)
            if beside.key in self._missing and not afresh:
                continue
            text = await self._text(asked, beside)
            if text is None:
                self._missing.note(beside.key)
                continue
            # Lists of whole archives take a good part of a second.
            digest = await asyncio.to_thread(digest_in, text, file)
            if digest is not None:
                return (digest,)
            log.info("%s does not tell the digest of %s", beside.name, target.name)
        return ()

    async def _text(self, request: Request, beside: Target) -> str | None:
        """The file's text; None where there is no such file, or none that could be one."""
        try:
            reply = await self._tell(request, beside)
            if reply.status == 200 and "content-encoding" not in reply.fields:
                octets = await read_up_to(reply, MAX_BYTES)
                if octets is not None:
                    return octets.decode("utf-8", "surrogateescape")
        except ForebayError as trouble:
            raise UpstreamError(f"{beside.name} cannot be had: {trouble.detail}") from trouble
        if reply.body is not None:
            await reply.body.aclose()
        if reply.status >= 500 or reply.status in _ABOUT_THE_MOMENT:
            raise UpstreamError(f"{beside.name} cannot be had: upstream answered {reply.status}")
        log.info("no checksums in %s: status %d", beside.name, reply.status)
        return None


def _beside(
    request: Request, target: Target, file: ChecksumFile, *, afresh: bool
) -> tuple[Request, Target]:
    """The request for a checksum file, with the fields that the object was asked for with."""
    mount = replace(target.mount, hosts=(), port=None)
    fields = Fields((name, value) for name, value in request.fields if name in mount.forward)
    if afresh:
        fields = fields.with_field("cache-control", "no-cache")
    if mount.upstreams:
        asked = Request("GET", mount.prefix + file.path[1:], None, fields)
        return asked, alongside(target, targets.resolve(asked, (mount,)))
    asked = Request("GET", "/", None, fields)
    url = urls.from_text(target.urls[0]).origin + file.path
    return asked, targets.resolve(asked, (mount,), url=url)
