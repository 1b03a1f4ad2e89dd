"""What is made behind the start is made once, and nobody who asks is sent away."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest

from forebay.web.asgi import App, Message, Receive, Scope, Send
from forebay.web.behind import Behind


class Maker:
    """Makes an application that notes the paths it was asked for, once it is let."""

    def __init__(self, error: Exception | None = None) -> None:
        self.may_make = threading.Event()
        self.made = 0
        self.paths: list[str] = []
        self._error = error

    def __call__(self) -> App:
        assert self.may_make.wait(60)
        self.made += 1
        if self._error is not None:
            raise self._error
        return self._answer

    async def _answer(self, scope: Scope, _receive: Receive, _send: Send) -> None:
        self.paths.append(scope["path"])


async def ask(app: App, path: str) -> None:
    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        raise AssertionError(message)

    await app({"type": "http", "path": path}, receive, send)


async def test_those_who_ask_meanwhile_wait_and_it_is_made_once() -> None:
    make = Maker()
    behind = Behind(make)
    asking = [asyncio.create_task(ask(behind, f"/{n}")) for n in range(3)]
    await asyncio.sleep(0)
    make.may_make.set()
    await asyncio.gather(*asking)
    await ask(behind, "/later")

    assert make.made == 1
    assert sorted(make.paths) == ["/0", "/1", "/2", "/later"]


async def test_who_leaves_does_not_stop_it_for_the_others() -> None:
    make = Maker()
    behind = Behind(make)
    leaves, stays = (asyncio.create_task(ask(behind, path)) for path in ("/leaves", "/stays"))
    await asyncio.sleep(0)
    leaves.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await leaves
    make.may_make.set()
    await stays

    assert make.paths == ["/stays"]


async def test_what_cannot_be_made_is_told_to_everybody_who_asks() -> None:
    make = Maker(ValueError("no such field"))
    make.may_make.set()
    behind = Behind(make)
    for _ in range(2):
        with pytest.raises(ValueError, match="no such field"):
            await ask(behind, "/")

    assert make.made == 1


async def test_it_is_made_without_being_asked_for() -> None:
    make = Maker()
    make.may_make.set()
    begun = threading.Event()

    def note() -> App:
        begun.set()
        return make()

    Behind(note).begin_soon(0)
    assert await asyncio.to_thread(begun.wait, 60)
