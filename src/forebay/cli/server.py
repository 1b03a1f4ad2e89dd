"""Running uvicorn in this process or in workers, on a socket that listens already."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import logging
import os
import signal
import socket
import ssl
import sys
from pathlib import Path
from typing import Any

import typer
import uvicorn
from uvicorn.supervisors import Multiprocess

from forebay.app import create_app, door_limits
from forebay.cli.banner import banner
from forebay.cli.common import fail
from forebay.errors import StoreError
from forebay.settings import Settings
from forebay.settings.access import parse_address
from forebay.store.layout import Layout
from forebay.store.lock import DirectoryLock
from forebay.web.limits import AdminAddress
from forebay.web.protocol import ForebayHttpProtocol, protocol_with
from forebay.web.tls import Certificates

logger = logging.getLogger("forebay")

WORKER_APPLICATION = "forebay.app:app"
WORKER_PROTOCOL = "forebay.cli.worker:Protocol"


def admin_address(settings: Settings) -> AdminAddress | None:
    """Where the admin side listens, as its connections will know it."""
    if settings.admin.listen is None:
        return None
    address = parse_address(settings.admin.listen)
    if address.path is not None:
        return AdminAddress(path=str(address.path))
    if address.port != settings.server.port:
        return AdminAddress(address.port)
    # The same port at two addresses of this machine: a host name will not tell them apart.
    return AdminAddress(address.port, str(ipaddress.ip_address(address.host)))


def protocol_for(settings: Settings) -> type[ForebayHttpProtocol]:
    """The protocol class for these settings."""
    return protocol_with(door_limits(settings), admin_address(settings))


class _TlsContext:
    """What gives a server its context, and keeps it up to date; an object without state until
    then, so that it reaches worker processes."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = (certificate, key)
        self._upkeep: asyncio.Task[None] | None = None

    def __call__(self, _config: uvicorn.Config, _default: Any) -> ssl.SSLContext:
        """The context; called in the loop that serves with it."""
        certificates = Certificates(*self._files)
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ValueError, RuntimeError):  # Only a main thread hears signals.
            loop.add_signal_handler(signal.SIGHUP, certificates.reload)

        self._upkeep = loop.create_task(certificates.keep_up())
        return certificates.context


def _tls(settings: Settings) -> _TlsContext | None:
    """Raises ``ValueError`` or ``OSError`` for files that nothing can be served with."""
    certificate, key = settings.tls.certificate, settings.tls.key
    if certificate is None or key is None:
        return None
    Certificates(certificate, key)
    return _TlsContext(certificate, key)


def _uvicorn_config(settings: Settings, application: Any, protocol: Any) -> uvicorn.Config:
    server = settings.server
    return uvicorn.Config(
        application,
        http=protocol,
        ws="none",
        lifespan="on",
        interface="asgi3",
        workers=server.workers,
        backlog=server.backlog,
        timeout_keep_alive=int(server.idle_timeout),
        timeout_graceful_shutdown=int(server.stop_timeout),
        # Date and Server are the upstream's; the log line is our own; and X-Forwarded-For is
        # anyone's invention unless a trusted proxy sent it: our own ``web.proxies`` sees to that.
        date_header=False,
        server_header=False,
        access_log=False,
        proxy_headers=False,
        ssl_context_factory=_tls(settings),
        log_config=log_config(server.log_level),
    )


def log_config(level: str) -> dict[str, Any]:
    """Lines for a person: time, level, message. uvicorn is heard when something is wrong."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "plain": {
                "()": "forebay.web.log.TimedFormatter",
                "fmt": "%(asctime)s %(levelname)-7s %(message)s",
                "datefmt": "%Y-%m-%d %H:%M:%S",
            }
        },
        "handlers": {"stderr": {"class": "forebay.web.log.BatchingHandler", "formatter": "plain"}},
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {
            "forebay": {"level": level.upper()},
            "uvicorn": {"level": "DEBUG" if level == "debug" else "WARNING"},
        },
    }


class _Server(uvicorn.Server):
    """uvicorn's server, which says when it is ready and when it begins to stop."""

    def __init__(self, config: uvicorn.Config, text: str, stop_timeout_seconds: float) -> None:
        super().__init__(config)
        self._text = text
        self._stop_timeout_seconds = stop_timeout_seconds

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            # What has been made until now stays, and no collection need look at it again: each
            # would hold up all clients for as long as the whole of it takes, some 20 ms.
            gc.freeze()
            gc.enable()
            self._hear_hangup()
            _say(self._text)

    def _hear_hangup(self) -> None:
        """A terminal that is closed stops us as SIGTERM does; without one, SIGHUP is from somebody
        who is used to servers that read their settings again, and must not cut downloads."""
        if self.config.ssl_context_factory is not None:
            return  # It reads the certificates again.
        if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
            return  # nohup
        stops = any(map(os.isatty, range(3)))  # None is one any more when the signal comes.
        with contextlib.suppress(ValueError, RuntimeError):
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGHUP, self._hang_up, stops)

    def _hang_up(self, stops: bool) -> None:
        if stops:
            self.should_exit = True
        else:
            logger.warning(
                "SIGHUP changes nothing: settings are read at the start. Restart to have them "
                "read; what is stored and half fetched stays."
            )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self.server_state.tasks:
            count = len(self.server_state.tasks)
            _say(
                f"Stopping: {count} {'response' if count == 1 else 'responses'} may take up to "
                f"{self._stop_timeout_seconds:.0f} s more; Ctrl-C cuts them."
            )
        await super().shutdown(sockets)
        for handler in logging.getLogger().handlers:
            handler.flush()  # so that nothing is logged by one who says that it has stopped
        _say("Stopped.")


def run_here(settings: Settings, listeners: list[socket.socket]) -> None:
    """Serve in this process until a signal; where the service cannot be made, say why and end.

    Collects cyclic garbage from when it serves, whether or not that was switched off before.
    """
    try:
        config = _uvicorn_config(settings, create_app(settings), protocol_for(settings))
    except (OSError, ValueError) as error:
        fail(_why_not(settings, error))
    _Server(config, banner(settings), settings.server.stop_timeout).run(sockets=listeners)


def run_workers(settings: Settings, listeners: list[socket.socket]) -> None:
    """Serve in worker processes, which read the settings from the environment.

    The directory is taken here as well, so that it is refused before anything else is said, and
    stays taken while workers come and go.
    """
    gc.enable()
    try:
        config = _uvicorn_config(settings, WORKER_APPLICATION, WORKER_PROTOCOL)
    except (OSError, ValueError) as error:
        fail(_why_not(settings, error))
    lock = _take_directory(settings.cache.dir)
    supervisor = Multiprocess(config, sockets=listeners)
    _say(banner(settings))
    supervisor.run()
    lock.release()
    _say("Stopped.")
    if any(process.exitcode not in {0, -signal.SIGTERM} for process in supervisor.processes):
        raise typer.Exit(1)


def _take_directory(directory: Path) -> DirectoryLock:
    lock = DirectoryLock(Layout(directory).lock)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock.acquire(shared=True)
    except StoreError as error:
        fail(error.detail)
    except OSError as error:
        fail(_useless(directory, error))
    return lock


def _why_not(settings: Settings, error: OSError | ValueError) -> str:
    """Why the service cannot be made, and what to do where that is clear."""
    directory = settings.cache.dir
    if isinstance(error, OSError) and error.filename is not None:
        path = Path(os.fsdecode(error.filename))
        if path == directory or directory in path.parents or path in directory.parents:
            return _useless(directory, error)
        return f"Forebay cannot start: {path}: {error.strerror}."
    return f"Forebay cannot start: {error}."


def _useless(directory: Path, error: OSError) -> str:
    return (
        f"The cache directory {directory.absolute()} cannot be used: {error.strerror or error}. "
        "Let this user write there, or name another with --cache-dir."
    )


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # The terminal may be gone.
        sys.stdout.write(text.rstrip("\n") + "\n")
        sys.stdout.flush()
