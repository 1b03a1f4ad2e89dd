"""``forebay serve``: the service in the foreground."""

from __future__ import annotations

import gc
import os
import secrets
import signal
import socket
from contextlib import ExitStack
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from forebay.cli.common import (
    CacheDirOption,
    ConfigOption,
    overrides_from,
    settings_or_fail,
)
from forebay.cli.listening import admin_socket, listening_socket
from forebay.settings import Settings
from forebay.settings.access import parse_address
from forebay.settings.environment import variable
from forebay.web.capacity import raise_descriptor_limit


def serve(
    host: Annotated[str | None, typer.Option(help="The address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="The port; 0 takes a free one.")] = None,
    cache_dir: CacheDirOption = None,
    config: ConfigOption = None,
    workers: Annotated[int | None, typer.Option(help="Server processes.")] = None,
) -> None:
    """Run the service in the foreground, until Ctrl-C or SIGTERM."""
    # Before anything slow: process 1 of a container ignores signals that nobody handles.
    signal.signal(signal.SIGTERM, _leave)
    overrides = overrides_from(
        server__host=host, server__port=port, server__workers=workers, cache__dir=cache_dir
    )
    settings = settings_or_fail(config, overrides)
    backlog = settings.server.backlog
    with ExitStack() as stack:
        listeners = [
            stack.enter_context(listening_socket(host, port, backlog))
            for host, port in settings.listens()
        ]
        # Port 0 has become a real one, which the service must know so as never to fetch from it.
        overrides.setdefault("server", {})["port"] = listeners[0].getsockname()[1]
        if settings.admin.listen is not None:
            address = parse_address(settings.admin.listen)
            listeners.append(stack.enter_context(admin_socket(address, backlog)))
            if address.path is None:
                port = listeners[-1].getsockname()[1]
                overrides["admin"] = {"listen": str(address._replace(port=port))}
            else:
                stack.callback(address.path.unlink, missing_ok=True)
        _serve(with_overrides(settings, overrides), overrides, listeners)


def _serve(
    settings: Settings, overrides: dict[str, dict[str, Any]], listeners: list[socket.socket]
) -> None:
    # Imports make much that stays: looking through it for garbage takes 7 % of a start.
    gc.disable()
    from forebay.app import RUN_VARIABLE  # noqa: PLC0415 - slow, as is the next
    from forebay.cli import server  # noqa: PLC0415 - and no other command needs it

    raise_descriptor_limit()
    try:
        if settings.server.workers == 1:
            server.run_here(settings, listeners)
        else:
            _hand_down(settings, overrides)
            os.environ[RUN_VARIABLE] = secrets.token_hex(8)
            server.run_workers(settings, listeners)
    except KeyboardInterrupt:
        pass  # uvicorn has stopped gracefully and raises the signal again
    finally:
        gc.enable()


def with_overrides(settings: Settings, overrides: dict[str, dict[str, Any]]) -> Settings:
    """The settings with these keys changed to values that are known to be right."""
    changed = {
        table: getattr(settings, table).model_copy(update=keys)
        for table, keys in overrides.items()
        if table in {"server", "admin"}
    }
    return settings.model_copy(update=changed)


def _hand_down(settings: Settings, overrides: dict[str, dict[str, Any]]) -> None:
    """Tell the workers, which read the environment and the file, what the command line said."""
    if settings.config is not None:
        os.environ[variable("config")] = str(settings.config)
    for table, keys in overrides.items():
        for key, value in keys.items():
            os.environ[variable(table, key)] = str(value)


def _leave(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)
