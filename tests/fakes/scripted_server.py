"""An HTTP server whose every answer is written out by the test, octet by octet."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.patience import PATIENCE_SECONDS

Answer = bytes | Callable[["Asked"], bytes]
"""What is sent, after which the connection is closed."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came; names of fields in lower case."""

    line: str
    fields: dict[str, str]
    body: bytes


@dataclass(slots=True)
class ScriptedServer:
    """Gives its answers in order, the last one again and again, and keeps what was asked."""

    url: str
    answers: list[Answer]
    asked: list[Asked] = field(default_factory=list)

    def answer(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            asked = _read(stream)
            if asked is None:
                return
            self.asked.append(asked)
            answer = self.answers[min(len(self.asked), len(self.answers)) - 1]
            connection.sendall(answer if isinstance(answer, bytes) else answer(asked))


@contextlib.contextmanager
def scripted_server(*answers: Answer) -> Iterator[ScriptedServer]:
    """A server on loopback that runs while the block does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        server = ScriptedServer(f"http://127.0.0.1:{listener.getsockname()[1]}", list(answers))
        stop = threading.Event()
        thread = threading.Thread(target=_serve, args=(listener, server, stop))
        thread.start()
        try:
            yield server
        finally:
            stop.set()
            thread.join()


def _serve(listener: socket.socket, server: ScriptedServer, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        connection.settimeout(PATIENCE_SECONDS)
        with contextlib.suppress(OSError):
            server.answer(connection)


def _read(stream: object) -> Asked | None:
    readline = stream.readline  # type: ignore[attr-defined]
    line = readline().decode("latin-1").rstrip("\r\n")
    if not line:
        return None
    fields = {}
    while head := readline().decode("latin-1").rstrip("\r\n"):
        name, _, value = head.partition(":")
        fields[name.lower()] = value.strip()
    body = stream.read(int(fields.get("content-length", 0)))  # type: ignore[attr-defined]
    return Asked(line, fields, body)


def response(status: str, body: bytes = b"", **fields: str) -> bytes:
    """A response with these fields (``_`` stands for ``-``) and a true Content-Length,
    unless ``Content_Length`` says otherwise."""
    told = {"Content_Length": str(len(body)), "Connection": "close"} | fields
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in told.items()]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode("latin-1") + body
