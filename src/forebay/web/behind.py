"""An application that is made while others are served already."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from forebay.web.asgi import App, Receive, Scope, Send

BEGIN_AFTER_SECONDS = 1.0
"""The thread that makes it and the event loop take turns at the interpreter: not while those who
have waited for the start are being answered."""


class Behind:
    """Calls ``make`` in a thread, a moment after ``begin_soon`` or when the first request comes.

    Requests wait until it is made. What ``make`` raises is raised to each of them.
    """

    def __init__(self, make: Callable[[], App]) -> None:
        self._make = make
        self._making: asyncio.Future[App] | None = None
        self._app: App | None = None

    def begin_soon(self, after_seconds: float = BEGIN_AFTER_SECONDS) -> None:
        """Let it be there before somebody asks. Does not wait."""
        asyncio.get_running_loop().call_later(after_seconds, self._begin)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._app is None:
            # Whoever leaves meanwhile does not stop it for the others.
            self._app = await asyncio.shield(self._begin())
        await self._app(scope, receive, send)

    def _begin(self) -> asyncio.Future[App]:
        if self._making is None:
            self._making = asyncio.ensure_future(asyncio.to_thread(self._make))
        return self._making
