"""``forebay serve``: the service in the foreground."""

from __future__ import annotations

import errno
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
    fail,
    overrides_from,
    settings_or_fail,
)
from forebay.settings import Settings
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
    with ExitStack() as stack:
        listeners = [
            stack.enter_context(listening_socket(host, port, settings.server.backlog))
            for host, port in settings.listens()
        ]
        from forebay.app import RUN_VARIABLE  # noqa: PLC0415 - slow, as is the next
        from forebay.cli import server  # noqa: PLC0415 - and no other command needs it

        raise_descriptor_limit()
        # Port 0 has become a real one, which the service must know so as never to fetch from it.
        port = listeners[0].getsockname()[1]
        settings = settings.model_copy(
            update={"server": settings.server.model_copy(update={"port": port})}
        )
        overrides.setdefault("server", {})["port"] = port
        try:
            if settings.server.workers == 1:
                server.run_here(settings, listeners)
            else:
                _hand_down(settings, overrides)
                os.environ[RUN_VARIABLE] = secrets.token_hex(8)
                server.run_workers(settings, listeners)
        except KeyboardInterrupt:
            pass  # uvicorn has stopped gracefully and raises the signal again


def listening_socket(host: str, port: int, backlog: int) -> socket.socket:
    """A socket that listens there already, so that no second server can take the place.

    Where that cannot be, say why in one sentence and end with exit status 1.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        fail(f"The address to listen on, {host}, cannot be resolved: {error.strerror}.")
    family, _, _, _, address = found[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and host == "::":
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(address)
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        fail(_why_not(error, host, port))
    listener.setblocking(False)
    return listener


def _why_not(error: OSError, host: str, port: int) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"Port {port} on {host} is taken by another program. Stop that one, or choose "
                f"another port with --port (0 takes a free one)."
            )
        case errno.EACCES:
            return f"Port {port} needs privileges. Choose one above 1023 with --port."
        case errno.EADDRNOTAVAIL:
            return f"No interface of this machine has the address {host}; look at --host."
        case _:
            return f"Forebay cannot listen on {host}, port {port}: {error.strerror}."


def _hand_down(settings: Settings, overrides: dict[str, dict[str, Any]]) -> None:
    """Tell the workers, which read the environment and the file, what the command line said."""
    if settings.config is not None:
        os.environ[variable("config")] = str(settings.config)
    for table, keys in overrides.items():
        for key, value in keys.items():
            os.environ[variable(table, key)] = str(value)


def _leave(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)
