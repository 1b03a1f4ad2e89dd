"""The package managers against the registries that this machine is configured for.

Addresses are read from the programs' own configuration when the test runs. Where a registry is
out of reach the test is skipped and says so. These prove that the presets fit what the real
registries send; the fakes beside them prove the rest.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.clients.conftest import Ran, run
from tests.fakes.origin import Origin
from tests.live.running import running

pytestmark = pytest.mark.clients


async def _probe(tmp_path: Path, origin: Origin, mount: dict[str, Any], path: str) -> Any:
    """A page through the mount, or a skip where its registry cannot be had."""
    async with running(tmp_path / "probe", origin, mounts=[mount]) as service:
        answer = await service.get(f"/m/{path}", "Accept: application/json, */*;q=0.1")
        if answer.status != 200:
            pytest.skip(f"the configured registry is out of reach ({answer.status} through us)")
        return answer


async def _index_of_pip(tmp_path: Path) -> str:
    told = await run(sys.executable, "-m", "pip", "config", "get", "global.index-url", cwd=tmp_path)
    if told.status == 0:
        return told.output.strip()
    from pip._internal.models.index import PyPI

    return str(PyPI.simple_url)


async def test_pip_installs_from_the_real_index_twice(tmp_path: Path, origin: Origin) -> None:
    index = (await _index_of_pip(tmp_path)).rstrip("/") + "/"
    mount = {"name": "m", "preset": "pypi", "upstream": index, "rewrite_links": False}
    page = await _probe(tmp_path, origin, mount, "six/")
    hosts = {
        urlsplit(link).hostname or ""
        for link in re.findall(r'href="(https?://[^"#]+)', page.body.decode(errors="replace"))
    }
    mount = {"name": "m", "preset": "pypi", "upstream": index, "link_hosts": sorted(hosts - {""})}
    async with running(tmp_path / "cache", origin, mounts=[mount]) as service:
        for name in ("cold", "hot"):
            ran = await run(
                sys.executable, "-m", "pip", "download", "--isolated", "--no-deps",
                "--no-cache-dir", "--disable-pip-version-check", "-d", name,
                "--index-url", f"http://127.0.0.1:{service.port}/m/", "six==1.16.0",
                cwd=tmp_path, timeout_seconds=120.0,
            )  # fmt: skip
            assert ran.status == 0, ran.output
        await _same(tmp_path / "cold", tmp_path / "hot")
        objects = (await service.admin("/-/objects")).json()
        assert any(o["name"].endswith(".whl") and o["hits"] for o in _listed(objects)), objects


async def _configured_registry_of_npm(tmp_path: Path) -> str:
    told: Ran = await run("npm", "config", "get", "registry", cwd=tmp_path)
    address = told.output.strip().splitlines()[-1] if told.output.strip() else ""
    if told.status != 0 or not address.startswith("http"):
        pytest.skip("npm has no registry configured")
    return address.rstrip("/") + "/"


@pytest.mark.parametrize("rewrite", [False, True])
async def test_npm_installs_from_the_real_registry_twice(
    tmp_path: Path, origin: Origin, rewrite: bool
) -> None:
    registry = await _configured_registry_of_npm(tmp_path)
    mount = {"name": "m", "preset": "npm", "upstream": registry, "rewrite_links": rewrite}
    await _probe(tmp_path, origin, mount, "left-pad")
    async with running(tmp_path / "cache", origin, mounts=[mount]) as service:
        for name in ("cold", "hot"):
            home = tmp_path / name
            await asyncio.to_thread(home.mkdir)
            ran = await run(
                "npm", "install", "--no-audit", "--no-fund", "--prefix", str(home),
                "--cache", str(home / "cache"),
                "--registry", f"http://127.0.0.1:{service.port}/m/", "left-pad@1.3.0",
                cwd=home, timeout_seconds=120.0,
            )  # fmt: skip
            assert ran.status == 0, ran.output
            manifest = home / "node_modules/left-pad/package.json"
            assert json.loads(await asyncio.to_thread(manifest.read_text))["version"] == "1.3.0"
        objects = _listed((await service.admin("/-/objects")).json())
        assert any(o["name"].endswith(".tgz") and o["hits"] for o in objects), objects


def _source_of_apt() -> tuple[str, str] | None:
    """Address and suite of the first http source that apt has here."""
    places = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    for place in places:
        if not place.is_file():
            continue
        text = place.read_text(errors="replace")
        old = re.search(r"^deb (?:\[[^\]]*\] )?(http\S+) (\S+)", text, re.M)
        new = re.search(r"^URIs: (http\S+)[^\n]*\nSuites: (\S+)", text, re.M)
        for match in (old, new):
            if match is not None:
                return match[1].rstrip("/") + "/", match[2]
    return None


async def test_apt_updates_from_the_real_archive_twice(tmp_path: Path, origin: Origin) -> None:
    source = await asyncio.to_thread(_source_of_apt)
    if source is None:
        pytest.skip("apt has no http source here")
    archive, suite = source
    mount = {"name": "m", "preset": "apt", "upstream": archive}
    await _probe(tmp_path, origin, mount, f"dists/{suite}/InRelease")
    async with running(tmp_path / "cache", origin, mounts=[mount]) as service:
        fetched: list[int] = []
        for name in ("cold", "hot"):
            home = tmp_path / name
            for part in ("state/lists/partial", "cache/archives/partial"):
                await asyncio.to_thread((home / part).mkdir, parents=True)
            line = f"deb [arch=amd64] http://127.0.0.1:{service.port}/m/ {suite} main\n"
            await asyncio.to_thread((home / "sources.list").write_text, line)
            options = {
                "Dir::State": home / "state",
                "Dir::Cache": home / "cache",
                "Dir::Etc::SourceList": home / "sources.list",
                "Dir::Etc::SourceParts": home / "none",
                "APT::Sandbox::User": "root",
                "Acquire::Languages": "none",
                "Acquire::http::Proxy": "DIRECT",
            }
            given = [word for k, v in options.items() for word in ("-o", f"{k}={v}")]
            ran = await run(
                "apt-get", *given, "update", "--error-on=any", cwd=home, timeout_seconds=240.0
            )
            assert ran.status == 0, ran.output
            fetched.append((await service.admin("/-/stats")).json()["upstream_bytes"])
        # The archive may be updated in between, which brings a new InRelease and by-hash files.
        assert fetched[1] - fetched[0] < fetched[0] / 2


def _listed(objects: Any) -> list[dict[str, Any]]:
    return objects if isinstance(objects, list) else objects["objects"]


async def _same(one: Path, other: Path) -> None:
    def read(directory: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in directory.iterdir()}

    first, second = await asyncio.to_thread(read, one), await asyncio.to_thread(read, other)
    assert first
    assert first == second
