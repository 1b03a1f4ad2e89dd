"""With default settings nothing that is not public is fetched, however it is spelled or reached."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.fakes.origin import Origin
from tests.live.running import Answer, Running, running

DEFAULTS = {"upstream": {"allow_networks": [], "allow_ports": [80, 443]}}


@pytest.fixture
async def guarded(tmp_path: Path, origin: Origin, no_leaks: None) -> AsyncIterator[Running]:
    mounts = [{"name": "mine", "upstream": origin.url("/")}]
    async with running(tmp_path / "cache", origin, tables=DEFAULTS, mounts=mounts) as service:
        yield service


def assert_refused(answer: Answer) -> str:
    """The sentence of a refusal, which names the settings that would open the way."""
    assert answer.status == 403, answer.body
    assert answer.fields["content-type"] == "application/problem+json"
    detail = str(answer.json()["detail"])
    for setting in ("upstream.allow_hosts", "upstream.allow_ports", "upstream.allow_networks"):
        assert setting in detail
    return detail


FORBIDDEN = [
    "127.0.0.1",
    "127.1.2.3",
    "localhost",
    "LOCALHOST",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.169.254",
    "metadata.google.internal",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "192.0.2.1",
    "[::1]",
    "[::]",
    "[fe80::1]",
    "[fd00::1]",
    "[::ffff:127.0.0.1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
]


ODD_LOOPBACK = ["2130706433", "0x7f.1", "127.1", "0177.0.0.1", "127。0。0。1"]


async def test_an_address_that_is_not_public_is_refused_in_the_same_words(
    guarded: Running,
) -> None:
    words = set()
    for host in FORBIDDEN:
        words |= {
            assert_refused(await guarded.get(f"/http://{host}/x")),
            assert_refused(await guarded.get(f"/-/fetch?url={quote(f'http://{host}/x')}")),
            assert_refused(await guarded.get(f"http://{host}/x")),
        }
    assert len(words) == 1


async def test_odd_spellings_of_loopback_do_not_reach_it(guarded: Running, origin: Origin) -> None:
    for host in ODD_LOOPBACK:
        url = quote(f"http://{host}:{origin.port}/x", safe="")
        answer = await guarded.get(f"/-/fetch?url={url}")
        assert answer.status in {400, 403, 502}, (host, answer.body)
        assert answer.fields["content-type"] == "application/problem+json"
    assert origin.connections_accepted == 0


async def test_other_ports_are_refused_in_the_same_words(guarded: Running) -> None:
    refused = assert_refused(await guarded.get("/http://127.0.0.1/x"))
    for port in (22, 8080, 6379):
        assert refused == assert_refused(await guarded.get(f"/http://192.0.2.1:{port}/x"))


async def test_a_refusal_opens_no_connection(guarded: Running, origin: Origin) -> None:
    assert_refused(await guarded.fetch("/f"))
    assert origin.connections_accepted == 0


async def test_a_mounts_upstream_may_be_private_and_where_it_redirects_to_may_not(
    guarded: Running, origin: Origin
) -> None:
    origin.add("/f", body=b"mine")
    assert (await guarded.get("/mine/f")).body == b"mine"
    async with Origin() as secret:
        secret.add("/s", body=b"secret")
        origin.add("/away", redirect_to=secret.url("/s"))
        origin.add("/home", redirect_to=origin.url("/f"))
        assert_refused(await guarded.get("/mine/away"))
        assert (await guarded.get("/mine/home")).body == b"mine"
        assert secret.connections_accepted == 0


async def test_a_redirect_from_an_open_network_to_a_closed_one_is_refused(
    tmp_path: Path, origin: Origin
) -> None:
    open_loopback = {"upstream": {"allow_networks": ["127.0.0.1/32"]}}
    async with running(tmp_path / "cache", origin, tables=open_loopback) as service:
        for target in ("http://127.0.0.2/", "http://169.254.169.254/latest/", "http://10.0.0.1/"):
            origin.add("/away", redirect_to=target)
            assert_refused(await service.fetch("/away"))


async def test_the_service_never_fetches_from_itself(tmp_path: Path, origin: Origin) -> None:
    async with running(tmp_path / "cache", origin) as service:
        # Its own port is a free one here, and told to the guard by ``forebay serve`` only; the
        # loop is found by Via.
        answer = await service.get(f"/http://127.0.0.1:{service.port}/http://127.0.0.1:1/x")
        assert answer.status in {403, 508}


NO_ADDRESSES = ["/ftp://host.example/x", "/https://", "/http://u:p@h.example/", "/http://h:99999/"]


async def test_what_is_no_address_is_a_problem_and_never_a_fault(guarded: Running) -> None:
    for path in NO_ADDRESSES:
        answer = await guarded.get(path)
        assert 400 <= answer.status < 500, path
        assert answer.fields["content-type"] == "application/problem+json"
