"""An origin that says exactly the octets it was given, in the loop of the test.

For what ``tests.fakes.origin`` is too honest to say: interim responses, fields in any spelling,
statuses nobody knows. Each path has answers of its own, given in order, the last again and again.
"""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate

from forebay.model import Fields


class SpokenOrigin:
    """Use it as an async context manager; ``asked`` has the request fields for each path."""

    def __init__(self) -> None:
        self.asked: dict[str, list[Fields]] = {}
        self._answers: dict[str, list[bytes]] = {}
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> SpokenOrigin:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._open:
            writer.transport.abort()

    def say(self, path: str, *answers: bytes) -> None:
        """What is answered under this path from now on."""
        self.asked[path] = []
        self._answers[path] = list(answers)

    def url(self, path: str = "/") -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}{path}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode("latin-1"):
                line, *rest = head.split("\r\n")[:-2]
                fields = Fields((n, v.strip()) for n, _, v in (x.partition(":") for x in rest))
                await reader.readexactly(int(fields.get("content-length") or 0))
                path = line.split(" ")[1]
                self.asked[path].append(fields)
                answers = self._answers[path]
                writer.write(answers.pop(0) if len(answers) > 1 else answers[0])
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()


def spoken(status: str, *lines: str, body: bytes = b"hello", date: str | None = "now") -> bytes:
    """A response with these lines, the length of its body, and, unless told otherwise, a Date."""
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *lines]
    if date is not None:
        head.append(f"Date: {at(0) if date == 'now' else date}")
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


def at(seconds: float) -> str:
    """The HTTP date so many seconds from now."""
    return formatdate(time.time() + seconds, usegmt=True)
