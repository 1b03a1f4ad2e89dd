"""Refusals of the door itself, as applications, so that they wait their turn like any answer."""

from __future__ import annotations

from forebay.web.asgi import App, Receive, Scope, Send, send_problem
from forebay.web.heads import Refusal
from forebay.web.problems import Problem


def refusal_app(refusal: Refusal) -> App:
    """An application that answers whatever comes with this refusal."""

    async def refuse(_scope: Scope, _receive: Receive, send: Send) -> None:
        fields = [("connection", "close"), *refusal.fields]
        if refusal.status == 405:
            fields.append(("allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, PURGE"))
        elif refusal.status == 503:
            fields.append(("retry-after", "1"))
        problem = Problem(refusal.status, "request-refused", refusal.detail, tuple(fields))
        await send_problem(send, problem)

    return refuse
