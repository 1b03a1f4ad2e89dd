"""Whether the service takes work."""

from __future__ import annotations


class Readiness:
    """Set by the application's lifespan, told by ``/readyz``."""

    def __init__(self) -> None:
        self.ready = False
