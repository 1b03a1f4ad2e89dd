"""Sockets that listen before anything slow is done, and why one cannot."""

from __future__ import annotations

import errno
import socket
import stat
from pathlib import Path

from forebay.cli.common import fail
from forebay.settings.access import Address


def listening_socket(host: str, port: int, backlog: int, option: str = "--port") -> socket.socket:
    """A socket that listens there already, so that no second server can take the place.

    Where that cannot be, say why in one sentence, which names ``option``, and end with exit
    status 1.
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
        fail(_why_not(error, host, port, option))
    listener.setblocking(False)
    return listener


def admin_socket(address: Address, backlog: int) -> socket.socket:
    """The socket of the admin side's own address; a unix socket is its owner's alone."""
    if address.path is None:
        return listening_socket(address.host, address.port, backlog, "admin.listen")
    _remove_left_behind(address.path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(address.path))
        # Nobody can connect before it listens, so that there is no moment for others.
        address.path.chmod(0o600)
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        fail(f"Forebay cannot listen on {address.path}: {error.strerror}. Look at admin.listen.")
    listener.setblocking(False)
    return listener


def _remove_left_behind(path: Path) -> None:
    """Remove the socket of a server that is gone; where one answers there, say so and end."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            fail(f"{path} is there and is no socket. Look at admin.listen.")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            fail(f"Forebay cannot listen on {path}: {error.strerror}. Look at admin.listen.")
    fail(f"Another program listens on {path}. Stop that one, or change admin.listen.")


def _why_not(error: OSError, host: str, port: int, option: str) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"Port {port} on {host} is taken by another program. Stop that one, or choose "
                f"another port with {option} (0 takes a free one)."
            )
        case errno.EACCES:
            return f"Port {port} needs privileges. Choose one above 1023 with {option}."
        case errno.EADDRNOTAVAIL:
            look = "--host" if option == "--port" else option
            return f"No interface of this machine has the address {host}; look at {look}."
        case _:
            return f"Forebay cannot listen on {host}, port {port}: {error.strerror}."
