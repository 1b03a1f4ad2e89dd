"""What a worker process of ``forebay serve --workers`` imports by name.

A worker is told names and not objects; it reads the settings again from the environment that
its parent prepared.
"""

from __future__ import annotations

from typing import Any

from forebay.cli.server import protocol_for
from forebay.settings import load


def __getattr__(name: str) -> Any:
    if name != "Protocol":
        raise AttributeError(name)
    return protocol_for(load())
