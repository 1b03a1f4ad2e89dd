"""An event loop whose time is virtual: sleeping costs nothing, and every run is the same."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

HUNG_AFTER_SECONDS = 20.0


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Where nothing is ready, time jumps to the next timer.

    While threads work for it, the loop waits for them in real time. A loop with neither timers
    nor threads waits for ever: that raises after a while instead.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._in_threads = 0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        return self._now

    def jump(self, seconds: float) -> bool:
        """Let time pass. False where threads are at work."""
        if self._in_threads:
            return False
        self._now += seconds
        return True

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        self._in_threads += 1

        def done(_: object) -> None:
            self._in_threads -= 1

        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(done)
        return future


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is not None and self._loop.jump(timeout):
            return []
        ready = super().select(HUNG_AFTER_SECONDS if timeout is None else 0.01)
        if not ready and timeout is None:
            raise RuntimeError("the loop waits for something that will never come")
        return ready
