"""``docs/configuration.md``, written from the settings themselves.

    python -m forebay.settings.reference > docs/configuration.md

A test compares the page with what this module writes.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import tomli_w
from pydantic import BaseModel

from forebay.settings.access import Limits, Tls
from forebay.settings.environment import variable
from forebay.settings.loading import Settings
from forebay.settings.mounts import MountTable
from forebay.settings.policy import Defaults, PolicyKeys
from forebay.settings.tables import Admin, Cache, Server, Tunnel, Upstream

_INTRODUCTION = """\
# Configuration

*Written by `python -m forebay.settings.reference` from the settings' own docstrings.*

Forebay starts without any of this. What is set comes from, the first that says something wins:

1. options of the command line, such as `--port`;
2. environment variables: `FOREBAY_`, the table, two underscores, the key; lists and tables as
   JSON; an empty value counts as not set;
3. one TOML file, which `--config` or `FOREBAY_CONFIG` names;
4. the defaults below.

`forebay config show` prints what is in force, `forebay config check` says whether it is right. A
key or variable that Forebay does not know keeps it from starting.

**Sizes** are written `4096`, `64KiB`, `500G`, `1.5T`. `K M G T P` are powers of 1000, `Ki Mi Gi Ti
Pi` powers of 1024, with or without a `B`. (nginx, Varnish and Squid mean 1024³ by a bare `G`.)
**Durations** are written `30d`, `1h30m`, `10m`, `250ms`; a number alone counts seconds. Relative
paths start from the directory in which Forebay is started.

```toml
[cache]
dir = "cache"
max_size = "500G"

[upstream]
allow_hosts = ["example.org", "*.example.org"]

[[mounts]]
name = "files"
upstreams = ["https://a.example.org/pub/", "https://b.example.org/pub/"]
ttl_patterns = [['.*/index\\.html', "1m"]]
immutable = ['.*\\.tar\\.gz']
```
"""


_MOUNT_DEFAULTS = {"prefix": "/<name>/", "hosts": [], "preset": "generic"}


def render() -> str:
    """The whole page, in Markdown."""
    tables: tuple[tuple[str, type[BaseModel]], ...] = (
        ("server", Server),
        ("cache", Cache),
        ("tls", Tls),
        ("admin", Admin),
        ("limits", Limits),
        ("upstream", Upstream),
        ("tunnel", Tunnel),
        ("defaults", Defaults),
    )
    parts = [_INTRODUCTION]
    for name, table in tables:
        parts += _table(f"[{name}]", table, name)
    parts += _table("[[mounts]]", MountTable, None, without=PolicyKeys)
    parts.append(
        "A mount may also set every key of `[defaults]` except `url_in_path`. As a variable, "
        f"`{variable('mounts')}` holds all mounts as one JSON list.\n"
    )
    return "\n".join(parts)


def _table(
    heading: str,
    table: type[BaseModel],
    name: str | None,
    without: type[BaseModel] | None = None,
) -> Iterator[str]:
    yield f"## `{heading}`\n"
    yield inspect.cleandoc(table.__doc__ or "") + "\n"
    left_out = without.model_fields if without else {}
    defaults = {} if name is None else _defaults(name)
    for key, field in table.model_fields.items():
        if key in left_out:
            continue
        default = None if field.is_required() else _shown(key, defaults)
        yield f"### `{key}`\n" if default is None else f"### `{key} = {default}`\n"
        yield (field.description or "") + "\n"
        if name is not None:
            yield f"`{variable(name, key)}`\n"


def _defaults(table: str) -> Mapping[str, Any]:
    shown: Mapping[str, Any] = Settings.model_construct().describe()[table]
    return shown


def _shown(key: str, defaults: Mapping[str, Any]) -> str | None:
    """The default as TOML, None where there is none that could be written."""
    value = defaults.get(key, _MOUNT_DEFAULTS.get(key))
    return None if value is None else _toml(value)


def _toml(value: Any) -> str:
    text = tomli_w.dumps({"k": value}, multiline_strings=False).removeprefix("k = ")
    return " ".join(text.split()).replace("[ ", "[").replace(", ]", "]").replace(",]", "]")


if __name__ == "__main__":
    sys.stdout.write(render())
