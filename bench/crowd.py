"""A crowd in a process of its own: clients that rest, and clients that read slowly.

``with attached(idle_url, slow_url, count):`` has ``count`` connections that have got ``idle_url``
and stay, and ``count`` that have asked for ``slow_url`` and take a little of it now and then.
"""

from __future__ import annotations

import contextlib
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

_SIP_BYTES = 16 * 1024
_ROUND_SECONDS = 2.0
"""In each round every slow client takes a sip: 8 KiB/s, a bad telephone line."""
_BATCH = 50


@contextlib.contextmanager
def attached(idle_url: str, slow_url: str, count: int) -> Iterator[None]:
    """Both kinds of clients at this server while the block runs. Raises ``RuntimeError``."""
    command = [sys.executable, "-m", "bench.crowd", idle_url, slow_url, str(count)]
    with subprocess.Popen(
        command,
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if process.stdout.readline() != "attached\n":
                raise RuntimeError("the crowd did not get in")
            yield
            if process.poll() is not None:
                raise RuntimeError("the crowd was thrown out")
        finally:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()


def _ask(url: str) -> socket.socket:
    parts = urlsplit(url)
    assert parts.hostname is not None
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SIP_BYTES)
    client.settimeout(30)
    client.connect((parts.hostname, parts.port or 80))
    client.sendall(f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
    return client


def _rest(url: str) -> socket.socket:
    """A client that has read its answer and keeps the connection."""
    client = _ask(url)
    got = b""
    while b"\r\n\r\n" not in got:
        got += client.recv(65536)
    head, _, body = got.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    left = next(int(line[15:]) for line in lines if line.startswith(b"content-length:")) - len(body)
    while left > 0:
        left -= len(client.recv(min(left, 65536)))
    return client


def _sip(clients: list[socket.socket]) -> None:
    for client in clients:
        if not client.recv(_SIP_BYTES):
            raise SystemExit("a slow client was thrown out")


def main(arguments: list[str]) -> None:
    """Entry point of the child; it ends with its standard input."""
    idle_url, slow_url, count = arguments[0], arguments[1], int(arguments[2])
    resting = [_rest(idle_url) for _ in range(count)]
    slow = [_ask(slow_url) for _ in range(count)]
    _sip(slow)
    print("attached", flush=True)
    while True:
        for start in range(0, count, _BATCH):
            pause = _ROUND_SECONDS * _BATCH / count
            if select.select([sys.stdin], [], [], pause)[0]:
                return
            _sip(slow[start : start + _BATCH])
        if select.select(resting, [], [], 0)[0]:
            raise SystemExit("a client that rested was thrown out")


if __name__ == "__main__":
    main(sys.argv[1:])
