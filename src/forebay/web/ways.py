"""The ways in of one application, beside the paths that every service has."""

from __future__ import annotations

from dataclasses import dataclass

from forebay.web.tunnel import Tunnels


@dataclass(frozen=True, slots=True)
class WaysIn:
    """``landing`` says whether ``/`` is the door's own page; it is not where a mount has the
    prefix ``/``. At ``mount_ports``, local ports of mounts, nothing is the door's own.
    ``tunnels`` open what CONNECT asks for; without them it is refused.
    """

    landing: bool = True
    mount_ports: frozenset[int] = frozenset()
    tunnels: Tunnels | None = None
