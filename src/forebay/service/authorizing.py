"""Tokens for container registries, fetched by us (RFC 6750, distribution specification).

Clients see ``/v2/<mount>/name`` and would ask the token server for that name, which it does not
know. So a Bearer challenge of a mount's own upstream is answered here, anonymously or with the
Basic credentials that the request brings (the mount's own, or a client's), and the token is kept
for as long as it says, for its upstream, repository and credentials.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from typing import cast

from forebay.errors import ForebayError
from forebay.model import Ask, Mount, Octets
from forebay.ports import Upstream, UpstreamResponse
from forebay.presets import preset_of
from forebay.presets.challenges import Bearer, Grant, bearer_challenge, read_grant
from forebay.presets.oci import repository_of
from forebay.rules import urls
from forebay.service.presented import MountUpstreams

MAX_TOKENS = 4096
MAX_ANSWER_BYTES = 64 * 1024
EARLY_SECONDS = 10.0
"""A token is replaced this long before its end, so that it does not end on the way."""


class AuthorizedUpstream:
    """``ports.Upstream`` that answers challenges of upstreams whose preset fetches tokens."""

    def __init__(
        self, upstream: Upstream, mounts: Sequence[Mount], clock: Callable[[], float]
    ) -> None:
        self._upstream = upstream
        self._upstreams = MountUpstreams([m for m in mounts if preset_of(m).fetches_tokens])
        self._clock = clock
        self._tokens: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._fetching: dict[str, asyncio.Lock] = {}

    def open(self, ask: Ask) -> AbstractAsyncContextManager[UpstreamResponse]:
        """See ``ports.Upstream.open``."""
        found = self._upstreams.find(ask)
        basic = ask.fields.get("authorization")
        is_basic = basic is None or basic[:6].lower() == "basic "
        if found is None or not is_basic or ask.body is not None:
            return self._upstream.open(ask)
        return self._authorized(ask, found[0], basic)

    @asynccontextmanager
    async def _authorized(
        self, ask: Ask, base: str, basic: str | None
    ) -> AsyncGenerator[UpstreamResponse]:
        repository = repository_of("/" + ask.url[len(base) :]) or ""
        place = f"{base}\0{repository}\0{basic or ''}"
        ask = replace(ask, fields=ask.fields.without("authorization"))
        async with AsyncExitStack() as stack:
            used = self._known(place)
            response = await stack.enter_async_context(
                self._upstream.open(_showing(ask, used and f"Bearer {used}"))
            )
            if response.head.status == 401:
                challenge = bearer_challenge(response.head.fields)
                shown: str | None = None
                if challenge is not None:
                    token = await self._token(place, base, challenge, used, basic)
                    shown = None if token is None else f"Bearer {token}"
                elif basic is not None:
                    shown = basic
                if shown is not None:
                    await stack.aclose()
                    again = self._upstream.open(_showing(ask, shown))
                    response = await stack.enter_async_context(again)
            yield response

    def _known(self, place: str) -> str | None:
        token, until = self._tokens.get(place, ("", 0.0))
        return token if self._clock() < until else None

    async def _token(
        self, place: str, base: str, challenge: Bearer, refused: str | None, basic: str | None
    ) -> str | None:
        """A token other than the one that was refused; one question for all who need it."""
        lock = self._fetching.setdefault(place, asyncio.Lock())
        try:
            async with lock:
                known = self._known(place)
                if known is not None and known != refused:
                    return known
                grant = await self._ask(base, challenge, basic)
                if grant is None:
                    return None
                self._keep(place, grant)
                return grant.token
        finally:
            if not lock.locked():
                self._fetching.pop(place, None)

    def _keep(self, place: str, grant: Grant) -> None:
        lifetime = max(grant.lifetime_seconds - EARLY_SECONDS, grant.lifetime_seconds / 2)
        self._tokens.pop(place, None)
        self._tokens[place] = (grant.token, self._clock() + lifetime)
        while len(self._tokens) > MAX_TOKENS:
            self._tokens.popitem(last=False)

    async def _ask(self, base: str, challenge: Bearer, basic: str | None) -> Grant | None:
        """What the token server grants; None where it grants nothing, for whatever reason: the
        registry's refusal then stands."""
        realm, registry = urls.from_text(challenge.realm), urls.from_text(base)
        if registry.scheme == "https" and realm.scheme == "http":
            return None  # a token that others have read is no token
        ask = Ask(challenge.token_url(), unguarded=realm.origin == registry.origin)
        ask = _showing(ask, basic)
        body = bytearray()
        try:
            async with self._upstream.open(ask) as response:
                if response.head.status != 200:
                    return None
                chunks = cast("AsyncGenerator[Octets]", response.chunks())
                async with aclosing(chunks):
                    async for chunk in chunks:
                        body += chunk
                        if len(body) > MAX_ANSWER_BYTES:
                            return None
        except ForebayError:
            return None
        return read_grant(bytes(body))


def _showing(ask: Ask, credential: str | None) -> Ask:
    if credential is None:
        return ask
    return replace(ask, fields=ask.fields.with_field("authorization", credential))
