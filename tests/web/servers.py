"""Real uvicorn servers in a thread of their own, and a client that speaks raw HTTP/1.1."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import uvicorn
import uvloop

from forebay.web.limits import DoorLimits
from forebay.web.protocol import protocol_with
from tests.patience import PATIENCE_SECONDS

PATIENT = DoorLimits(
    head_seconds=PATIENCE_SECONDS,
    body_stall_seconds=PATIENCE_SECONDS,
    stall_seconds=PATIENCE_SECONDS,
    half_close_seconds=0.24,
    linger_seconds=0.2,
    max_target_bytes=4096,
    max_head_bytes=16 * 1024,
    max_fields=32,
    max_pipelined=20,
)
"""No test fails because the machine stood still; who leaves is noticed soon all the same."""
HURRIED = replace(PATIENT, head_seconds=0.35, body_stall_seconds=0.25, stall_seconds=0.32)
"""For tests of the deadlines themselves."""


class ServerThread:
    """A uvicorn server on a free loopback port, with ``loop`` asyncio or uvloop.

    ``http`` is ``ours`` (with ``limits``), ``h11``, ``httptools`` or a protocol class.
    """

    def __init__(
        self,
        app: Any,
        *,
        loop: str,
        http: str | type,
        limits: DoorLimits = PATIENT,
        **config: Any,
    ) -> None:
        protocol: Any = protocol_with(limits) if http == "ours" else http
        settings = uvicorn.Config(
            app,
            host="127.0.0.1",
            port=0,
            http=protocol,
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=3,
            **{"timeout_keep_alive": int(PATIENCE_SECONDS), **config},
        )
        self.server = uvicorn.Server(settings)
        self.http = http
        self._loop_factory: Callable[[], asyncio.AbstractEventLoop] = (
            uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
        )
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=self._loop_factory) as runner:
            runner.run(self.server.serve())

    def start(self) -> None:
        self._thread.start()
        wait_until(lambda: self.server.started or not self._thread.is_alive())

    def stop(self) -> None:
        self.server.should_exit = True
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()

    @property
    def port(self) -> int:
        return int(self.server.servers[0].sockets[0].getsockname()[1])

    @property
    def connections(self) -> int:
        return len(self.server.server_state.connections)

    def connect(self, *, receive_buffer_bytes: int | None = None) -> Client:
        sock = socket.socket()
        if receive_buffer_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        sock.settimeout(PATIENCE_SECONDS)
        sock.connect(("127.0.0.1", self.port))
        return Client(sock)


@dataclass
class Response:
    """What came back; ``whole`` says whether the body's end was proved by its framing."""

    status: int
    fields: dict[str, str]
    body: bytes
    whole: bool
    raw_head: bytes


class Client:
    """One connection of a client that does nothing it is not told to do."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.file = sock.makefile("rb")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.file.close()
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def get(self, path: str, *lines: str, method: str = "GET", version: str = "1.1") -> Response:
        self.ask(path, *lines, method=method, version=version)
        return self.read(method)

    def ask(self, path: str, *lines: str, method: str = "GET", version: str = "1.1") -> None:
        head = [f"{method} {path} HTTP/{version}", "Host: cache.test", *lines, "", ""]
        self.send("\r\n".join(head).encode("latin-1"))

    def read_head(self) -> tuple[int, dict[str, str], bytes]:
        raw = b""
        while not raw.endswith(b"\r\n\r\n"):
            line = self.file.readline()
            if not line:
                raise ConnectionError(f"no head but {raw!r}")
            raw += line
        first, *rest = raw.decode("latin-1").split("\r\n")[:-2]
        fields: dict[str, str] = {}
        for line_text in rest:
            name, value = line_text.split(": ", 1)
            name = name.lower()
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
        return int(first.split(" ")[1]), fields, raw

    def read(self, method: str = "GET") -> Response:
        status, fields, raw = self.read_head()
        if method == "HEAD" or status in (204, 304) or status < 200:
            return Response(status, fields, b"", True, raw)
        if fields.get("transfer-encoding") == "chunked":
            body, whole = self._read_chunks()
        elif "content-length" in fields:
            body = self._read_at_most(int(fields["content-length"]))
            whole = len(body) == int(fields["content-length"])
        else:
            body, whole = self._read_to_end()
        return Response(status, fields, body, whole, raw)

    def _read_at_most(self, count: int) -> bytes:
        try:
            return self.file.read(count)
        except ConnectionResetError:
            return b""

    def _read_to_end(self) -> tuple[bytes, bool]:
        got = bytearray()
        try:
            while piece := self.file.read1(65536):
                got += piece
        except ConnectionResetError:
            return bytes(got), False
        return bytes(got), True

    def _read_chunks(self) -> tuple[bytes, bool]:
        got = bytearray()
        while True:
            line = self.file.readline()
            if not line.endswith(b"\r\n"):
                return bytes(got), False
            size = int(line, 16)
            piece = self._read_at_most(size)
            got += piece
            if len(piece) < size or self.file.read(2) != b"\r\n":
                return bytes(got), False
            if size == 0:
                return bytes(got), True

    def is_closed_by_peer(self) -> bool:
        """Wait for the end of the stream; true for a clean end and for a reset."""
        try:
            return self.file.read1(1) == b""
        except ConnectionResetError:
            return True


def wait_until(condition: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    """Poll until the condition holds; the generous limit is only there to end a broken test."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the awaited condition never came about"
        time.sleep(0.005)


def open_descriptors() -> dict[str, str]:
    """What this process has open, for telling leaks."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue
    return found
