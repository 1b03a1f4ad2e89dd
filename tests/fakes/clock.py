"""An event loop whose time is virtual: sleeping costs nothing, and every run is the same."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

HUNG_AFTER_SECONDS = 20.0
MOST_TURNS = 20_000


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Where nothing is ready, time jumps to the next timer.

    While threads work for it, the loop waits for them in real time. A loop with neither timers
    nor threads waits for ever: that raises after a while instead. With ``inline_threads`` what
    is meant for a thread is done on the spot, so that not even the scheduler has a say.
    """

    def __init__(self, *, inline_threads: bool = False) -> None:
        self._now = 0.0
        self._inline_threads = inline_threads
        self._in_threads = 0
        self._turns = 0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        return self._now

    def jump(self, seconds: float) -> bool:
        """Let time pass. False where threads are at work."""
        if self._in_threads:
            return False
        self._now += seconds
        self._turns = 0
        return True

    def count_turn(self) -> None:
        """Raise where much is done and no time passes: something runs in circles."""
        self._turns += 1
        if self._turns > MOST_TURNS and not self._in_threads:
            raise RuntimeError("the loop runs in circles")

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        if self._inline_threads:
            return self._done_now(func, args)
        self._in_threads += 1

        def done(_: object) -> None:
            self._in_threads -= 1

        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(done)
        return future

    def _done_now(self, func: Callable[..., Any], args: tuple[Any, ...]) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        self._loop.count_turn()
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is not None and self._loop.jump(timeout):
            return []
        ready = super().select(HUNG_AFTER_SECONDS if timeout is None else 0.01)
        if not ready and timeout is None:
            raise RuntimeError("the loop waits for something that will never come")
        return ready
