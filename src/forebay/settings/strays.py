"""``FOREBAY_…`` variables that cannot be what their author meant.

pydantic-settings reads the variables it knows and passes over the rest in silence. Here the
rest is looked at, so that ``FOREBAY_SEVER__PORT`` does not leave the service on another port
than its operator believes.
"""

from __future__ import annotations

import json
import os
import re
import typing
from collections.abc import Iterator

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from forebay.settings.environment import CLIENT_TOKEN_VARIABLE, DELIMITER, PREFIX, variable
from forebay.settings.problems import SettingsError, known_keys, nearest

_LEFT_BY_OTHERS = re.compile(
    r"FOREBAY(_[A-Z0-9_]+)?_SERVICE_(HOST|PORT)(_[A-Z0-9_]+)?"
    r"|FOREBAY(_[A-Z0-9_]+)?_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?"
)
"""Kubernetes puts these into every pod beside a Service named forebay (or forebay-…)."""


def check_environment(settings: type[BaseModel]) -> None:
    """Raise ``SettingsError`` for every variable that names no setting or is not JSON."""
    problems = [
        problem
        for name, text in sorted(os.environ.items())
        if name.upper().startswith(PREFIX)
        and name != CLIENT_TOKEN_VARIABLE
        and not _is_left_by_others(name.upper(), text)
        for problem in _problems(settings, name.upper(), text)
    ]
    if problems:
        raise SettingsError(problems)


def _is_left_by_others(name: str, text: str) -> bool:
    if _LEFT_BY_OTHERS.fullmatch(name) is None or DELIMITER in name:
        return False
    # FOREBAY_PORT=9000 is a person's slip; FOREBAY_PORT=tcp://10.0.0.7:8000 is Kubernetes.
    return not name.endswith("_PORT") or "_SERVICE_" in name or "://" in text


def _problems(settings: type[BaseModel], name: str, text: str) -> Iterator[str]:
    field = _field(settings, name.removeprefix(PREFIX).lower().split(DELIMITER))
    if field is None:
        yield f"The variable {name} names no setting. {_nearest_variable(settings, name)}"
    elif text and _is_structured(field) and not _is_json(text):
        if "TOKEN" in name or "token" in text.lower():
            yield f"The variable {name} must be JSON, and is not (it may hold secrets: not shown)."
            return
        yield (
            f"The variable {name} is {text!r} and must be JSON; "
            f"if that is meant as one item of a list, write {json.dumps([text])!r}."
        )


def _nearest_variable(settings: type[BaseModel], name: str) -> str:
    known = [variable(*path) for path in known_keys(settings)]
    # A table that was left out, as in FOREBAY_PORT, is a shorter way than any misspelling.
    same_key = [path for path in known if path.endswith(DELIMITER + name.removeprefix(PREFIX))]
    return nearest(same_key[0], same_key) if same_key else nearest(name, known)


def _field(model: type[BaseModel], path: list[str]) -> FieldInfo | None:
    field = model.model_fields.get(path[0])
    if field is None or len(path) == 1:
        return field
    inner = field.annotation
    is_table = isinstance(inner, type) and issubclass(inner, BaseModel)
    return _field(inner, path[1:]) if is_table else None  # type: ignore[arg-type]


def _is_structured(field: FieldInfo) -> bool:
    kind = typing.get_origin(field.annotation) or field.annotation
    return isinstance(kind, type) and issubclass(kind, tuple | frozenset | BaseModel)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
