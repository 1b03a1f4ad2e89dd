"""One question under one key, asked once, however many wait for its answer.

The flight does not know what flies. Whoever comes first under a key starts a task; everybody
who comes before the task has given its answer waits for that one. The answer ends the
flight's place in the table, not its task: the task may go on (filling an entry, say) in the
frame that opened the connection, and comes to its end by itself or by ``close``.

The exits, each with its rule:

* the task fails before it answers: everybody who waits gets the error;
* the task ends without an answer, or is cancelled: everybody gets ``UpstreamUnreachable``, since
  a done-callback settles every flight (nobody is stranded);
* somebody who waits is cancelled: the others do not notice;
* all who wait are gone: the flight lands all the same, for the next who asks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from forebay.errors import ForebayError, UpstreamUnreachable

T = TypeVar("T")
log = logging.getLogger("forebay.streaming")


class Flight(Generic[T]):
    """A running question. ``land`` and ``fail`` are for its task, ``wait`` for everybody."""

    def __init__(self) -> None:
        self.forgotten = False
        """Whether nobody may join, or keep what comes, any more: it was purged."""
        self._answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        # An error that nobody waits for any more is no programming mistake: mark it as seen.
        self._answer.add_done_callback(lambda answer: answer.cancelled() or answer.exception())

    def land(self, answer: T) -> None:
        """Give the answer. Only the first call counts."""
        if not self._answer.done():
            self._answer.set_result(answer)

    def fail(self, error: ForebayError) -> None:
        """Give everybody this error. Only the first call counts."""
        if not self._answer.done():
            self._answer.set_exception(error)

    def on_landing(self, callback: Callable[[], None]) -> None:
        """Call this once there is an answer or an error."""
        self._answer.add_done_callback(lambda _: callback())

    @property
    def landed(self) -> bool:
        return self._answer.done()

    async def wait(self) -> T:
        """The answer, or the error. Cancelling this wait harms nobody else."""
        return await asyncio.shield(self._answer)


class Flights(Generic[T]):
    """The table of running flights."""

    def __init__(self) -> None:
        self._waiting: dict[str, Flight[T]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def join(self, key: str, fly: Callable[[Flight[T]], Awaitable[None]]) -> tuple[Flight[T], bool]:
        """The flight under this key and whether this call started it. Does not wait."""
        flight = self._waiting.get(key)
        if flight is not None and not flight.landed:
            return flight, False
        return self.launch(fly, key), True

    def launch(
        self, fly: Callable[[Flight[T]], Awaitable[None]], key: str | None = None
    ) -> Flight[T]:
        """A new flight: under this key from now on, or alone where there is none."""
        flight: Flight[T] = Flight()
        task = asyncio.create_task(self._run(flight, fly))
        self._tasks.add(task)
        if key is not None:
            self._waiting[key] = flight

        def settle(done: asyncio.Task[None]) -> None:
            self._tasks.discard(done)
            error = None if done.cancelled() else done.exception()
            if error is not None:
                log.error("a fetch ended with a fault of ours", exc_info=error)
            flight.fail(UpstreamUnreachable("The fetch was stopped before its end. Ask again."))

        def leave() -> None:
            if key is not None and self._waiting.get(key) is flight:
                del self._waiting[key]

        task.add_done_callback(settle)
        flight.on_landing(leave)
        return flight

    def forget(self, matches: Callable[[str], bool]) -> None:
        """Let nobody join these any more, nor keep what they bring: they were purged."""
        for key in [key for key in self._waiting if matches(key)]:
            self._waiting.pop(key).forgotten = True

    async def close(self) -> None:
        """Cancel every task and wait until each has released what it holds."""
        while self._tasks:
            tasks = set(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    @staticmethod
    async def _run(flight: Flight[T], fly: Callable[[Flight[T]], Awaitable[None]]) -> None:
        try:
            await fly(flight)
        except ForebayError as error:
            flight.fail(error)
