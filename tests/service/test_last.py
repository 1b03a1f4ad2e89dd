"""TRACE and OPTIONS are counted down, and answered here where they end here (9110 §7.6.2)."""

from __future__ import annotations

import pytest

from forebay.ports import Reply
from tests.service.scene import Scene, read


async def _ask(scene: Scene, method: str, *lines: str) -> Reply:
    return await scene.open("/f?q", *lines, method=method)


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE"])
@pytest.mark.parametrize(
    ("line", "sent"),
    [
        ("max-forwards: 5", "4"),
        ("max-forwards: 1", "0"),
        ("max-forwards: 99999999999999999999", "2147483647"),
        ("max-forwards: few", "few"),
        ("x: y", None),
    ],
)
async def test_one_less_is_forwarded(
    scene: Scene, method: str, line: str, sent: str | None
) -> None:
    scene.add("/f?q")
    await read(await _ask(scene, method, line))
    assert scene.upstream.fields_of(0).get("max-forwards") == sent


async def test_other_methods_are_not_counted(scene: Scene) -> None:
    scene.add("/f?q")
    await read(await _ask(scene, "POST", "max-forwards: 0"))
    assert scene.upstream.fields_of(0).get("max-forwards") == "0"


async def test_a_trace_that_ends_here_is_told_what_came_without_secrets(scene: Scene) -> None:
    secrets = ("cookie: a=b", "authorization: Basic eDp5", "proxy-authorization: z")
    told = await read(await _ask(scene, "TRACE", "max-forwards: 0", "x-y: z", *secrets))
    assert told.field("content-type") == "message/http"
    assert told.body == (
        b"TRACE /http://origin.example/f?q HTTP/1.1\r\nmax-forwards: 0\r\nx-y: z\r\n\r\n"
    )
    assert scene.upstream.asks == []


async def test_options_that_end_here_say_what_is_allowed(scene: Scene) -> None:
    told = await read(await _ask(scene, "OPTIONS", "max-forwards: 0"))
    assert (told.status, told.body) == (200, b"")
    assert told.field("allow") == "GET, HEAD, OPTIONS, TRACE"
    assert scene.upstream.asks == []
