"""Upstreams that want credentials: who gets what they gave, over real sockets."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import registries
from tests.fakes.origin import Origin, OriginRequest, Resource
from tests.live.running import Answer, Running, running
from tests.patience import PATIENCE_SECONDS

ALICE, BOB, MALLORY = (f"Bearer {name}-secret" for name in ("alice", "bob", "mallory"))
BODY = b"for members only " * 500
FRESH = ("cache-control", "max-age=600")


def auth(value: str) -> str:
    return f"Authorization: {value}"


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as server:
        yield server


@pytest.fixture
async def elsewhere() -> AsyncIterator[Origin]:
    async with Origin() as server:
        yield server


def guard(
    origin: Origin,
    path: str,
    *members: str,
    otherwise: Callable[[], Resource] | None = None,
    **script: Any,
) -> None:
    """Serve something at the origin to whoever shows one of these values of Authorization."""
    script = {"body": BODY, "etag": '"one"', "headers": [FRESH], **script}

    def answer(request: OriginRequest) -> Resource:
        if request.fields.get("authorization") in members:
            return Resource(**script)
        if otherwise is not None:
            return otherwise()
        challenge = [("www-authenticate", 'Basic realm="members"')]
        return Resource(status=401, body=b"who are you?", headers=challenge, ranges=False)

    origin.add(path, handler=answer)


def seen(origin: Origin) -> list[tuple[str, str | None]]:
    """Method and credential of each request at the origin."""
    return [(r.method, r.fields.get("authorization")) for r in origin.requests]


@asynccontextmanager
async def mounted(directory: Path, origin: Origin, **keys: Any) -> AsyncIterator[Running]:
    mount = {"name": "m", "upstream": origin.url("/"), **keys}
    async with running(directory / "cache", origin, mounts=[mount]) as service:
        yield service


def is_hit(answer: Answer) -> bool:
    return answer.status == 200 and answer.cache_status.startswith("forebay; hit")


async def hot(service: Running, path: str, *lines: str) -> Answer:
    """The answer once the object has come to rest in the cache, and once more: by whatever lane
    answers then."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not is_hit(answer := await service.get(path, *lines)):
            assert answer.status == 200
    return await service.get(path, *lines)


async def test_without_a_rule_nothing_that_a_credential_brought_is_kept(
    tmp_path: Path, origin: Origin
) -> None:
    guard(origin, "/f", ALICE, BOB)
    async with mounted(tmp_path, origin) as service:
        for _ in range(2):
            assert (await service.get("/m/f", auth(ALICE))).body == BODY
        stranger = await service.get("/m/f")
        assert (stranger.status, stranger.body) == (401, b"who are you?")
        assert stranger.fields["www-authenticate"] == 'Basic realm="members"'
        assert seen(origin) == [("GET", ALICE), ("GET", ALICE), ("GET", None)]


@pytest.mark.parametrize("preset", ["generic", "npm"])
async def test_private_keeps_a_copy_for_each_credential_and_gives_it_to_no_other(
    tmp_path: Path, origin: Origin, preset: str
) -> None:
    guard(origin, "/f.tgz", ALICE, BOB)
    async with mounted(tmp_path, origin, share="private", preset=preset) as service:
        await hot(service, "/m/f.tgz", auth(ALICE))
        asked = len(origin.requests)
        for _ in range(2):
            assert (await service.get("/m/f.tgz", auth(MALLORY))).status == 401
            assert (await service.get("/m/f.tgz")).status == 401
        assert len(origin.requests) == asked + 4
        assert is_hit(await service.get("/m/f.tgz", auth(ALICE)))
        assert is_hit(await service.get("/m/f.tgz", auth(ALICE), method="HEAD"))
        assert (await service.get("/m/f.tgz", auth(BOB))).body == BODY
        await hot(service, "/m/f.tgz", auth(BOB))
        assert len([r for r in origin.requests if r.status == 200]) == 2


async def test_the_fast_lane_tells_credentials_apart(tmp_path: Path, origin: Origin) -> None:
    guard(origin, "/f", ALICE)
    async with mounted(tmp_path, origin, share="private") as service:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)

        async def ask(*lines: str) -> int:
            head = "\r\n".join(["GET /m/f HTTP/1.1", "Host: h", *lines, "", ""])
            writer.write(head.encode())
            got = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
            length = int(got.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            return int(got.split(b" ")[1])

        await hot(service, "/m/f", auth(ALICE))
        for _ in range(3):
            assert await ask(auth(ALICE)) == 200
            assert await ask(auth(MALLORY)) == 401
            assert await ask() == 401
        writer.close()
        assert len(origin.requests_for("/f")) == 7


async def test_private_copies_are_found_again_after_a_restart_and_hold_no_credential(
    tmp_path: Path, origin: Origin
) -> None:
    guard(origin, "/f", ALICE, headers=[FRESH, ("vary", "authorization")])
    async with mounted(tmp_path, origin, share="private") as service:
        await hot(service, "/m/f", auth(ALICE))
    async with mounted(tmp_path, origin, share="private") as service:
        assert is_hit(await service.get("/m/f", auth(ALICE)))
        assert (await service.get("/m/f", auth(BOB))).status == 401

    def holds_secret() -> list[str]:
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        return [path.name for path in files if b"alice-secret" in path.read_bytes()]

    assert await asyncio.to_thread(holds_secret) == []
    key = tmp_path / "cache" / "credential-key"
    assert (await asyncio.to_thread(key.stat)).st_mode & 0o077 == 0


async def test_verify_gives_shared_bytes_to_whom_upstream_would_give_them(
    tmp_path: Path, origin: Origin
) -> None:
    guard(origin, "/f", ALICE, BOB)
    async with mounted(tmp_path, origin, share="verify") as service:
        assert (await service.get("/m/f", auth(ALICE))).body == BODY
        await hot(service, "/m/f", auth(ALICE))
        assert seen(origin) == [("GET", ALICE), ("HEAD", ALICE)]
        assert is_hit(await hot(service, "/m/f", auth(BOB)))
        assert seen(origin)[2:] == [("HEAD", BOB)], "once, and remembered"
        for lines in ((), (auth(MALLORY),)):
            assert (await service.get("/m/f", *lines)).status == 401
            part = await service.get("/m/f", *lines, "Range: bytes=0-9")
            assert part.status == 401
            asked = await service.get("/m/f", *lines, 'If-None-Match: "one"')
            assert asked.status == 401
        assert sum(r.body_bytes_sent for r in origin.requests if r.status == 200) == len(BODY)


@pytest.mark.parametrize("share", ["verify", "private"])
async def test_an_id_in_a_link_to_elsewhere_is_no_way_around_the_check(
    tmp_path: Path, origin: Origin, elsewhere: Origin, share: str
) -> None:
    """What is known by its digest has one key under all its names; who may have it is asked all
    the same, also of one that knows the digest and names a host that asks for nothing."""
    guard(origin, "/o/1", ALICE)
    elsewhere.add("/o/1", status=404, ranges=False)
    segment = f"~f/sha256-{hashlib.sha256(BODY).hexdigest()}/http"
    async with mounted(tmp_path, origin, share=share, preset="git-lfs") as service:
        at_home, guest = (
            f"/m/{segment}/127.0.0.1:{port}/o/1" for port in (origin.port, elsewhere.port)
        )
        assert (await hot(service, at_home, auth(ALICE))).body == BODY
        for lines in ((), (auth(MALLORY),)):
            assert (await service.get(at_home, *lines)).status == 401
            for path in (guest, guest + "?x"):
                refused = await service.get(path, *lines)
                assert (refused.status, BODY in refused.body) == (404, False)


async def test_verify_asks_once_for_many_who_ask_at_the_same_time(
    tmp_path: Path, origin: Origin
) -> None:
    guard(origin, "/f", ALICE, BOB)
    async with mounted(tmp_path, origin, share="verify") as service:
        await hot(service, "/m/f", auth(ALICE))
        asked = len(origin.requests)
        answers = await asyncio.gather(*(service.get("/m/f", auth(BOB)) for _ in range(8)))
        assert all(is_hit(answer) for answer in answers)
        assert len(origin.requests) == asked + 1


async def test_a_page_to_log_in_admits_nobody(tmp_path: Path, origin: Origin) -> None:
    def login() -> Resource:
        return Resource(redirect_to=origin.url("/login"))

    origin.add("/login", body=b"<h1>Log in</h1>", headers=[("content-type", "text/html")])
    guard(origin, "/f", ALICE, otherwise=login)
    async with mounted(tmp_path, origin, share="verify") as service:
        await hot(service, "/m/f", auth(ALICE))
        for _ in range(2):
            assert (await service.get("/m/f")).body == b"<h1>Log in</h1>"
        assert is_hit(await service.get("/m/f", auth(ALICE)))


async def test_who_is_not_known_does_not_join_a_download_that_runs(
    tmp_path: Path, origin: Origin
) -> None:
    gate = asyncio.Event()
    large = b"x" * 400_000
    guard(origin, "/f", ALICE, BOB, body=large, stall_at=100_000, go_on=gate)
    async with mounted(tmp_path, origin, share="verify") as service:
        download = await service.start("/m/f", auth(ALICE))
        await download.read_until(100_000)
        assert (await service.get("/m/f", auth(MALLORY))).status == 401
        member = await service.start("/m/f", auth(BOB))
        assert len(await member.read_until(100_000)) >= 100_000
        gate.set()
        assert await member.read_until(len(large)) == large
        assert await download.read_until(len(large)) == large
        assert [r.method for r in origin.requests if r.status == 200] == ["GET", "HEAD"]


async def test_verify_asks_again_when_what_it_remembers_is_old(
    tmp_path: Path, origin: Origin
) -> None:
    members = [ALICE]
    origin.add(
        "/f",
        handler=lambda request: (
            Resource(body=BODY, etag='"one"', headers=[FRESH])
            if request.fields.get("authorization") in members
            else Resource(status=403, body=b"no", ranges=False)
        ),
    )
    async with mounted(tmp_path, origin, share="verify", verify_ttl="0s") as service:
        await hot(service, "/m/f", auth(ALICE))
        members.clear()
        assert (await service.get("/m/f", auth(ALICE))).status == 403


async def test_a_server_without_head_is_asked_for_one_byte(tmp_path: Path, origin: Origin) -> None:
    def answer(request: OriginRequest) -> Resource:
        if request.method == "HEAD":
            return Resource(status=405, ranges=False)
        if request.fields.get("authorization") not in {ALICE, BOB}:
            return Resource(status=401, ranges=False)
        return Resource(body=BODY, etag='"one"', headers=[FRESH])

    origin.add("/f", handler=answer)
    async with mounted(tmp_path, origin, share="verify") as service:
        await hot(service, "/m/f", auth(ALICE))
        assert is_hit(await service.get("/m/f", auth(BOB)))
        assert origin.requests[-1].range == "bytes=0-0"
        assert (await service.get("/m/f", auth(MALLORY))).status == 401


async def test_public_sends_the_clients_credential_and_shares_what_it_brought(
    tmp_path: Path, origin: Origin
) -> None:
    guard(origin, "/f", ALICE, headers=[("cache-control", "max-age=0")])
    async with mounted(tmp_path, origin, share="public", ttl_patterns=[["/f", "1h"]]) as service:
        assert (await service.get("/m/f", auth(ALICE))).body == BODY
        assert (await hot(service, "/m/f")).body == BODY
        assert seen(origin) == [("GET", ALICE)]


async def test_who_is_refused_takes_nothing_from_the_others(tmp_path: Path, origin: Origin) -> None:
    guard(origin, "/f", ALICE, headers=[("cache-control", "max-age=0")])
    async with mounted(tmp_path, origin, share="public") as service:
        assert (await service.get("/m/f", auth(ALICE))).body == BODY
        assert (await service.get("/m/f", auth(MALLORY))).status == 401
        assert (await service.get("/m/f", auth(ALICE))).body == BODY
        sent = [r.body_bytes_sent for r in origin.requests if r.status == 200]
        assert sent == [len(BODY)], "the copy outlived the stranger's 401"


async def _secret_file(tmp_path: Path, text: str, name: str = "token") -> str:
    file = tmp_path / name
    await asyncio.to_thread(file.write_text, text)
    await asyncio.to_thread(file.chmod, 0o600)
    return str(file)


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize("source", ["token_file", "token_variable", "netrc", "username"])
async def test_a_mount_has_credentials_of_its_own(
    tmp_path: Path, origin: Origin, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MILL_TOKEN", "ours")
    text = "machine 127.0.0.1 login bot password ours\n" if source == "netrc" else "ours\n"
    file = await _secret_file(tmp_path, text)
    keys = {
        "token_file": {"token_file": file},
        "token_variable": {"token_variable": "MILL_TOKEN"},
        "netrc": {"netrc": file},
        "username": {"token_file": file, "username": "bot"},
    }[source]
    expected = basic("bot", "ours") if source in {"netrc", "username"} else "Bearer ours"
    guard(origin, "/f", expected)
    origin.add("/post", body=b"done")
    async with mounted(tmp_path, origin, **keys) as service:
        assert (await service.get("/m/f")).body == BODY
        assert is_hit(await hot(service, "/m/f", auth(MALLORY)))
        await service.get("/m/post", method="POST", body=b"change it")
        assert seen(origin) == [("GET", expected), ("POST", None)]


@pytest.mark.parametrize("named", [False, True], ids=["any-host", "named-host"])
async def test_own_credentials_open_nothing_beside_the_base_unless_its_host_is_named(
    tmp_path: Path, origin: Origin, named: bool
) -> None:
    """A link path may name any path of the upstream's host; the mount's login is for its base."""
    token = await _secret_file(tmp_path, "ours")
    guard(origin, "/team/f", "Bearer ours")
    guard(origin, "/other/f", "Bearer ours", body=b"not the team's")
    link_hosts = {"link_hosts": ["127.0.0.1"]} if named else {}
    mount = {"name": "m", "upstream": origin.url("/team/"), "preset": "pypi", **link_hosts}
    tables = [{**mount, "token_file": token}]
    async with running(tmp_path / "cache", origin, mounts=tables) as service:
        assert (await service.get("/m/f")).body == BODY
        host = f"127.0.0.1:{origin.port}"
        for path in (f"/m/~f/http/{host}/other/f", f"/m/~f/http/{host}/team/../other/f"):
            for lines in ((), (auth(MALLORY),)):
                assert (await service.get(path, *lines)).status == (200 if named else 401)
        assert (await service.get(f"/m/~f/http/{host}/team/f")).body == BODY
    assert MALLORY not in {credential for _, credential in seen(origin)}


async def test_credentials_stay_with_the_hosts_they_are_for(
    tmp_path: Path, origin: Origin, elsewhere: Origin
) -> None:
    """Behind a redirect, and where an index links to another host."""
    file = registries.pypi(origin, elsewhere)
    token = await _secret_file(tmp_path, "ours")
    elsewhere.add("/blob", body=BODY, etag='"b"', headers=[FRESH])
    origin.add("/f", redirect_to=elsewhere.url("/blob"))
    keys: tuple[dict[str, Any], ...] = (
        {}, {"share": "private"}, {"share": "verify"}, {"share": "public"}, {"token_file": token},
    )  # fmt: skip
    for number, more in enumerate(keys):
        directory = tmp_path / str(number)
        await asyncio.to_thread(directory.mkdir)
        async with mounted(directory, origin, preset="pypi", **more) as service:
            assert (await service.get("/m/f", auth(ALICE))).body == BODY
            json_type = f"Accept: {registries.SIMPLE_JSON}"
            page = await service.get("/m/simple/waterwheel/", json_type, auth(ALICE))
            link = json.loads(page.body)["files"][0]["url"]
            assert (await service.get(link, auth(ALICE))).body == file.body
            await hot(service, link, auth(BOB))
    assert {value for _, value in seen(elsewhere)} == {None}
    assert {value for _, value in seen(origin)} == {ALICE, "Bearer ours"}


@pytest.mark.parametrize("own", [True, False])
async def test_a_registry_gives_tokens_for_the_login_it_is_shown(
    tmp_path: Path, origin: Origin, own: bool
) -> None:
    login = basic("bot", "ours")
    image = registries.registry(origin, token="let-me-in", login=login)
    file = await _secret_file(tmp_path, "ours")
    keys = {"token_file": file, "username": "bot"} if own else {"share": "private"}
    lines = () if own else (auth(login),)
    async with mounted(tmp_path, origin, preset="oci", **keys) as service:
        root = await service.get("/v2/")
        assert root.status == (200 if own else 401)
        path = f"/v2/m/library/mill/blobs/sha256:{image.layer.sha256}"
        for _ in range(2):
            assert (await service.get(path, *lines)).body == image.layer.body
        assert len(origin.requests_for("/token")) == 1
        if not own:
            assert (await service.get("/v2/", *lines)).status == 200
            assert (await service.get(path)).status == 401


async def test_what_is_wrong_with_credentials_is_said_at_start(
    tmp_path: Path, origin: Origin
) -> None:
    netrc = await _secret_file(tmp_path, "machine other.example login a password b\n")
    empty = await _secret_file(tmp_path, "\n", "empty")
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"netrc": netrc}, "has no entry for 127.0.0.1"),
        ({"token_file": empty}, "holds no token that can be sent"),
        ({"token_variable": "FOREBAY_NO_SUCH_VARIABLE_"}, "the variable FOREBAY_NO"),
        ({"token_file": empty, "netrc": netrc}, "keep one of them"),
        ({"username": "bot"}, "without token_file or token_variable"),
        ({"token_file": empty, "share": "verify"}, "clients' own credentials"),
        ({"forward": ["authorization"]}, "by a mount's share"),
        ({"share_authorized": True}, "share_authorized"),
    ]
    for keys, sentence in wrong:
        with pytest.raises(Exception, match=sentence):
            async with mounted(tmp_path, origin, **keys):
                pass


async def test_a_checksum_file_is_asked_for_with_the_same_credential(
    tmp_path: Path, origin: Origin
) -> None:
    digest = hashlib.sha256(BODY).hexdigest()
    for share in ("private", "verify"):
        guard(origin, "/f", ALICE)
        guard(origin, "/f.sha256", ALICE, body=digest.encode(), etag='"sum"')
        keys = {"share": share, "checksums": ["{name}.sha256"]}
        before = len(origin.requests_for("/f.sha256"))
        directory = tmp_path / share
        await asyncio.to_thread(directory.mkdir)
        async with mounted(directory, origin, **keys) as service:
            for _ in range(2):
                assert (await service.get("/m/f", auth(ALICE))).body == BODY
            asked = origin.requests_for("/f.sha256")[before:]
            assert asked
            assert {r.fields.get("authorization") for r in asked} == {ALICE}
            assert (await service.get("/m/f.sha256", auth(MALLORY))).status == 401
            guard(origin, "/g", ALICE)
            guard(origin, "/g.sha256", ALICE, body=b"0" * 64, etag='"wrong"')
            assert not (await service.get("/m/g", auth(ALICE))).whole
