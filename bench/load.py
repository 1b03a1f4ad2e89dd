"""A load generator that costs little itself: it throws every body away inside the kernel.

``run`` starts it as a process of its own, so that its CPU time is not a server's and its
interpreter lock nobody's. It speaks just enough HTTP/1.1: GET, kept connections, bodies with
Content-Length.
"""

from __future__ import annotations

import json
import random
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

_READ_BYTES = 1 << 20
_HEAD_BYTES = 64 * 1024
_SILENCE_SECONDS = 60.0
_GOOD, _GOOD_PART = (b"http/1.1 200",), (b"http/1.1 206",)
_GOOD_PURGED = (b"http/1.1 200", b"http/1.1 404")


@dataclass(frozen=True, slots=True)
class Load:
    """``clients`` connections that fetch ``url``: once each, or again for ``seconds``.

    With ``keys`` each request asks for one of so many objects (``?key=0`` and so on), at random,
    or with ``sweep`` each of them once, until the seconds are over; ``label`` stands in place of
    ``key``. With ``range_bytes`` it asks for so many bytes at a random place of ``size_bytes``, or
    at ``range_start``. ``purge`` sends PURGE, to which 404 is an answer, too.
    """

    url: str
    clients: int = 1
    seconds: float | None = None
    keys: int = 0
    sweep: bool = False
    label: str = "key"
    range_bytes: int = 0
    range_start: int | None = None
    size_bytes: int = 0
    purge: bool = False


@dataclass(slots=True)
class Result:
    """What the clients saw. Times in seconds, counted from the common start."""

    seconds: float = 0.0
    body_bytes: int = 0
    requests: int = 0
    errors: list[str] = field(default_factory=list)
    first_byte_seconds: list[float] = field(default_factory=list)
    """For each client, when the first byte of its first body came."""
    done_seconds: list[float] = field(default_factory=list)
    """For each client, when its last response was whole."""


def run(load: Load) -> Result:
    """Make this load from a fresh process. Raises ``RuntimeError`` where a response was bad."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.load", json.dumps(asdict(load))],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    result = Result(**json.loads(done.stdout))
    if result.errors:
        raise RuntimeError(f"{load.url}: {result.errors[0]} ({len(result.errors)} such)")
    return result


class _Client:
    """One connection; ``on_readable`` moves it on. ``sweep`` gives all clients their keys."""

    def __init__(self, load: Load, result: Result, start: float, sweep: Iterator[int]) -> None:
        parts = urlsplit(load.url)
        assert parts.hostname is not None
        self._load = load
        self._result = result
        self._start = start
        self._sweep = sweep
        self._head = bytearray()
        self._left_bytes: int | None = None
        self._saw_body = False
        self._target = parts.path + (f"?{parts.query}" if parts.query else "")
        self._host = parts.netloc
        self._method = "PURGE" if load.purge else "GET"
        self._good = _GOOD_PURGED if load.purge else _GOOD_PART if load.range_bytes else _GOOD
        self._same = None if load.keys or load.range_bytes else self._request(self._target)
        self.socket = socket.create_connection((parts.hostname, parts.port or 80))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _request(self, target: str, more: str = "") -> bytes:
        return f"{self._method} {target} HTTP/1.1\r\nHost: {self._host}\r\n{more}\r\n".encode()

    def _next_request(self) -> bytes | None:
        """Nothing where the sweep is over."""
        load, target, more = self._load, self._target, ""
        if load.keys:
            key = next(self._sweep, None) if load.sweep else random.randrange(load.keys)
            if key is None:
                return None
            target += f"?{load.label}={key}"
        if load.range_bytes:
            start = load.range_start
            if start is None:
                start = random.randrange(load.size_bytes - load.range_bytes)
            more = f"Range: bytes={start}-{start + load.range_bytes - 1}\r\n"
        return self._request(target, more)

    def ask(self) -> bool:
        """Send a request; false where there is none left to send."""
        self._head.clear()
        self._left_bytes = None
        request = self._same or self._next_request()
        if request is None:
            return False
        self.socket.sendall(request)
        return True

    def on_readable(self) -> bool:
        """Take what is there; true while more is to come."""
        if self._left_bytes is None:
            return self._read_head()
        # MSG_TRUNC lets the kernel drop the bytes of a TCP stream instead of copying them.
        count = self.socket.recv_into(_BUFFER, min(self._left_bytes, _READ_BYTES), socket.MSG_TRUNC)
        return self._took(count) if count else self._fail("the body ended early")

    def _read_head(self) -> bool:
        received = self.socket.recv(_HEAD_BYTES)
        if not received:
            return self._fail("no response")
        self._head += received
        end = self._head.find(b"\r\n\r\n")
        if end < 0:
            return True
        lines = bytes(self._head[:end]).lower().split(b"\r\n")
        lengths = [line[15:] for line in lines if line.startswith(b"content-length:")]
        if not lines[0].startswith(self._good) or len(lengths) != 1:
            return self._fail(f"not what was asked for: {lines[0].decode('latin-1')}")
        self._left_bytes = int(lengths[0])
        return self._took(len(self._head) - end - 4)

    def _took(self, count: int) -> bool:
        assert self._left_bytes is not None
        self._left_bytes -= count
        self._result.body_bytes += count
        if count and not self._saw_body:
            self._saw_body = True
            self._result.first_byte_seconds.append(time.perf_counter() - self._start)
        return bool(self._left_bytes) or self._finished()

    def _finished(self) -> bool:
        self._result.requests += 1
        now = time.perf_counter() - self._start
        load = self._load
        if (load.sweep if load.seconds is None else now < load.seconds) and self.ask():
            return True
        self._result.done_seconds.append(now)
        return False

    def _fail(self, reason: str) -> bool:
        self._result.errors.append(reason)
        return False


_BUFFER = bytearray(_READ_BYTES)


def _generate(load: Load) -> Result:
    result = Result()
    start = time.perf_counter()
    sweep = iter(range(load.keys))
    clients = [_Client(load, result, start, sweep) for _ in range(load.clients)]
    with selectors.DefaultSelector() as selector:
        for client in clients:
            if client.ask():
                selector.register(client.socket, selectors.EVENT_READ, client)
        while selector.get_map():
            ready = selector.select(_SILENCE_SECONDS)
            if not ready:
                result.errors.append(f"silence for {_SILENCE_SECONDS:.0f} s")
                break
            overdue = load.seconds is not None and time.perf_counter() - start > load.seconds
            for key, _ in ready:
                # A timed load is over when its time is, in the middle of whatever body.
                if overdue or not key.data.on_readable():
                    selector.unregister(key.fileobj)
                    key.data.socket.close()
    result.seconds = time.perf_counter() - start
    return result


def main(arguments: Sequence[str]) -> None:
    """Entry point of the child: a ``Load`` as JSON in, a ``Result`` as JSON out."""
    print(json.dumps(asdict(_generate(Load(**json.loads(arguments[0]))))))


if __name__ == "__main__":
    main(sys.argv[1:])
