"""An origin that is slow, each connection by itself, or far away: a child of the benchmark.

The kernel paces every connection (``SO_MAX_PACING_RATE``) from its first byte, unlike nginx's
``limit_rate``, which lets a second's worth of each request through at once and so flatters
whoever sends many small ranges. Serves one pattern of bytes at any path, with ranges, a strong
entity tag and kept connections. With ``think_seconds`` each head comes so much later, as from an
origin one round trip away.
"""

from __future__ import annotations

import os
import re
import socket
import socketserver
import sys
import tempfile
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

SO_MAX_PACING_RATE = 47
"""From asm-generic/socket.h; Python has no name for it."""

_RANDOM_BYTES = 64 << 20

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    body: Any
    log: Any
    size_bytes: int
    think_seconds: float

    def do_GET(self) -> None:
        """A whole body or one range of it (RFC 9110 §14.2)."""
        time.sleep(self.think_seconds)
        start, stop = 0, self.size_bytes
        match = _RANGE.fullmatch(self.headers.get("Range", ""))
        etag = f'"{self.size_bytes}"'
        if match and self.headers.get("If-Range", etag) == etag:
            start, stop = int(match[1]), min(int(match[2] or stop) + 1, stop)
            status = 206
            self.send_response(status)
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{self.size_bytes}")
        else:
            status = 200
            self.send_response(status)
        for name, value in (
            ("Content-Length", str(stop - start)),
            ("ETag", etag),
            ("Accept-Ranges", "bytes"),
            ("Cache-Control", "max-age=3600"),
        ):
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self._send(status, start, stop)

    do_HEAD = do_GET  # noqa: N815 - the base class calls it so

    def _send(self, status: int, start: int, stop: int) -> None:
        self.wfile.flush()
        position = start
        try:
            while position < stop:
                position += os.sendfile(
                    self.connection.fileno(), self.body.fileno(), position, stop - position
                )
        finally:
            # What the kernel has taken, as nginx counts: a client that leaves has not read it all.
            self.log.write(f"{self.path} {status} {position - start}\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing: the log would be the slowest part."""


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves is no event."""


def main(
    log: str, port: int, size_bytes: int, rate_bytes_per_second: int, think_seconds: float
) -> None:
    """Serve until killed. A rate of 0 is no limit."""
    with tempfile.TemporaryFile() as body, Path(log).open("w", buffering=1) as lines:
        body.write(os.urandom(min(size_bytes, _RANDOM_BYTES)))
        body.truncate(size_bytes)  # the rest are holes, and cost no disk
        body.flush()
        _Handler.body, _Handler.size_bytes = body, size_bytes
        _Handler.log, _Handler.think_seconds = lines, think_seconds
        with _Server(("127.0.0.1", port), _Handler, bind_and_activate=False) as server:
            if rate_bytes_per_second:
                # Accepted sockets inherit the rate.
                server.socket.setsockopt(
                    socket.SOL_SOCKET, SO_MAX_PACING_RATE, rate_bytes_per_second
                )
            server.server_bind()
            server.server_activate()
            server.serve_forever()


if __name__ == "__main__":
    _log, _port, _size, _rate, _think = sys.argv[1:]
    main(_log, int(_port), int(_size), int(_rate), float(_think))
