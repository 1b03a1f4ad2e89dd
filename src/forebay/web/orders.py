"""The bodies of orders to the admin side: small, read whole, and JSON whatever they are called."""

from __future__ import annotations

from forebay.model import Fields
from forebay.web.asgi import Message, Receive, Scope
from forebay.web.incoming import Incoming, body_length

MAX_BODY_BYTES = 64 * 1024


async def body_of(receive: Receive, fields: Fields) -> bytes | None:
    """The whole request body, or None if it is longer than an order can be."""
    if body_length(fields) == 0:
        return b""
    incoming = Incoming(receive, has_body=True)
    body = bytearray()
    async for chunk in incoming.body():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            return None
    return bytes(body)


def as_json(scope: Scope) -> Scope:
    """The same scope with a body of JSON, which every order is: curl calls it a form unless told.

    No browser sends the token by itself, so that a page elsewhere gains nothing by a form.
    """
    fields = [(name, value) for name, value in scope["headers"] if name != b"content-type"]
    return {**scope, "headers": [*fields, (b"content-type", b"application/json")]}


def replayed(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives this body first and then goes on as before."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        while (message := await receive())["type"] == "http.request":
            pass
        return message

    return replay
