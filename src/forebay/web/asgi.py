"""The shapes of ASGI that this room speaks, and small answers sent in one go."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from forebay.web.problems import Problem

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

RawFieldList: TypeAlias = list[tuple[bytes, bytes]]

ZERO_COPY = "http.response.zerocopysend"
"""The extension's name in ``scope["extensions"]`` and the type of its message."""

INTERIM = "forebay.interim"
"""Key in ``scope["extensions"]`` of a function that sends one interim response, if there still is
time for it. ASGI has no message for these (RFC 9110 §15.2)."""

RAW_TARGET = "forebay.raw_target"
"""Scope key under which our protocol leaves the request target's octets as they came."""

ADMIN_SIDE = "forebay.admin_side"
"""Scope key that our protocol sets where a connection came in at the admin side's own address."""


class ResponseCutError(Exception):
    """Raised through the server after a head has left and the body cannot be finished.

    A server drops the connection on any exception there, so that the client sees a short body;
    ours does so without a traceback in the log.
    """


class ClientLeftError(Exception):
    """The client is gone; there is nobody to answer."""


async def send_whole(send: Send, status: int, fields: RawFieldList, body: bytes) -> None:
    """One response of known length; ``fields`` hold its Content-Length."""
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def send_problem(send: Send, problem: Problem) -> None:
    """A problem as the whole response."""
    body = problem.body()
    await send_whole(send, problem.status, problem.raw_fields(len(body)), body)
