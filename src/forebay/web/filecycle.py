"""An answer of the fast lane that leaves a file: what ``Cycle`` is to a request, without a task.

It stands where a cycle stands for as long as it is being sent, so that whatever else the
connection does (requests that wait behind it, half-close, stalls, a server that stops) finds one
there. The request it answers has come whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from forebay.web.asgi import ResponseCutError
from forebay.web.fastlane import FileAnswer
from forebay.web.zerocopy import FileSend


class FileConnection(Protocol):
    """What a file cycle needs of the connection it runs on."""

    socket_fileno: int

    def watch(self, sender: FileSend | None) -> None:
        """As ``cycle.Connection.watch``."""

    def drop(self, *, reset: bool) -> None:
        """As ``cycle.Connection.drop``."""


class FileCycle:
    """Sends one ``FileAnswer``; the attributes are those that connections read of a cycle."""

    more_body = False
    response_started = True
    message_event = asyncio.Event()
    """Nobody waits for it."""

    def __init__(
        self, connection: FileConnection, answer: FileAnswer, on_done: Callable[[FileCycle], None]
    ) -> None:
        self.keep_alive = True
        self.disconnected = False
        self.response_complete = False
        self._connection = connection
        self._answer = answer
        self._on_done = on_done
        start, stop = answer.interval
        self._sender = FileSend(
            connection.socket_fileno, answer.file.fileno, start, stop, octets=answer.octets
        )

    def begin(self) -> None:
        """Send what the socket takes at once; ``on_done`` is called when all has been sent."""
        self._connection.watch(self._sender)
        self._sender.begin(self._ended)

    def abandon(self) -> None:
        """The client is gone. May be called at any moment."""
        self.disconnected = True
        self._sender.abandon()

    def _ended(self, error: Exception | None) -> None:
        self._connection.watch(None)
        self._answer.end(self._sender.left_bytes, error)
        if error is None and not self.disconnected:
            self.response_complete = True
            self._on_done(self)
            return
        self.disconnected = True
        if error is not None:
            # A body cut short is told by its length, after the bytes that were given.
            self._connection.drop(reset=not isinstance(error, ResponseCutError))
