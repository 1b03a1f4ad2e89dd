"""What becomes of a client's Authorization is the configuration's word (``share``): each value, by
each way in, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.origin import Origin, OriginRequest, Resource
from tests.live.running import Answer, Running, running

ALICE, BOB = ("Authorization: Basic YWxpY2U=", "Authorization: Basic Ym9i")
COOKIE = "Cookie: session=1"
BODY = b"for members only " * 500
WAYS = ("path", "fetch", "proxy", "mount", "host")


def members_only(origin: Origin, *cache_control: str) -> None:
    """Something that is there for whoever shows any credential."""
    fields = [("cache-control", value) for value in cache_control or ("max-age=600",)]

    def answer(request: OriginRequest) -> Resource:
        if "authorization" in request.fields or "cookie" in request.fields:
            return Resource(body=BODY, etag='"one"', headers=fields)
        return Resource(status=401, body=b"who are you?", ranges=False)

    origin.add("/f", handler=answer)
    origin.add("/open", body=BODY, etag='"open"', headers=fields)


@asynccontextmanager
async def sharing(
    directory: Path, origin: Origin, defaults: dict[str, Any], mount: dict[str, Any]
) -> AsyncIterator[Running]:
    table = {"name": "m", "upstream": origin.url("/"), "hosts": ["m.test"], **mount}
    tables = {"defaults": defaults}
    async with running(directory / "cache", origin, tables=tables, mounts=[table]) as service:
        yield service


async def get(
    service: Running, way: str, path: str, *lines: str, method: str = "GET", body: bytes = b""
) -> Answer:
    """The answer to the same thing, named in another way."""
    url = service.origin.url(path)
    path = {
        "path": f"/{url}",
        "fetch": f"/-/fetch?url={url}",
        "proxy": url,
        "mount": f"/m{path}",
        "host": f"http://m.test{path}",
    }[way]
    return await service.get(path, *lines, method=method, body=body)


def asked(origin: Origin, path: str = "/f") -> list[tuple[str, str | None]]:
    return [(r.method, r.fields.get("authorization")) for r in origin.requests_for(path)]


def value(line: str) -> str:
    return line.partition(": ")[2]


@pytest.mark.parametrize("way", WAYS)
async def test_pass_is_what_holds_unless_it_is_said_otherwise(
    tmp_path: Path, origin: Origin, no_leaks: None, way: str
) -> None:
    members_only(origin)
    async with sharing(tmp_path, origin, {}, {}) as service:
        for line in (ALICE, BOB, ALICE):
            answer = await get(service, way, "/f", line)
            assert (answer.status, answer.body) == (200, BODY)
        assert (await get(service, way, "/f")).status == 401
    assert asked(origin) == [("GET", v) for v in (value(ALICE), value(BOB), value(ALICE), None)]


@pytest.mark.parametrize("by_defaults", [True, False], ids=["defaults", "mount"])
async def test_refuse_answers_403_that_names_the_setting_and_asks_nobody(
    tmp_path: Path, origin: Origin, no_leaks: None, by_defaults: bool
) -> None:
    members_only(origin)
    keys = {"share": "refuse"}
    ways = WAYS if by_defaults else ("mount", "host")
    defaults, mount = (keys, {}) if by_defaults else ({}, keys)
    async with sharing(tmp_path, origin, defaults, mount) as service:
        for way in ways:
            for _ in range(3):
                # What is stored is refused to credentials, too, by whatever lane would answer.
                assert (await get(service, way, "/open")).body == BODY
                refused = await get(service, way, "/open", ALICE)
                assert refused.status == 403
            assert refused.fields["content-type"] == "application/problem+json"
            said = refused.json()["detail"]
            assert refused.json()["type"] == "urn:forebay:problem:credentials-refused"
            assert said.startswith("Authorization is not taken here: ")
            assert ("m's share" if way in {"mount", "host"} else "defaults.share") in said
            unsafe = () if way == "fetch" else (("POST", b"x"), ("OPTIONS", b""))
            for method, body in (("HEAD", b""), *unsafe):
                answer = await get(service, way, "/f", ALICE, method=method, body=body)
                assert answer.status == 403
            assert (await get(service, way, "/f", ALICE, "Range: bytes=0-1")).status == 403
            assert (await get(service, way, "/f", COOKIE)).status == 401, "not forwarded, no word"
    assert {credential for _, credential in asked(origin, "/open") + asked(origin)} == {None}
    assert all("cookie" not in request.fields for request in origin.requests)


async def test_refuse_takes_no_cookie_either_where_cookies_would_go_on(
    tmp_path: Path, origin: Origin, no_leaks: None
) -> None:
    members_only(origin)
    keys = {"share": "refuse", "forward": ["accept", "cookie"]}
    async with sharing(tmp_path, origin, {}, keys) as service:
        refused = await get(service, "mount", "/f", COOKIE)
        assert refused.status == 403
        assert refused.json()["detail"].startswith("Cookie is not taken here: ")
        assert (await get(service, "mount", "/open")).status == 200
    assert asked(origin) == []


async def test_refuse_lets_the_mounts_own_credentials_read(
    tmp_path: Path, origin: Origin, no_leaks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MILL_TOKEN", "ours")
    members_only(origin)
    keys = {"share": "refuse", "token_variable": "MILL_TOKEN"}
    async with sharing(tmp_path, origin, {}, keys) as service:
        for _ in range(3):
            assert (await get(service, "mount", "/f")).body == BODY
            assert (await get(service, "mount", "/f", ALICE)).status == 403
    assert asked(origin) == [("GET", "Bearer ours")], "shared by all who show nothing"


async def test_refuse_takes_the_token_that_is_for_us(
    tmp_path: Path, origin: Origin, no_leaks: None
) -> None:
    members_only(origin)
    keys = {"share": "refuse", "client_tokens": [{"name": "bob", "token": "bob-s-token"}]}
    ours = "Authorization: Bearer bob-s-token"
    async with sharing(tmp_path, origin, keys, {}) as service:
        for _ in range(3):
            for way in ("path", "fetch", "mount"):
                assert (await get(service, way, "/open", ours)).body == BODY
            for way in ("proxy", "host"):
                for_us = "Proxy-" + ours
                assert (await get(service, way, "/open", for_us)).body == BODY
                assert (await get(service, way, "/open", for_us, ALICE)).status == 403
    assert all("authorization" not in request.fields for request in origin.requests)


@pytest.mark.parametrize("way", WAYS)
async def test_private_keeps_what_a_credential_brought_for_that_credential(
    tmp_path: Path, origin: Origin, no_leaks: None, way: str
) -> None:
    members_only(origin, "max-age=600", "public")
    async with sharing(tmp_path, origin, {"share": "private"}, {}) as service:
        for line in (ALICE, BOB):
            for _ in range(3):
                answer = await get(service, way, "/f", line)
                assert (answer.status, answer.body) == (200, BODY)
        # Upstream's own leave does not count: the setting's word is narrower.
        assert (await get(service, way, "/f")).status == 401
    assert asked(origin) == [("GET", value(ALICE)), ("GET", value(BOB)), ("GET", None)]


@pytest.mark.parametrize("way", WAYS)
async def test_verify_gives_what_is_stored_to_whom_upstream_would_give_it(
    tmp_path: Path, origin: Origin, no_leaks: None, way: str
) -> None:
    members_only(origin)
    async with sharing(tmp_path, origin, {"share": "verify"}, {}) as service:
        for line in (ALICE, BOB):
            for _ in range(2):
                assert (await get(service, way, "/f", line)).body == BODY
        assert (await get(service, way, "/f")).status == 401
    methods = [method for method, credential in asked(origin) if credential == value(BOB)]
    assert methods == ["HEAD"]
