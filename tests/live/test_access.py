"""Client tokens and networks of mounts, from settings to bytes."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.origin import Origin
from tests.live.running import TOKEN, running
from tests.patience import PATIENCE_SECONDS

FRESH = ("cache-control", "max-age=600")
BOB = "Authorization: Bearer bob-s-token"


def mount(origin: Origin, name: str = "m", **keys: Any) -> dict[str, Any]:
    return {"name": name, "upstream": origin.url("/"), **keys}


TOKENS = [{"name": "bob", "token": "bob-s-token"}, {"name": "ann", "token": "ann-s-token"}]


@pytest.mark.parametrize("size", [100, 300_000], ids=["small", "large"])
async def test_a_mount_with_tokens_gives_its_bytes_to_their_holders_only(
    tmp_path: Path, origin: Origin, no_leaks: None, size: int
) -> None:
    origin.add("/f", body=b"x" * size, etag='"1"', headers=[FRESH])
    mounts = [mount(origin, client_tokens=TOKENS), mount(origin, "open")]
    basic = base64.b64encode(b"any:ann-s-token").decode()
    async with running(tmp_path / "c", origin, mounts=mounts) as service:
        for _ in range(3):
            for lines in ((), ("Authorization: Bearer wrong",), ("Authorization: Basic YTpi",)):
                refused = await service.get("/m/f", *lines)
                assert refused.status == 401
                assert refused.fields["www-authenticate"].startswith("Basic ")
                assert refused.fields["content-type"] == "application/problem+json"
            for line in (BOB, f"Authorization: Basic {basic}"):
                answer = await service.get("/m/f", line)
                assert (answer.status, len(answer.body)) == (200, size)
        assert "hit" in answer.cache_status
        assert (await service.get("/open/f")).status == 200
        # Ranges, HEAD, unsafe methods and what is passed through ask for it as well.
        for method in ("HEAD", "POST", "DELETE"):
            assert (await service.get("/m/f", method=method)).status == 401
        assert (await service.get("/m/f", "Range: bytes=0-1")).status == 401
        await service.get("/m/other", BOB, "Cache-Control: no-store")
    assert all("authorization" not in request.fields for request in origin.requests)


async def test_all_ways_to_name_a_url_are_one_way_in(
    tmp_path: Path, origin: Origin, no_leaks: None
) -> None:
    origin.add("/f", body=b"x", headers=[FRESH])
    tables = {"defaults": {"client_tokens": [{"name": "bob", "token": "bob-s-token"}]}}
    async with running(tmp_path / "c", origin, tables=tables) as service:
        url = origin.url("/f")
        for _ in range(2):
            for path in (f"/{url}", f"/-/fetch?url={url}"):
                assert (await service.get(path)).status == 401
                assert (await service.get(path, BOB)).status == 200
            proxied = await service.get(url)
            assert proxied.status == 407
            assert proxied.fields["proxy-authenticate"].startswith("Basic ")
            token = "Proxy-Authorization: Bearer bob-s-token"
            assert (await service.get(url, token)).status == 200
        for path in ("/healthz", "/readyz", "/"):
            assert (await service.get(path)).status == 200
    assert not any("authorization" in name for r in origin.requests for name, _ in r.fields)


async def test_networks_are_asked_of_the_client_behind_a_trusted_proxy(
    tmp_path: Path, origin: Origin, no_leaks: None
) -> None:
    origin.add("/f", body=b"x", headers=[FRESH])
    mounts = [mount(origin, client_networks=["192.0.2.0/24"])]
    for trusted, status in (("127.0.0.1", 200), ("127.0.0.2", 403)):
        tables = {"server": {"trusted_proxies": [trusted]}}
        async with running(tmp_path / trusted, origin, tables=tables, mounts=mounts) as service:
            for _ in range(3):
                assert (await service.get("/m/f")).status == 403
                said = "X-Forwarded-For: 203.0.113.1, 192.0.2.9"
                assert (await service.get("/m/f", said)).status == status


@pytest.mark.parametrize("trusted", [True, False], ids=["behind-a-proxy", "alone"])
async def test_who_guesses_admin_tokens_is_stopped_whatever_it_says_of_itself_and_nobody_else(
    tmp_path: Path, origin: Origin, no_leaks: None, trusted: bool
) -> None:
    """The proxy adds at the end whom it heard from; what stands before it is the client's own."""
    tables = {"server": {"trusted_proxies": ["127.0.0.1"] if trusted else []}}
    async with running(tmp_path / "c", origin, tables=tables) as service:

        async def status(token: str, *chain: str) -> int:
            said = f"X-Forwarded-For: {', '.join(chain)}"
            return (await service.get("/-/stats", f"Authorization: Bearer {token}", said)).status

        operator, attacker = "198.51.100.7", "203.0.113.9"
        # Says each time to be somebody else, the operator and the proxy among them.
        spoofs = [operator, "127.0.0.1", "unknown", *(f"192.0.2.{n}" for n in range(7))]
        assert [await status("a-guess", spoof, attacker) for spoof in spoofs] == [401] * 10
        for spoof in ("192.0.2.99", operator, "127.0.0.1"):
            assert await status("a-guess", spoof, attacker) == 429
            assert await status(TOKEN, spoof, attacker) == 429, "a right guess is one too many"
        # Without a proxy that is believed they all are one address, theirs.
        assert await status(TOKEN, operator) == (200 if trusted else 429)
        assert await status(TOKEN, attacker, operator) == (200 if trusted else 429)


async def test_a_registry_asks_for_the_token_where_clients_look_for_it(
    tmp_path: Path, origin: Origin, no_leaks: None
) -> None:
    keys = [{"name": "bob", "token": "bob-s-token"}]
    mounts = [mount(origin, "r", preset="oci", client_tokens=keys)]
    async with running(tmp_path / "c", origin, mounts=mounts) as service:
        assert (await service.get("/v2/")).status == 401
        assert (await service.get("/v2/", BOB)).status == 200


@pytest.mark.parametrize("token", ["bob-s-token", TOKEN])
async def test_a_token_of_ours_goes_to_no_upstream_where_none_was_asked_for_either(
    tmp_path: Path, origin: Origin, no_leaks: None, token: str
) -> None:
    """As from ``forebay get``, which shows the token for one mount with every request."""
    origin.add("/f", body=b"x", headers=[FRESH])
    origin.add("/p", body=b"y")
    mounts = [mount(origin, client_tokens=TOKENS), mount(origin, "open")]
    shown = base64.b64encode(f"any:{token}".encode()).decode()
    async with running(tmp_path / "c", origin, mounts=mounts) as service:
        for value in (f"Bearer {token}", f"Basic {shown}"):
            line = f"Authorization: {value}"
            for lines in ((line,), (line, line), (line, "Authorization: Basic b3RoZXI6b25l")):
                for path in ("/open/f", f"/{origin.url('/f')}", origin.url("/f"), "/open/p"):
                    assert (await service.get(path, *lines)).status == 200
        await service.get("/open/p", line, method="POST", body=b"z")
        await service.get(origin.url("/p"), "Authorization: Basic bWluZTptaW5l")
    sent = {request.fields.get("authorization") for request in origin.requests}
    assert sent == {None, "Basic bWluZTptaW5l"}


async def test_downloads_wait_for_their_turn_and_then_are_told_to_come_back(
    tmp_path: Path, origin: Origin, no_leaks: None
) -> None:
    origin.add("/slow", body=b"x" * 100_000, stall_at=10)
    origin.add("/f", body=b"x")
    tables = {"limits": {"max_downloads": 1, "queue_timeout": "50ms"}}
    async with running(tmp_path / "c", origin, tables=tables) as service:
        running_one = await service.start(service.path("/slow"))
        refused = await service.fetch("/f")
        assert refused.status == 503
        assert int(refused.fields["retry-after"]) > 0
        running_one.leave()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await service.fetch("/f")).status != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_bytes_of_all_connections_are_paced_together_and_stay_right(
    tmp_path: Path, origin: Origin, no_leaks: None
) -> None:
    body = bytes(range(256)) * 400
    origin.add("/f", body=body, etag='"1"', headers=[FRESH])
    tables = {"limits": {"rate": "500K"}}
    async with running(tmp_path / "c", origin, tables=tables) as service:
        loop, begin = asyncio.get_running_loop(), asyncio.get_running_loop().time()
        answers = await asyncio.gather(*(service.fetch("/f") for _ in range(3)))
        assert [answer.body for answer in answers] == [body] * 3
        # Not faster: two tenths of a second are what may come at once.
        assert loop.time() - begin >= 3 * len(body) / 500_000 - 0.2 - 0.05
