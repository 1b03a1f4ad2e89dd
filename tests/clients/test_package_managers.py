"""Package managers through their presets: cold, then hot with a fresh client, with upstream's log.

Each fetches the same thing twice, as two machines would; the second time not one byte of a body
may come from the registry. What they install is compared with what the registry has.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import Ran, run
from tests.clients.twice import cold_and_hot, found, mounted, sha256
from tests.fakes import registries
from tests.fakes.origin import Origin
from tests.live.running import running
from tests.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.clients


async def test_uv_installs_a_wheel(tmp_path: Path, origin: Origin, files: Origin) -> None:
    registries.pypi(origin, files)
    async with mounted(tmp_path, origin, "pypi") as service:
        index = f"http://127.0.0.1:{service.port}/m/simple/"

        async def fetch(home: Path) -> Ran:
            return await run(
                "uv", "pip", "install", "--no-config", "--no-cache", "--target", "there",
                "--python-version", "3.11", "--default-index", index, "waterwheel", cwd=home,
            )  # fmt: skip

        homes = await cold_and_hot(tmp_path, fetch, origin, files)
        expected = hashlib.sha256(registries.noise(200_000)).hexdigest()
        for home in homes:
            assert await found(home, "waterwheel_data.bin") == [expected]


@pytest.mark.parametrize("rewrite", [True, False])
async def test_npm_installs_a_package(
    tmp_path: Path, origin: Origin, files: Origin, rewrite: bool
) -> None:
    tarballs = files if rewrite else origin
    registries.npm(origin, tarballs)
    async with mounted(tmp_path, origin, "npm", rewrite_links=rewrite) as service:
        registry = f"http://127.0.0.1:{service.port}/m/"

        async def fetch(home: Path) -> Ran:
            if not rewrite:
                # As npm leads tarballs of the public registry: to the one that is configured.
                lead = "--replace-registry-host=always"
            else:
                lead = "--replace-registry-host=never"
            return await run(
                "npm", "install", "--no-audit", "--no-fund", "--prefix", str(home),
                "--cache", str(home / "cache"), "--registry", registry, lead, "waterwheel",
                cwd=home,
            )  # fmt: skip

        homes = await cold_and_hot(tmp_path, fetch, origin, files)
        expected = hashlib.sha256(registries.noise(100_000)).hexdigest()
        for home in homes:
            assert await found(home / "node_modules", "blob.bin") == [expected]


@pytest.mark.parametrize("way", ["mount", "proxy"])
async def test_apt_downloads_a_package(tmp_path: Path, origin: Origin, way: str) -> None:
    deb = registries.apt(origin)
    async with mounted(tmp_path, origin, "apt", "/debian/") as service:
        here = f"http://127.0.0.1:{service.port}"
        source = f"{here}/m/" if way == "mount" else origin.url("/debian/")

        async def fetch(home: Path) -> Ran:
            for part in ("state/lists/partial", "cache/archives/partial", "etc/apt.conf.d"):
                (home / part).mkdir(parents=True)
            (home / "sources.list").write_text(
                f"deb [trusted=yes arch=amd64] {source} stable main\n"
            )
            (home / "status").write_text("")
            options = {
                "Dir::State": home / "state",
                "Dir::State::status": home / "status",
                "Dir::Cache": home / "cache",
                "Dir::Etc": home / "etc",
                "Dir::Etc::SourceList": home / "sources.list",
                "APT::Sandbox::User": "root",
                "APT::Architecture": "amd64",
                "Acquire::Languages": "none",
                "Acquire::http::Proxy": "DIRECT" if way == "mount" else here,
            }
            given = [word for k, v in options.items() for word in ("-o", f"{k}={v}")]
            updated = await run("apt-get", *given, "update", "--error-on=any", cwd=home)
            if updated.status != 0:
                return updated
            return await run("apt-get", *given, "download", "waterwheel", cwd=home)

        homes = await cold_and_hot(tmp_path, fetch, origin)
        for home in homes:
            assert await found(home, "waterwheel_*.deb") == [deb.sha256]


async def test_cargo_fetches_a_crate(tmp_path: Path, origin: Origin, files: Origin) -> None:
    crate = registries.crates(origin, files)
    async with mounted(tmp_path, origin, "cargo") as service:

        async def fetch(home: Path) -> Ran:
            (home / "src").mkdir()
            (home / "src/lib.rs").write_text("")
            (home / "Cargo.toml").write_text(
                '[package]\nname = "mill"\nversion = "0.1.0"\nedition = "2021"\n'
                '[dependencies]\nwaterwheel = "1"\n'
            )
            return await run(
                "cargo", "fetch",
                "--config", 'source.crates-io.replace-with="c"',
                "--config", f'source.c.registry="sparse+http://127.0.0.1:{service.port}/m/"',
                cwd=home, CARGO_HOME=str(home / "cargo"), RUSTUP_HOME=_home(".rustup"),
            )  # fmt: skip

        homes = await cold_and_hot(tmp_path, fetch, origin, files)
        for home in homes:
            assert await found(home, "waterwheel-1.0.0.crate") == [crate.sha256]


def _home(name: str) -> str:
    """A directory of whoever runs the tests: where rustup keeps its toolchains."""
    return str(Path("~").expanduser() / name)


async def test_go_downloads_a_module(tmp_path: Path, origin: Origin) -> None:
    module = registries.go_module(origin)
    async with mounted(tmp_path, origin, "go") as service:

        async def fetch(home: Path) -> Ran:
            (home / "go.mod").write_text("module x\n\ngo 1.18\n")
            return await run(
                "go", "mod", "download", "-x", "mill.example/wheel@v1.0.0", cwd=home,
                GOPATH=str(home / "go"), GOCACHE=str(home / "gocache"), GOFLAGS="-modcacherw",
                GOPROXY=f"http://127.0.0.1:{service.port}/m", GOSUMDB="off", GOTOOLCHAIN="local",
            )  # fmt: skip

        homes = await cold_and_hot(tmp_path, fetch, origin)
        for home in homes:
            assert await found(home, "v1.0.0.zip") == [module.sha256]


async def test_hf_downloads_a_model(tmp_path: Path, origin: Origin, files: Origin) -> None:
    large, small = registries.hub(origin, files)
    async with mounted(tmp_path, origin, "huggingface") as service:

        async def fetch(home: Path) -> Ran:
            return await run(
                "hf", "download", "org/model", "--local-dir", str(home / "there"), cwd=home,
                HF_ENDPOINT=f"http://127.0.0.1:{service.port}/m", HF_HOME=str(home / "hf"),
                HF_HUB_DISABLE_TELEMETRY="1", DO_NOT_TRACK="1",
            )  # fmt: skip

        for name in ("cold", "hot"):
            before = files.body_bytes_sent
            home = tmp_path / name
            home.mkdir()
            ran = await fetch(home)
            assert ran.status == 0, ran.output
            assert await found(home / "there", "large.bin") == [large.sha256]
            assert await found(home / "there", "config.json") == [small.sha256]
            # The listings of a hub are asked for each time; its store sends nothing again.
            assert (files.body_bytes_sent == before) == (name == "hot")
        assert not [r for r in origin.requests if "xet" in r.target]


async def test_git_lfs_fetches_an_object(tmp_path: Path, origin: Origin, files: Origin) -> None:
    file = registries.lfs(origin, files)
    pointer = (
        "version https://git-lfs.github.com/spec/v1\n"
        f"oid sha256:{file.sha256}\nsize {len(file.body)}\n"
    )
    async with mounted(tmp_path, origin, "git-lfs") as service:

        async def fetch(home: Path) -> Ran:
            url = f"http://127.0.0.1:{service.port}/m/mill.git/info/lfs"
            (home / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
            (home / ".lfsconfig").write_text(f"[lfs]\n\turl = {url}\n")
            (home / "a.bin").write_text(pointer)
            me = ("-c", "user.name=t", "-c", "user.email=t@example.org")
            steps: list[tuple[str, ...]] = [
                ("git", "init", "-q"),
                ("git", "lfs", "install", "--local"),
                ("git", "add", "."),
                ("git", *me, "commit", "-q", "-m", "a"),
                ("git", "lfs", "pull"),
            ]
            ran = await run("git-lfs", "version", cwd=home)
            for step in steps:
                ran = await run(*step, cwd=home)
                if ran.status != 0:
                    return ran
            return ran

        for name in ("cold", "hot"):
            before = files.body_bytes_sent
            home = tmp_path / name
            home.mkdir()
            ran = await fetch(home)
            assert ran.status == 0, ran.output
            assert await found(home, "a.bin") == [file.sha256]
            # The batch is a POST and is asked each time; the object is not.
            assert (files.body_bytes_sent == before) == (name == "hot")


async def test_skopeo_copies_an_image(tmp_path: Path, origin: Origin) -> None:
    image = registries.registry(origin, token="let-me-in")
    async with mounted(tmp_path, origin, "oci") as service:

        async def fetch(home: Path) -> Ran:
            source = f"docker://127.0.0.1:{service.port}/m/library/mill:latest"
            return await run(
                "skopeo", "copy", "--insecure-policy", "--src-tls-verify=false",
                "--override-os", "linux", "--override-arch", "amd64", source, "dir:there", cwd=home,
            )  # fmt: skip

        homes = await cold_and_hot(tmp_path, fetch, origin)
        for home in homes:
            there = home / "there"
            assert sha256(there / "manifest.json") == image.digest.removeprefix("sha256:")
            assert sha256(there / image.layer.sha256) == image.layer.sha256
        assert len(origin.requests_for("/token")) == 1


async def test_skopeo_copies_from_a_real_registry(tmp_path: Path, origin: Origin) -> None:
    """Against docker-registry itself, filled by skopeo; its access log is the witness."""
    registries.registry(origin)
    store = tmp_path / "registry"
    config = {
        "version": 0.1,
        "log": {"accesslog": {"disabled": False}},
        "storage": {"filesystem": {"rootdirectory": str(store)}},
        "http": {"addr": "127.0.0.1:0"},
    }
    async with _docker_registry(tmp_path, config) as (port, log):
        source = f"docker://{origin.url().removeprefix('http://')}library/mill:latest"
        target = f"docker://127.0.0.1:{port}/library/mill:latest"
        filled = await run(
            "skopeo", "copy", "--insecure-policy", "--src-tls-verify=false",
            "--dest-tls-verify=false", "--override-os", "linux", "--override-arch", "amd64",
            source, target, cwd=tmp_path,
        )  # fmt: skip
        assert filled.status == 0, filled.output
        mount = {"name": "m", "preset": "oci", "upstream": f"http://127.0.0.1:{port}/"}
        async with running(tmp_path / "cache", origin, mounts=[mount]) as service:
            for name in ("cold", "hot"):
                before = len(await asyncio.to_thread(_bodies_in, log))
                ran = await run(
                    "skopeo", "copy", "--insecure-policy", "--src-tls-verify=false",
                    "--override-os", "linux", "--override-arch", "amd64",
                    f"docker://127.0.0.1:{service.port}/m/library/mill:latest", f"dir:{name}",
                    cwd=tmp_path,
                )  # fmt: skip
                assert ran.status == 0, ran.output
                manifest = json.loads((tmp_path / name / "manifest.json").read_text())
                for layer in manifest["layers"]:
                    digest = layer["digest"].removeprefix("sha256:")
                    assert sha256(tmp_path / name / digest) == digest
                sent = (await asyncio.to_thread(_bodies_in, log))[before:]
                assert bool(sent) == (name == "cold"), sent


def _bodies_in(log: Path) -> list[str]:
    """Lines of the access log for blobs and manifests that were sent in answer to a GET."""
    lines = log.read_text(errors="replace").splitlines()
    return [line for line in lines if '"GET /v2/' in line and '" 200 ' in line and "/mill/" in line]


@asynccontextmanager
async def _docker_registry(
    directory: Path, config: dict[str, Any]
) -> AsyncIterator[tuple[int, Path]]:
    if shutil.which("docker-registry") is None:
        pytest.skip("docker-registry is not installed here")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    config["http"]["addr"] = f"127.0.0.1:{port}"
    path, log = directory / "registry.yml", directory / "registry.log"
    path.write_text(json.dumps(config))  # every JSON document is one in YAML
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            "docker-registry", "serve", str(path), stdout=out, stderr=out
        )
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while True:
                    try:
                        _, writer = await asyncio.open_connection("127.0.0.1", port)
                        writer.close()
                        break
                    except OSError:
                        await asyncio.sleep(0.05)
            yield port, log
        finally:
            process.kill()
            await process.wait()
