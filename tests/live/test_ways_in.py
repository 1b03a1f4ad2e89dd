"""Ways in beside paths: tunnels, and ports of a mount's own."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from tests.fakes import registries
from tests.fakes.origin import Origin
from tests.live.children import child
from tests.live.running import Running, running
from tests.patience import PATIENCE_SECONDS

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as server:
        yield server


@asynccontextmanager
async def tunnelling(directory: Path, origin: Origin, **keys: Any) -> AsyncIterator[Running]:
    table = {"hosts": ["127.0.0.1"], "ports": [origin.port], **keys}
    async with running(directory / "cache", origin, tables={"tunnel": table}) as service:
        yield service


async def connect(
    service: Running, authority: str, early: bytes = b"", line: str = ""
) -> tuple[bytes, Streams]:
    """Ask for a tunnel; the head of the answer, and the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    head = f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{line}\r\n"
    writer.write(head.encode() + early)
    return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS), (reader, writer)


def ask(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


async def leave(streams: Streams) -> None:
    streams[1].close()
    await streams[1].wait_closed()


async def test_a_tunnel_is_refused_with_a_sentence_unless_it_was_configured(
    tmp_path: Path, origin: Origin
) -> None:
    async with running(tmp_path / "cache", origin) as service:
        head, streams = await connect(service, f"127.0.0.1:{origin.port}")
        body = await asyncio.wait_for(streams[0].read(), PATIENCE_SECONDS)
        assert head.startswith(b"HTTP/1.1 405 ")
        assert "tunnel.hosts" in json.loads(body)["detail"]
        assert not origin.connections_accepted
        await leave(streams)


async def test_a_tunnel_is_for_those_who_may_download_by_url(
    tmp_path: Path, origin: Origin
) -> None:
    tables: dict[str, dict[str, Any]] = {
        "tunnel": {"hosts": ["127.0.0.1"], "ports": [origin.port]},
        "defaults": {"client_tokens": [{"name": "bob", "token": "bob-s-token"}]},
    }
    async with running(tmp_path / "cache", origin, tables=tables) as service:
        for line, status in (
            ("", b"407"),
            ("Proxy-Authorization: Bearer wrong\r\n", b"407"),
            ("Proxy-Authorization: Bearer bob-s-token\r\n", b"200"),
        ):
            head, streams = await connect(service, f"127.0.0.1:{origin.port}", line=line)
            assert head.split(b" ")[1] == status
            assert (b"proxy-authenticate: Basic" in head) == (status == b"407")
            await leave(streams)
        assert origin.connections_accepted == 1


@pytest.mark.parametrize("early", [True, False])
async def test_a_tunnel_carries_octets_both_ways(
    tmp_path: Path, origin: Origin, early: bool
) -> None:
    body = bytes(range(256)) * 8000
    origin.add("/f", body=body)
    async with tunnelling(tmp_path, origin) as service:
        first = ask("/f") if early else b""
        head, streams = await connect(service, f"127.0.0.1:{origin.port}", first)
        assert head.startswith(b"HTTP/1.1 200 ")
        reader, writer = streams
        for sent in (early, False) if early else (False, False):
            if not sent:
                writer.write(ask("/f"))
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
            assert await asyncio.wait_for(reader.readexactly(len(body)), PATIENCE_SECONDS) == body
        await leave(streams)
        await origin.wait_for_connections(0)


async def test_the_end_of_the_far_side_is_the_clients_end(tmp_path: Path, origin: Origin) -> None:
    origin.add("/f", body=b"last words", close=True)
    async with tunnelling(tmp_path, origin) as service:
        _, streams = await connect(service, f"127.0.0.1:{origin.port}", ask("/f"))
        rest = await asyncio.wait_for(streams[0].read(), PATIENCE_SECONDS)
        assert rest.endswith(b"last words")
        await leave(streams)


@pytest.mark.parametrize(
    ("authority", "status"),
    [
        ("127.0.0.1:1", 403),
        ("other.example:{port}", 403),
        ("127.0.0.1", 400),
        ("127.0.0.1:0", 400),
        ("a b:{port}", 400),
    ],
)
async def test_a_tunnel_leads_where_the_lists_say_and_nowhere_else(
    tmp_path: Path, origin: Origin, authority: str, status: int
) -> None:
    async with tunnelling(tmp_path, origin) as service:
        head, streams = await connect(service, authority.format(port=origin.port))
        assert int(head.split(b" ")[1]) == status
        await leave(streams)
        assert not origin.connections_accepted


async def test_a_tunnel_never_leads_to_a_network_that_is_not_public_or_back_to_us(
    tmp_path: Path, origin: Origin
) -> None:
    closed = {"allow_networks": [], "connect_timeout": 2.0}
    tables = {"tunnel": {"hosts": ["*"], "ports": [origin.port, 1]}, "upstream": closed}
    async with running(tmp_path / "cache", origin, tables=tables) as service:
        head, streams = await connect(service, f"127.0.0.1:{origin.port}")
        assert head.startswith(b"HTTP/1.1 403 ")
        await leave(streams)
    # ``running`` tells the service that it listens on port 1.
    async with tunnelling(tmp_path, origin, ports=[1]) as service:
        head, streams = await connect(service, "127.0.0.1:1")
        assert head.startswith(b"HTTP/1.1 403 ")
        await leave(streams)


async def test_a_far_side_that_refuses_is_told_as_such(tmp_path: Path, origin: Origin) -> None:
    async with tunnelling(tmp_path, origin) as service:
        origin.refuse_connections()
        head, streams = await connect(service, f"127.0.0.1:{origin.port}")
        assert head.startswith(b"HTTP/1.1 502 ")
        await leave(streams)


async def test_a_silent_tunnel_is_closed(tmp_path: Path, origin: Origin) -> None:
    async with tunnelling(tmp_path, origin, idle_timeout="50ms") as service:
        _, streams = await connect(service, f"127.0.0.1:{origin.port}")
        assert await asyncio.wait_for(streams[0].read(), PATIENCE_SECONDS) == b""
        await leave(streams)
        await origin.wait_for_connections(0)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_a_mount_with_a_port_of_its_own_has_every_path_there(
    tmp_path: Path, origin: Origin
) -> None:
    image = registries.registry(origin)
    origin.add("/-/ping", body=b"{}")
    origin.add("/livez", body=b"the registry's own")
    ports = free_port(), free_port()
    config = tmp_path / "forebay.toml"
    mounts = [
        {"name": "hub", "preset": "oci", "upstream": origin.url("/"), "listen": f":{ports[0]}"},
        {"name": "npm", "preset": "npm", "upstream": origin.url("/"), "listen": f":{ports[1]}"},
    ]
    await asyncio.to_thread(config.write_text, tomli_w.dumps({"mounts": mounts}))
    arguments = ("--workers", "2")
    async with child(tmp_path / "cache", origin, *arguments, config=config) as service:
        hub = Running(ports[0], origin, service.cache)
        assert (await hub.get("/v2/")).body == b"{}"
        path = f"/v2/library/mill/blobs/sha256:{image.layer.sha256}"
        for _ in range(2):
            assert (await hub.get(path)).body == image.layer.body
        named = f"/v2/hub/library/mill/blobs/sha256:{image.layer.sha256}"
        assert (await service.get(named)).body == image.layer.body
        assert len([r for r in origin.requests if r.path == path]) == 1
        npm = Running(ports[1], origin, service.cache)
        assert (await npm.get("/-/ping")).body == b"{}"
        assert (await npm.get("/livez")).body == b"the registry's own"
        assert (await service.get("/-/ping")).status == 401
        assert await service.end() == 0


async def test_the_same_octets_at_two_ports_are_two_requests(
    tmp_path: Path, origin: Origin
) -> None:
    fresh = [("cache-control", "max-age=600")]
    for name in ("a", "b"):
        origin.add(f"/{name}/f", body=name.encode(), etag=f'"{name}"', headers=fresh)
    ports = free_port(), free_port()
    mounts = [
        {"name": name, "upstream": origin.url(f"/{name}/"), "listen": f":{port}"}
        for name, port in zip("ab", ports, strict=True)
    ]
    config = tmp_path / "forebay.toml"
    await asyncio.to_thread(config.write_text, tomli_w.dumps({"mounts": mounts}))
    async with child(tmp_path / "cache", origin, config=config):
        for _ in range(3):
            for name, port in zip("ab", ports, strict=True):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET /f HTTP/1.1\r\nHost: cache\r\n\r\n")
                await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
                assert await reader.readexactly(1) == name.encode()
                await leave((reader, writer))


@pytest.mark.parametrize("listen", ["x", ":0", ":70000", "a:b:5", ":8000"])
async def test_a_port_that_cannot_be_is_refused_at_start(
    tmp_path: Path, origin: Origin, listen: str
) -> None:
    mount = {"name": "m", "upstream": origin.url("/"), "listen": listen}
    with pytest.raises(Exception, match=r"listens? on"):
        async with running(
            tmp_path / "cache", origin, mounts=[mount], tables={"server": {"port": 8000}}
        ):
            pass
