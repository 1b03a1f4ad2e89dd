"""Waiting that cancellation does not cut short: for cleanup that must happen."""

from __future__ import annotations

import asyncio
from typing import Any


async def see_through(work: asyncio.Future[Any]) -> None:
    """Wait until the work is done, however often the waiter is cancelled meanwhile.

    The work itself is not cancelled, and its result or error is left to be asked for. A
    cancellation that came while waiting is raised once the work is done.
    """
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
