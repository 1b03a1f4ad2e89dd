"""The whole service on a real port, in the test's own event loop, with a scripted origin."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w
import uvicorn

from forebay.app import create_app
from forebay.settings import load
from forebay.upstream.resolver import Resolver
from forebay.web.limits import DoorLimits
from forebay.web.protocol import protocol_with
from tests.fakes.origin import Origin
from tests.patience import PATIENCE_SECONDS

TOKEN = "a-token-for-tests"


@dataclass(slots=True)
class Answer:
    """What a client got; ``whole`` says whether the framing proved the end of the body."""

    status: int
    fields: dict[str, str]
    body: bytes
    whole: bool

    @property
    def cache_status(self) -> str:
        return self.fields.get("cache-status", "")

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class Download:
    """A response that is being read piece by piece over a connection of its own."""

    status: int
    fields: dict[str, str]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    body: bytearray = field(default_factory=bytearray)

    async def read_until(self, count: int) -> bytes:
        """Read on until this many bytes of the body have come, or it ends."""
        while len(self.body) < count:
            piece = await asyncio.wait_for(self.reader.read(65536), PATIENCE_SECONDS)
            if not piece:
                break
            self.body += piece
        return bytes(self.body)

    def leave(self) -> None:
        """Reset the connection, as for a client that is killed with bytes unread."""
        reset(self.writer)


def reset(writer: asyncio.StreamWriter) -> None:
    """Close at once with RST, whatever has been read."""
    if not writer.transport.is_closing():
        sock = writer.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Running:
    """A running service: ask it things as clients do."""

    def __init__(self, port: int, origin: Origin, cache: Path) -> None:
        self.port = port
        self.origin = origin
        self.cache = cache
        self.downloads: list[Download] = []

    def path(self, path: str) -> str:
        """The URL-in-path form of something at the origin."""
        return "/" + self.origin.url(path)

    async def start(
        self, path: str, *lines: str, method: str = "GET", body: bytes = b""
    ) -> Download:
        """Send a request on a new connection and read the head of the answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**16)
        head = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", "Connection: close"]
        if body:
            head.append(f"Content-Length: {len(body)}")
        writer.write("\r\n".join([*head, *lines, "", ""]).encode("latin-1") + body)
        raw = b"HTTP/1.1 1"
        try:
            while raw.startswith(b"HTTP/1.1 1"):  # interim responses say nothing of this one
                raw = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
        except BaseException:
            writer.transport.abort()
            raise
        first, *rest = raw.decode("latin-1").split("\r\n")[:-2]
        fields: dict[str, str] = {}
        for line in rest:
            name, value = line.split(": ", 1)
            name = name.lower()
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
        download = Download(int(first.split(" ")[1]), fields, reader, writer)
        self.downloads.append(download)
        return download

    async def get(self, path: str, *lines: str, method: str = "GET", body: bytes = b"") -> Answer:
        """A whole request and its answer; ``path`` as it is to stand in the request line."""
        download = await self.start(path, *lines, method=method, body=body)
        try:
            return await _read_body(download, method)
        finally:
            download.writer.close()
            with contextlib.suppress(ConnectionError):
                await download.writer.wait_closed()

    async def fetch(self, path: str, *lines: str, method: str = "GET") -> Answer:
        """The same for something at the origin, by URL in path."""
        return await self.get(self.path(path), *lines, method=method)

    async def admin(self, path: str, order: dict[str, Any] | None = None) -> Answer:
        """An order or a question to the admin side, with the token."""
        token = f"Authorization: Bearer {TOKEN}"
        if order is None:
            return await self.get(path, token)
        content = "Content-Type: application/json"
        return await self.get(path, token, content, method="POST", body=json.dumps(order).encode())


async def _read_body(download: Download, method: str) -> Answer:
    fields, status, reader = download.fields, download.status, download.reader
    whole, body = True, b""
    if method == "HEAD" or status in {204, 304}:
        pass
    elif fields.get("transfer-encoding") == "chunked":
        body, whole = await _read_chunks(reader)
    elif "content-length" in fields:
        length = int(fields["content-length"])
        try:
            body = await asyncio.wait_for(reader.readexactly(length), PATIENCE_SECONDS)
        except asyncio.IncompleteReadError as error:
            body, whole = error.partial, False
        except ConnectionError:
            whole = False
    else:
        body = await asyncio.wait_for(reader.read(-1), PATIENCE_SECONDS)
    return Answer(status, fields, body, whole)


async def _read_chunks(reader: asyncio.StreamReader) -> tuple[bytes, bool]:
    body = b""
    try:
        while size := int(await asyncio.wait_for(reader.readuntil(b"\r\n"), PATIENCE_SECONDS), 16):
            body += (await asyncio.wait_for(reader.readexactly(size + 2), PATIENCE_SECONDS))[:-2]
        await reader.readexactly(2)
    except (asyncio.IncompleteReadError, ConnectionError):
        return body, False
    return body, True


def _mounts_file(directory: Path, mounts: list[dict[str, Any]]) -> Path:
    """A config file beside the cache directory: mounts can be named nowhere else."""
    file = directory.with_suffix(".toml")
    file.write_text(tomli_w.dumps({"mounts": mounts}))
    return file


@contextlib.asynccontextmanager
async def running(
    directory: Path,
    origin: Origin,
    *,
    tables: dict[str, dict[str, Any]] | None = None,
    mounts: list[dict[str, Any]] | None = None,
    protocol: Any = None,
    resolver: Resolver | None = None,
    server: dict[str, Any] | None = None,
) -> AsyncIterator[Running]:
    """Start the service with a cache in this directory, and stop it gracefully at the end.

    ``server`` goes to uvicorn's own settings.
    """
    overrides: dict[str, Any] = {
        "cache": {"dir": str(directory), "min_free": 0},
        "admin": {"token": TOKEN},
        "server": {"port": 1},
        "upstream": {
            "allow_networks": ["127.0.0.0/8"],
            "allow_ports": list(range(1024, 65536)),
            "connect_timeout": PATIENCE_SECONDS,
            "stall_timeout": PATIENCE_SECONDS,
        },
    }
    for name, table in (tables or {}).items():
        overrides[name] = {**overrides.get(name, {}), **table}
    file = await asyncio.to_thread(_mounts_file, directory, mounts) if mounts else None
    config = uvicorn.Config(
        await asyncio.to_thread(lambda: create_app(load(file, overrides), resolver=resolver)),
        host="127.0.0.1",
        port=0,
        http=protocol or protocol_with(DoorLimits()),
        loop="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        date_header=False,
        timeout_graceful_shutdown=2,
        **(server or {}),
    )
    # The steps of ``Server.serve``, less the loop that looks for a signal ten times a second.
    config.load()
    running_server = uvicorn.Server(config)
    running_server.lifespan = config.lifespan_class(config)
    await running_server.startup()
    try:
        service = Running(running_server.servers[0].sockets[0].getsockname()[1], origin, directory)
        yield service
        for download in service.downloads:
            download.leave()
    finally:
        await running_server.shutdown()
