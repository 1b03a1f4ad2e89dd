"""The names of ``FOREBAY_…`` variables, and what the environment says for a key."""

from __future__ import annotations

import os

PREFIX = "FOREBAY_"

CLIENT_TOKEN_VARIABLE = "FOREBAY_CLIENT_TOKEN"  # noqa: S105 - a name
"""What ``forebay get`` shows of a client's; no setting of the service."""

DELIMITER = "__"


def variable(*path: str) -> str:
    """The name of the variable for this key: ``FOREBAY_SERVER__PORT``."""
    return PREFIX + DELIMITER.join(path).upper()


def value(*path: str) -> str | None:
    """What the environment says for this key, None if nothing or an empty text.

    Names are compared without regard to case, as pydantic-settings does.
    """
    wanted = variable(*path)
    return next(
        (text for name, text in os.environ.items() if name.upper() == wanted and text), None
    )
