"""One line for each change that somebody ordered: who, what, how many. Nothing secret is in it.

The logger ``forebay.audit`` is its own, so that its lines can be sent elsewhere; the line as an
object is on each record as ``audit``, for structured handlers.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from forebay.web.asgi import Scope

logger = logging.getLogger("forebay.audit")

ADMIN = "forebay.admin"
"""Scope key under which the door leaves the name of the token that the request came with."""


@dataclass(frozen=True, slots=True)
class AuditLine:
    """Who did what. ``who`` is the token's name, ``client`` the address it came from; ``what`` is
    what was chosen, with secrets masked; ``objects`` and ``size_bytes`` how much it was."""

    who: str
    client: str
    action: str
    what: str
    objects: int = 0
    size_bytes: int = 0

    def __str__(self) -> str:
        return (
            f"{self.action} {self.what} by {self.who} from {self.client or '-'}: "
            f"{self.objects} objects, {self.size_bytes} bytes"
        )


def line_for(
    scope: Scope, action: str, what: str, objects: int = 0, size_bytes: int = 0
) -> AuditLine:
    """The line for an order that came with this request."""
    client = scope.get("client")
    return AuditLine(
        who=scope.get(ADMIN, "-"),
        client=client[0] if client else "",
        action=action,
        what=what,
        objects=objects,
        size_bytes=size_bytes,
    )


def write(line: AuditLine) -> None:
    """Log the line."""
    logger.info("%s", line, extra={"audit": line})
