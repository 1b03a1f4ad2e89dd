"""An origin whose connections are slow, each by itself: a child process of the benchmark.

The kernel paces every connection (``SO_MAX_PACING_RATE``) from its first byte, unlike nginx's
``limit_rate``, which lets a second's worth of each request through at once and so flatters
whoever sends many small ranges. Serves one pattern of bytes at any path, with ranges, a strong
entity tag and kept connections.
"""

from __future__ import annotations

import os
import re
import socket
import socketserver
import sys
import tempfile
from http.server import BaseHTTPRequestHandler
from typing import Any

SO_MAX_PACING_RATE = 47
"""From asm-generic/socket.h; Python has no name for it."""

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    body: Any
    size_bytes: int

    def do_GET(self) -> None:
        """A whole body or one range of it (RFC 9110 §14.2)."""
        start, stop = 0, self.size_bytes
        match = _RANGE.fullmatch(self.headers.get("Range", ""))
        etag = f'"{self.size_bytes}"'
        if match and self.headers.get("If-Range", etag) == etag:
            start, stop = int(match[1]), min(int(match[2] or stop) + 1, stop)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{self.size_bytes}")
        else:
            self.send_response(200)
        for name, value in (
            ("Content-Length", str(stop - start)),
            ("ETag", etag),
            ("Accept-Ranges", "bytes"),
            ("Cache-Control", "max-age=3600"),
        ):
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self._send(start, stop)

    do_HEAD = do_GET  # noqa: N815 - the base class calls it so

    def _send(self, start: int, stop: int) -> None:
        self.wfile.flush()
        while start < stop:
            start += os.sendfile(self.connection.fileno(), self.body.fileno(), start, stop - start)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing: the log would be the slowest part."""


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves is no event."""


def main(port: int, size_bytes: int, rate_bytes_per_second: int) -> None:
    """Serve until killed."""
    with tempfile.TemporaryFile() as body:
        block = os.urandom(1 << 20)
        for _ in range(-(-size_bytes // len(block))):
            body.write(block)
        body.truncate(size_bytes)
        body.flush()
        _Handler.body, _Handler.size_bytes = body, size_bytes
        with _Server(("127.0.0.1", port), _Handler, bind_and_activate=False) as server:
            # Accepted sockets inherit the rate.
            server.socket.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, rate_bytes_per_second)
            server.server_bind()
            server.server_activate()
            server.serve_forever()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
