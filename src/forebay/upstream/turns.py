"""So many requests under way at one upstream host; the others wait their turn, in bounds.

Without it one slow host could hold every connection of the pool, and whoever asks another host
would wait for it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from forebay.errors import Overloaded
from forebay.model import Ask
from forebay.ports import Upstream, UpstreamResponse
from forebay.turns import Turns


class TurnTakingUpstream:
    """``ports.Upstream`` with at most ``max_per_host`` requests under way at a host.

    A request that is redirected counts for the host that it was sent to first.
    """

    def __init__(self, upstream: Upstream, max_per_host: int, patience_seconds: float) -> None:
        self._upstream = upstream
        self._max_per_host = max_per_host
        self._patience_seconds = patience_seconds
        self._turns: dict[str, tuple[Turns, int]] = {}

    @asynccontextmanager
    async def open(self, ask: Ask) -> AsyncGenerator[UpstreamResponse]:
        """See ``ports.Upstream.open``. Raises ``Overloaded`` when a turn does not come in time."""
        host = urlsplit(ask.url).netloc
        turns = self._enter(host)
        try:
            await _begin(turns)
            try:
                async with self._upstream.open(ask) as response:
                    yield response
            finally:
                turns.end()
        finally:
            self._leave(host)

    def _enter(self, host: str) -> Turns:
        turns, users = self._turns.get(host, (None, 0))
        if turns is None:
            turns = Turns(self._max_per_host, self._patience_seconds)
        self._turns[host] = (turns, users + 1)
        return turns

    def _leave(self, host: str) -> None:
        """Nothing is remembered of hosts that nobody asks."""
        turns, users = self._turns[host]
        if users == 1:
            del self._turns[host]
        else:
            self._turns[host] = (turns, users - 1)


async def _begin(turns: Turns) -> None:
    try:
        await turns.begin()
    except TimeoutError:
        raise Overloaded(
            "As many requests to this upstream as may be are under way; try again soon."
        ) from None
