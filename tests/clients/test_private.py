"""Clients that show credentials, as their users configure them."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import Ran, run
from tests.clients.twice import cold_and_hot, found, mounted
from tests.fakes import registries
from tests.fakes.origin import Origin, OriginRequest, Resource

pytestmark = pytest.mark.clients

LOGIN = "Basic " + base64.b64encode(b"alice:s3cret").decode()


def members_only(origin: Origin, expected: str) -> None:
    """Let everything that this origin serves want this value of Authorization."""
    for path, resource in dict(origin.resources).items():

        def answer(request: OriginRequest, resource: Resource = resource) -> Any:
            if request.fields.get("authorization") != expected:
                challenge = [("www-authenticate", 'Basic realm="members"')]
                return Resource(status=401, body=b"no", headers=challenge, ranges=False)
            return resource if resource.handler is None else resource.handler(request)

        origin.put(path, Resource(handler=answer))


async def test_pip_with_a_login_in_its_index_url(tmp_path: Path, origin: Origin) -> None:
    wheel = registries.pypi(origin, origin)
    members_only(origin, LOGIN)
    async with mounted(tmp_path, origin, "pypi", share="verify") as service:

        async def fetch(home: Path, login: str = "alice:s3cret@") -> Ran:
            return await run(
                sys.executable, "-m", "pip", "download", "--isolated", "--no-deps", "--no-input",
                "--no-cache-dir", "--disable-pip-version-check", "-d", "there", "--index-url",
                f"http://{login}127.0.0.1:{service.port}/m/simple/", "waterwheel", cwd=home,
                PIP_CONFIG_FILE=os.devnull,
            )  # fmt: skip

        for home in await cold_and_hot(tmp_path, fetch, origin):
            assert await found(home / "there", "*.whl") == [wheel.sha256]
        stranger = tmp_path / "stranger"
        await asyncio.to_thread(stranger.mkdir)
        assert (await fetch(stranger, "mallory:s3cret@")).status != 0
        assert await found(stranger, "*.whl") == []


async def test_npm_with_an_auth_token(tmp_path: Path, origin: Origin) -> None:
    registries.npm(origin, origin)
    members_only(origin, "Bearer t0ken")
    async with mounted(tmp_path, origin, "npm", share="private", rewrite_links=True) as service:
        registry = f"127.0.0.1:{service.port}/m/"

        async def fetch(home: Path, token: str = "t0ken") -> Ran:
            (home / ".npmrc").write_text(
                f"registry=http://{registry}\n//{registry}:_authToken={token}\n"
            )
            return await run(
                "npm", "install", "--no-audit", "--no-fund", "--prefix", str(home), "--cache",
                str(home / "cache"), "--userconfig", str(home / ".npmrc"), "--fetch-retries", "0",
                "waterwheel", cwd=home,
            )  # fmt: skip

        expected = registries.File("", registries.noise(100_000)).sha256
        for home in await cold_and_hot(tmp_path, fetch, origin):
            assert await found(home / "node_modules", "blob.bin") == [expected]
        stranger = tmp_path / "stranger"
        await asyncio.to_thread(stranger.mkdir)
        assert (await fetch(stranger, "wrong")).status != 0
        assert await found(stranger, "blob.bin") == []


@pytest.mark.parametrize("share", ["private", "verify"])
async def test_curl_with_a_user(tmp_path: Path, origin: Origin, share: str) -> None:
    body = registries.noise(300_000)
    file = registries.serve(origin, registries.File("/f.bin", body), registries.MONTH)
    members_only(origin, LOGIN)
    async with mounted(tmp_path, origin, "generic", share=share) as service:
        address = f"http://127.0.0.1:{service.port}/m/f.bin"

        async def fetch(home: Path, user: str = "alice:s3cret") -> Ran:
            return await run("curl", "-fsS", "-u", user, "-o", "f.bin", address, cwd=home)

        for home in await cold_and_hot(tmp_path, fetch, origin):
            assert await found(home, "f.bin") == [file.sha256]
        stranger = tmp_path / "stranger"
        await asyncio.to_thread(stranger.mkdir)
        assert (await fetch(stranger, "mallory:x")).status == 22
        assert await found(stranger, "f.bin") == []


async def test_skopeo_with_a_login_of_its_own_and_with_ours(tmp_path: Path, origin: Origin) -> None:
    image = registries.registry(origin, token="let-me-in", login=LOGIN)
    secret = tmp_path / "secret"
    await asyncio.to_thread(secret.write_text, "s3cret\n")
    ways: list[tuple[dict[str, Any], list[str]]] = [
        ({"share": "private"}, ["--src-creds", "alice:s3cret"]),
        ({"token_file": str(secret), "username": "alice"}, []),
    ]
    for number, (keys, arguments) in enumerate(ways):
        directory = tmp_path / str(number)
        await asyncio.to_thread(directory.mkdir)
        async with mounted(directory, origin, "oci", **keys) as service:

            async def fetch(
                home: Path, port: int = service.port, more: list[str] = arguments
            ) -> Ran:
                return await run(
                    "skopeo", "copy", "--insecure-policy", "--src-tls-verify=false",
                    "--override-os", "linux", "--override-arch", "amd64", *more,
                    f"docker://127.0.0.1:{port}/m/library/mill:latest", "dir:there", cwd=home,
                )  # fmt: skip

            for home in await cold_and_hot(directory, fetch, origin):
                manifest = json.loads(
                    await asyncio.to_thread((home / "there/manifest.json").read_text)
                )
                assert manifest["layers"][0]["digest"] == f"sha256:{image.layer.sha256}"
