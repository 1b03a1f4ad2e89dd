"""SSRF and loops, over sockets: each way to an address, each time it is asked (FIELD.md I3)."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from forebay.upstream.resolver import Resolver
from tests.fakes.origin import Origin
from tests.live.children import child
from tests.live.running import running

Tables = dict[str, dict[str, Any]]

MAX_AGE = ("cache-control", "max-age=600")
DEFAULTS: Tables = {"upstream": {"allow_networks": []}}
"""Any port, and public addresses only: the network is what refuses here."""


class Names:
    """A name server of the test's own; ``answers`` are given in turn, the last again and again."""

    def __init__(self) -> None:
        self.answers: dict[str, list[tuple[str, ...]]] = {}
        self.asked: list[str] = []

    def __call__(self, host: str) -> tuple[str, ...]:
        self.asked.append(host)
        answers = self.answers.get(host)
        if not answers:
            raise OSError("no such name")
        return answers.pop(0) if len(answers) > 1 else answers[0]


@pytest.fixture
def names() -> Names:
    return Names()


def ways(url: str) -> list[str]:
    """Each way in which a client can name this address."""
    return [f"/{url}", f"/-/fetch?url={quote(url, safe='')}", url]


ROOMS = [
    "127.0.0.1", "127.255.255.254", "10.0.0.1", "172.31.255.255", "192.168.0.1", "100.64.0.1",
    "100.127.255.255", "169.254.169.254", "168.63.129.16", "192.0.0.192", "0.0.0.0", "0.1.2.3",
    "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.51.100.1",
    "203.0.113.1", "198.18.0.1", "192.88.99.1",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::127.0.0.1",
    "64:ff9b:1::1", "2002:7f00:1::", "2001::1", "2001:db8::1", "3fff::1", "fc00::1", "fe80::1",
    "fec0::1", "ff02::1", "100::1", "5f00::1",
]  # fmt: skip


async def test_no_way_leads_to_an_address_that_is_not_public_by_literal_or_name(
    tmp_path: Path, origin: Origin, names: Names, no_leaks: None
) -> None:
    async with running(
        tmp_path / "cache", origin, tables=DEFAULTS, resolver=Resolver(lookup=names)
    ) as service:
        said = set()
        for number, address in enumerate(ROOMS):
            host = f"room{number}.example"
            names.answers[host] = [(address,)]
            literal = f"[{address}]" if ":" in address else address
            for spelled in (literal, host, host + ".", host.upper()):
                for way in ways(f"http://{spelled}:{origin.port}/f"):
                    answer = await service.get(way)
                    assert answer.status == 403, (way, answer.body)
                    said.add(str(answer.json()["detail"]))
        assert len(said) == 1
    assert origin.connections_accepted == 0


ODD = [
    "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", "127.0.1", "127.0.0.1.",
    "127.0.0.0x1", "00127.0.0.1", "127%2e0%2e0%2e1", "127。0。0。1", "127．0．0．1", "①27.0.0.1",
    "１２７.0.0.1", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:127.0.0.1]", "[::1%25lo]", "[::1%lo]",
    "example.org@127.0.0.1", "127.0.0.1\\@example.org", "example.org%40127.0.0.1",
    "127.0.0.1%00.example.org", "127.0.0.1%09", "127.0.0.1\t", "localhost", "LocalHost.",
    "metadata.google.internal", "metadata.google.internal.", "METADATA", "instance-data",
]  # fmt: skip


async def test_no_spelling_gets_past_the_guard(
    tmp_path: Path, origin: Origin, names: Names
) -> None:
    for local in ("localhost", "127.0.0.1", "2130706433", "127.1"):
        names.answers[local] = [("127.0.0.1",)]
    resolver = Resolver(lookup=names)
    async with running(tmp_path / "cache", origin, tables=DEFAULTS, resolver=resolver) as service:
        for host in ODD:
            url = f"http://{host}:{origin.port}/f"
            octets = url.encode().decode("latin-1")
            for way in (f"/{octets}", f"/-/fetch?url={quote(url, safe='')}", octets):
                answer = await service.get(way)
                assert answer.status in {400, 403, 404}, (way, answer.body)
    assert origin.connections_accepted == 0


async def test_one_private_address_among_public_ones_is_enough(
    tmp_path: Path, origin: Origin, names: Names
) -> None:
    mixed = [("8.8.8.8", "127.0.0.1"), ("127.0.0.1", "8.8.8.8"), ("2606:4700::1", "::1")]
    async with running(
        tmp_path / "cache", origin, tables=DEFAULTS, resolver=Resolver(lookup=names)
    ) as service:
        for number, addresses in enumerate(mixed):
            names.answers[f"mixed{number}.example"] = [addresses]
            answer = await service.get(f"/http://mixed{number}.example:{origin.port}/f")
            assert answer.status == 403
    assert origin.connections_accepted == 0


ONE_OPEN: Tables = {"upstream": {"allow_networks": ["127.0.0.1/32"]}}


async def test_a_name_is_resolved_once_and_connected_to_what_was_checked(
    tmp_path: Path, origin: Origin, names: Names, no_leaks: None
) -> None:
    """Rebinding: what the name says the second time, between check and connection, is not asked."""
    names.answers["rebind.example"] = [("127.0.0.1",), ("127.0.0.2",)]
    origin.add("/f", body=b"checked", headers=[MAX_AGE])
    async with running(
        tmp_path / "cache", origin, tables=ONE_OPEN, resolver=Resolver(lookup=names)
    ) as service:
        url = f"/http://rebind.example:{origin.port}"
        assert (await service.get(f"{url}/f")).body == b"checked"
        assert names.asked == ["rebind.example"]
        assert origin.requests[0].fields.get("host") == f"rebind.example:{origin.port}"


async def test_each_hop_and_each_retry_is_checked_anew(
    tmp_path: Path, origin: Origin, names: Names, no_leaks: None
) -> None:
    names.answers["hop.example"] = [("127.0.0.2",)]
    origin.add("/name", redirect_to=f"http://hop.example:{origin.port}/f")
    origin.add("/literal", redirect_to=f"http://127.0.0.2:{origin.port}/f")
    origin.add("/metadata", redirect_to="http://169.254.169.254/latest/meta-data/")
    origin.add("/scheme", redirect_to="file:///etc/passwd")
    origin.add("/twice", redirect_to="/name")
    resolver = Resolver(lookup=names)
    led = {"/name": 403, "/literal": 403, "/metadata": 403, "/scheme": 502, "/twice": 403}
    async with running(tmp_path / "cache", origin, tables=ONE_OPEN, resolver=resolver) as service:
        for path, status in led.items():
            assert (await service.fetch(path)).status == status, path
        # It was open, its connections are gone, and now it says something else.
        names.answers["turn.example"] = [("127.0.0.1",), ("127.0.0.2",)]
        origin.add("/f", body=b"ok", headers=[("cache-control", "no-store")], close=True)
        turn = f"/http://turn.example:{origin.port}/f"
        assert (await service.get(turn)).body == b"ok"
        resolver.forget("turn.example")
        assert (await service.get(turn)).status == 403


async def test_a_mirror_that_redirects_away_is_not_followed_to_a_private_place(
    tmp_path: Path, origin: Origin, no_leaks: None
) -> None:
    async with Origin() as other:
        origin.add("/f", redirect_to="http://10.0.0.1/f")
        other.add("/f", body=b"mirror", headers=[MAX_AGE])
        mounts = [{"name": "two", "upstreams": [origin.url("/"), other.url("/")]}]
        async with running(tmp_path / "cache", origin, tables=DEFAULTS, mounts=mounts) as service:
            assert (await service.get("/two/f")).status in {200, 403}
            assert origin.requests


async def test_its_own_address_is_refused_to_everybody_however_named(
    tmp_path: Path, origin: Origin
) -> None:
    config = tmp_path / "forebay.toml"
    with socket.create_server(("127.0.0.1", 0)) as free:
        own = free.getsockname()[1]
    text = (
        f"[server]\nport = {own}\n[upstream]\nallow_ports = [{own}, {origin.port}]\n"
        f'[[mounts]]\nname = "me"\nupstream = "http://localhost:{own}/"\n'
    )
    config.write_text(text)
    async with child(tmp_path / "b", origin, "--port", str(own), config=config) as service:
        origin.add("/home", redirect_to=f"http://127.0.0.1:{own}/healthz")
        for way in (
            f"/http://127.0.0.1:{own}/healthz",
            f"/http://localhost:{own}/healthz",
            f"/http://[::ffff:127.0.0.1]:{own}/healthz",
            "/me/healthz",
            service.path("/home"),
        ):
            assert (await service.get(way)).status in {403, 508}, way


async def test_a_circle_of_two_caches_ends_with_508(
    tmp_path: Path, origin: Origin, no_leaks: None
) -> None:
    origin.add("/f", body=b"never reached")
    # Each leads to the other: through the origin's port, which stands between them.
    async with running(tmp_path / "a", origin) as one, running(tmp_path / "b", origin) as two:
        there = f"http://127.0.0.1:{two.port}"
        back = f"http://127.0.0.1:{one.port}"
        answer = await one.get(f"/{there}/{back}/{origin.url('/f')}")
        assert answer.status == 508


async def test_the_environments_proxies_are_not_obeyed(
    tmp_path: Path, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Origin() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "https_proxy"):
            monkeypatch.setenv(name, proxy.url("/"))
        origin.add("/f", body=b"straight", headers=[MAX_AGE])
        async with running(tmp_path / "cache", origin) as service:
            assert (await service.fetch("/f")).body == b"straight"
        assert proxy.connections_accepted == 0
