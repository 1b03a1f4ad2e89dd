"""The lifespan: started in order, stopped whatever happened."""

from __future__ import annotations

from forebay.web.application import Hook, make_app
from forebay.web.asgi import Message
from tests.fakes.service import FakeService


def _hook(log: list[str], name: str, *, fails: bool = False) -> Hook:
    async def hook() -> None:
        log.append(name)
        if fails:
            raise RuntimeError(f"{name} failed")

    return hook


async def _live(startup: list[Hook], shutdown: list[Hook]) -> list[str]:
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    sent: list[str] = []

    async def receive() -> Message:
        return next(messages)

    async def send(message: Message) -> None:
        sent.append(message["type"] + message.get("message", ""))

    app = make_app(FakeService(), token="t", startup=startup, shutdown=shutdown)
    await app({"type": "lifespan"}, receive, send)
    return sent


async def test_hooks_run_in_their_order() -> None:
    log: list[str] = []
    sent = await _live([_hook(log, "a"), _hook(log, "b")], [_hook(log, "c"), _hook(log, "d")])
    assert log == ["a", "b", "c", "d"]
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_a_start_that_fails_is_told_and_cleaned_up() -> None:
    log: list[str] = []
    sent = await _live([_hook(log, "a", fails=True), _hook(log, "never")], [_hook(log, "stop")])
    assert log == ["a", "stop"]
    assert sent == ["lifespan.startup.faileda failed"]


async def test_one_failure_does_not_keep_the_rest_from_stopping() -> None:
    log: list[str] = []
    sent = await _live([], [_hook(log, "a", fails=True), _hook(log, "b")])
    assert log == ["a", "b"]
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.faileda failed"]
