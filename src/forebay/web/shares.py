"""What one client may take of the service: requests, downloads at once, bytes a second.

All connections of a client draw on one share, so that opening more of them brings nothing; and
nobody waits for another's share. Bytes are paced where they are sent, in slices that take a tenth
of a second each, the connections of one client in turn. The kernel could pace a socket by itself
(SO_MAX_PACING_RATE), but knows nothing of a client's other sockets.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from forebay.errors import Overloaded, TooManyRequests
from forebay.turns import Turns

SLICE_SECONDS = 0.1
MIN_SLICE_BYTES = 4 * 1024
MAX_SLICE_BYTES = 1024 * 1024
MAX_SHARES = 16_384
"""Clients that are remembered. Those that take nothing at the moment are forgotten first."""


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """Bounds for one client; None is no bound."""

    requests_per_second: float | None = None
    request_burst: int = 100
    max_downloads: int | None = None
    queue_seconds: float = 10.0
    rate_bytes_per_second: int | None = None

    @property
    def any(self) -> bool:
        """Whether there is a bound at all."""
        bounds = (self.requests_per_second, self.max_downloads, self.rate_bytes_per_second)
        return any(bound is not None for bound in bounds)


class Bucket:
    """Lets ``rate`` units pass in a second, and ``burst`` at once after a rest.

    It counts in time: ``_paid_until`` is when all that has been taken is paid off.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst_seconds = burst / rate
        self._paid_until = -math.inf

    def wait_seconds(self, now: float, amount: float = 0.0) -> float:
        """How long until this amount may be taken; nothing is taken."""
        debt = max(self._paid_until - now, 0.0) + amount / self._rate
        return max(0.0, debt - self._burst_seconds)

    def take(self, now: float, amount: float) -> None:
        """Count the amount, whether or not it was time for it."""
        self._paid_until = max(self._paid_until, now) + amount / self._rate

    def is_full(self, now: float) -> bool:
        """Whether nothing is left to pay off."""
        return self._paid_until <= now


class Share:
    """The share of one client. The clock counts seconds."""

    def __init__(self, limits: ClientLimits, clock: Callable[[], float]) -> None:
        self._clock = clock
        most = limits.max_downloads
        self._turns = Turns(most, limits.queue_seconds) if most is not None else None
        rate = limits.requests_per_second
        self._requests = Bucket(rate, limits.request_burst) if rate else None
        pace = limits.rate_bytes_per_second
        self._bytes = Bucket(pace, pace * 2 * SLICE_SECONDS) if pace else None
        wanted = int((pace or 0) * SLICE_SECONDS)
        self.slice_bytes = min(max(wanted, MIN_SLICE_BYTES), MAX_SLICE_BYTES)
        """How much may be sent between two calls of ``pay``."""

    @property
    def is_idle(self) -> bool:
        """Whether forgetting this share would change nothing."""
        now = self._clock()
        buckets = (self._requests, self._bytes)
        if self._turns is not None and self._turns.running:
            return False
        return all(b is None or b.is_full(now) for b in buckets)

    @property
    def paces(self) -> bool:
        """Whether bytes are counted at all."""
        return self._bytes is not None

    @property
    def counts_downloads(self) -> bool:
        """Whether a download of any length has to be counted while it runs."""
        return self.paces or self._turns is not None

    def take_request(self) -> None:
        """Count one request. Raises ``TooManyRequests``; what is refused does not count."""
        if self._requests is None:
            return
        wait = self._requests.wait_seconds(self._clock(), 1.0)
        if wait > 0:
            raise TooManyRequests(
                "You send more requests than one client may; slow down.", math.ceil(wait)
            )
        self._requests.take(self._clock(), 1.0)

    def take_at_once(self, size_bytes: int) -> bool:
        """Count a whole small answer, if there is nothing that it would have to wait for."""
        now = self._clock()
        if self._turns is not None and not self._turns.is_free:
            return False
        if self._requests is not None and self._requests.wait_seconds(now, 1.0) > 0:
            return False
        if self._bytes is not None and self._bytes.wait_seconds(now) > 0:
            return False
        if self._requests is not None:
            self._requests.take(now, 1.0)
        if self._bytes is not None:
            self._bytes.take(now, size_bytes)
        return True

    @asynccontextmanager
    async def download(self) -> AsyncGenerator[None]:
        """A block that is one of the client's downloads; waits for its turn to begin.

        Raises ``Overloaded`` when the turn does not come in time.
        """
        async with AsyncExitStack() as stack:
            if self._turns is not None:
                try:
                    await stack.enter_async_context(self._turns.turn())
                except TimeoutError:
                    raise Overloaded(
                        "As many downloads of yours as may run do already; try again."
                    ) from None
            yield

    async def pay(self, size_bytes: int) -> None:
        """Wait until this many bytes may be sent; at most ``slice_bytes`` at a time."""
        if self._bytes is None:
            return
        now = self._clock()
        # What is taken first is paid first: the connections of a client come in turn.
        wait = self._bytes.wait_seconds(now, size_bytes)
        self._bytes.take(now, size_bytes)
        if wait > 0:
            await asyncio.sleep(wait)


class Shares:
    """The share of each client, by name."""

    def __init__(self, limits: ClientLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._shares: OrderedDict[str, Share] = OrderedDict()

    def __len__(self) -> int:
        return len(self._shares)

    @property
    def are_bounded(self) -> bool:
        return self._limits.any

    def of(self, client: str) -> Share | None:
        """The share of this client; None where nothing is bounded."""
        if not self._limits.any:
            return None
        share = self._shares.get(client)
        if share is None:
            share = self._shares[client] = Share(self._limits, self._clock)
            self._make_room()
        else:
            self._shares.move_to_end(client)
        return share

    def _make_room(self) -> None:
        if len(self._shares) <= MAX_SHARES:
            return
        oldest = list(self._shares)[: MAX_SHARES // 8]
        for client in oldest:
            if self._shares[client].is_idle:
                del self._shares[client]
        if len(self._shares) > MAX_SHARES:
            # All of them are at work: what is forgotten begins anew, running downloads go on.
            self._shares.popitem(last=False)
