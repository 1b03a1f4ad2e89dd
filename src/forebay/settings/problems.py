"""From a validation error to sentences: which key, from where, and what to do about it."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from forebay.settings import environment

_MOUNT_SHORTHAND = "upstream"
"""Accepted in a mount although no field has this name: one upstream without brackets."""

_SECRET_KEYS = frozenset({"token", "tokens", "client_tokens"})
_NEARNESS = 0.6


class SettingsError(Exception):
    """The settings cannot be used. ``problems`` holds one sentence for each thing that is wrong."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where settings came from, so that a problem can be named where it can be mended."""

    overrides: Mapping[str, Any]
    config: Path | None

    def name(self, path: Sequence[str | int]) -> str:
        """How the person who wrote this key calls it."""
        keys = [part for part in path if isinstance(part, str)]
        if _reach(self.overrides, keys):
            return f"--{keys[-1].replace('_', '-')}" if keys else "The command line"
        # A variable holds a table, a key or a whole list; what lies in the list is within it.
        named = list(takewhile(lambda part: isinstance(part, str), path))
        for depth in range(len(named), 0, -1):
            variable = [str(part) for part in named[:depth]]
            if environment.value(*variable) is not None:
                return environment.variable(*variable) + _spell(["", *path[depth:]])
        place = _spell(path)
        if self.config is None:
            return place or "The settings"
        return f"{self.config}: {place}" if place else str(self.config)


def explain(error: ValidationError, settings: type[BaseModel], origin: Origin) -> list[str]:
    """One sentence for each problem that pydantic found."""
    details = error.errors(include_url=False)
    # A list whose items are wrong is reported as too short as well; the items say enough.
    blamed = {detail["loc"][:-1] for detail in details}
    return [
        _sentence(detail, settings, origin)
        for detail in details
        if detail["type"] != "too_short" or detail["loc"] not in blamed
    ]


def known_keys(model: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    """The path of every setting that can be written by name, tables themselves included."""
    for key, field in model.model_fields.items():
        yield (key,)
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from ((key, *rest) for rest in known_keys(inner))


def nearest(wrong: str, known: Iterable[str]) -> str:
    """The question whether another name was meant, or where to look if none is near."""
    close = difflib.get_close_matches(wrong, list(known), n=1, cutoff=_NEARNESS)
    return f"Did you mean {close[0]}?" if close else "See docs/configuration.md for all of them."


def _sentence(detail: ErrorDetails, settings: type[BaseModel], origin: Origin) -> str:
    path = [part for part in detail["loc"] if not str(part).startswith("function-")]
    if detail["type"] == "extra_forbidden":
        return f"{origin.name(path)} is not a setting. {_nearest_key(path, settings)}"
    if detail["type"] == "missing":
        return f"{origin.name(path)} is missing."
    message = _message(detail, hide=bool(_SECRET_KEYS & set(path)))
    return f"{origin.name(path)}: {message}".rstrip(".") + "."


def _nearest_key(path: Sequence[str | int], settings: type[BaseModel]) -> str:
    """What the unknown key at the end of this path may have been meant to be."""
    wrong = str(path[-1])
    siblings = _keys_beside(path, settings)
    close = difflib.get_close_matches(wrong, siblings, n=1, cutoff=_NEARNESS)
    if close:
        return f"Did you mean {close[0]}?"
    elsewhere = {keys[-1]: ".".join(keys) for keys in known_keys(settings) if len(keys) > 1}
    found = difflib.get_close_matches(wrong, elsewhere, n=1, cutoff=_NEARNESS)
    return nearest(wrong, ()) if not found else f"Did you mean {elsewhere[found[0]]}?"


def _keys_beside(path: Sequence[str | int], settings: type[BaseModel]) -> list[str]:
    model = settings
    for part in path[:-1]:
        if isinstance(part, str):
            model = _model_within(model.model_fields[part])
    shorthand = [_MOUNT_SHORTHAND] if "upstreams" in model.model_fields else []
    return [*model.model_fields, *shorthand]


def _model_within(field: FieldInfo) -> type[BaseModel]:
    for kind in (field.annotation, *typing.get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    raise TypeError(f"{field!r} holds no table")


def _message(detail: ErrorDetails, *, hide: bool) -> str:
    context = detail.get("ctx", {})
    if "error" in context:
        return str(context["error"])
    shown = "the value" if hide else repr(detail["input"])
    say = _MESSAGES.get(detail["type"])
    if detail["type"] == "tuple_type" and isinstance(detail["input"], Mapping):
        return _not_one_table(detail["loc"], detail["input"])
    return say(shown, context) if say else f"{shown} is not accepted ({detail['msg']})"


def _not_one_table(path: Sequence[str | int], table: Mapping[str, Any]) -> str:
    """What to write instead of ``[mounts.name]``, which many other programs take."""
    title = ".".join(str(part) for part in path)
    name = next((key for key, value in table.items() if isinstance(value, Mapping)), None)
    within = "" if name is None else f' with name = "{name}" in it'
    return f"is a list of tables; write [[{title}]]{within}"


_Say = Callable[[str, Mapping[str, Any]], str]
_MESSAGES: dict[str, _Say] = {
    **dict.fromkeys(
        ("int_parsing", "int_type", "int_from_float"),
        lambda shown, _: f"{shown} is not a whole number",
    ),
    **dict.fromkeys(("float_parsing", "float_type"), lambda shown, _: f"{shown} is not a number"),
    **dict.fromkeys(
        ("bool_parsing", "bool_type"), lambda shown, _: f"{shown} is neither true nor false"
    ),
    **dict.fromkeys(
        ("literal_error", "enum"),
        lambda shown, context: f"{shown} is not one of {context['expected']}",
    ),
    **dict.fromkeys(
        ("tuple_type", "frozen_set_type"),
        lambda shown, _: f"{shown} is not a list; put it in square brackets",
    ),
    **dict.fromkeys(
        ("model_type", "model_attributes_type", "dict_type"),
        lambda shown, _: f"{shown} is not a table",
    ),
    "string_type": lambda shown, _: f"{shown} is not text; put it in quotes",
    "greater_than_equal": lambda shown, context: f"{shown} is less than {context['ge']}",
    "less_than_equal": lambda shown, context: f"{shown} is more than {context['le']}",
    "too_short": lambda _, context: f"needs at least {context['min_length']}",
    "string_too_short": lambda _, __: "is empty",
}


def _reach(tables: Mapping[str, Any], keys: Sequence[str]) -> bool:
    inner: Any = tables
    for key in keys:
        if not isinstance(inner, Mapping) or key not in inner:
            return False
        inner = inner[key]
    return bool(keys)


def _spell(path: Sequence[str | int]) -> str:
    """``server``, ``port`` is spelled ``server.port``; ``mounts``, 0, ``ttl``, 1 becomes
    ``mounts item 1, ttl item 2``."""
    text = ""
    for before, part in pairwise(["", *path]):
        if isinstance(part, int):
            text += f".{part + 1}" if isinstance(before, int) else f" item {part + 1}"
        elif isinstance(before, int) or (text and not before):
            text += f", {part}"
        else:
            text += f".{part}" if text else part
    return text
