"""Package managers by the lines that ``forebay env`` prints: cold, then hot with a fresh client.

Each fetches the same thing twice, as two machines would; the second time not one byte of a body
may come from the registry. What they install is compared with what the registry has.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.clients.conftest import Ran, run
from tests.clients.printed import printed
from tests.clients.twice import cold_and_hot, found, mounted
from tests.fakes import registries
from tests.fakes.origin import Origin

pytestmark = pytest.mark.clients


@pytest.mark.parametrize("newest", [False, True])
async def test_pip_downloads_a_wheel(
    tmp_path: Path, origin: Origin, files: Origin, newest: bool
) -> None:
    """By the pip beside this Python, and by the newest, which CI has beside uv."""
    beside = shutil.which("uv") if newest else sys.executable
    if beside is None or not await asyncio.to_thread(Path(beside).with_name("pip").exists):
        pytest.skip("the newest pip is not installed here")
    wheel = registries.pypi(origin, files)
    async with mounted(tmp_path, origin, "pypi") as service:
        lines = await printed("pip", service)

        async def fetch(home: Path) -> Ran:
            return await lines.run(
                "pip", "download", "--no-deps", "--no-cache-dir", "--disable-pip-version-check",
                "--no-input", "-d", "there", "waterwheel", home=home,
                PATH=f"{Path(beside).parent}:{os.environ['PATH']}",
            )  # fmt: skip

        for home in await cold_and_hot(tmp_path, fetch, origin, files):
            assert await found(home / "there", "*.whl") == [wheel.sha256]
    assert len(files.requests_for(wheel.path)) == 1


async def test_uv_installs_a_wheel(tmp_path: Path, origin: Origin, files: Origin) -> None:
    registries.pypi(origin, files)
    async with mounted(tmp_path, origin, "pypi") as service:
        lines = await printed("uv", service)

        async def fetch(home: Path) -> Ran:
            return await lines.run(
                "uv", "pip", "install", "--no-config", "--no-cache", "--target", "there",
                "--python-version", "3.11", "waterwheel", home=home,
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
        lines = (await printed("npm", service)).only("npm config")

        async def fetch(home: Path) -> Ran:
            if not rewrite:
                # As npm leads tarballs of the public registry: to the one that is configured.
                lead = "--replace-registry-host=always"
            else:
                lead = "--replace-registry-host=never"
            return await lines.run(
                "npm", "install", "--no-audit", "--no-fund", "--prefix", str(home), lead,
                "waterwheel", home=home,
            )  # fmt: skip

        homes = await cold_and_hot(tmp_path, fetch, origin, files)
        expected = hashlib.sha256(registries.noise(100_000)).hexdigest()
        for home in homes:
            assert await found(home / "node_modules", "blob.bin") == [expected]


@pytest.mark.parametrize("way", ["mount", "proxy"])
async def test_apt_downloads_a_package(tmp_path: Path, origin: Origin, way: str) -> None:
    deb = registries.apt(origin)
    async with mounted(tmp_path, origin, "apt", "/debian/") as service:
        lines = await printed("apt", service)

        async def fetch(home: Path) -> Ran:
            for part in ("state/lists/partial", "cache/archives/partial", "etc/apt/apt.conf.d"):
                (home / part).mkdir(parents=True)
            source = f"deb {origin.url('/debian/')} SUITE COMPONENT\n"
            if way == "mount":
                source = lines.files["/etc/apt/sources.list"]
            else:
                await run("sh", "-c", lines.shell.replace("/etc/", f"{home}/etc/"), cwd=home)
            # What an archive without a signature wants, in the place of what a reader fills in.
            source = source.replace("deb ", "deb [trusted=yes arch=amd64] ")
            source = source.replace("SUITE COMPONENT", "stable main")
            (home / "etc/apt/sources.list").write_text(source)
            (home / "status").write_text("")
            options = {
                "Dir::State": home / "state",
                "Dir::State::status": home / "status",
                "Dir::Cache": home / "cache",
                "Dir::Etc": home / "etc/apt",
                "APT::Sandbox::User": "root",
                "APT::Architecture": "amd64",
                "Acquire::Languages": "none",
            }
            config = "".join(f'{key} "{value}";\n' for key, value in options.items())
            (home / "apt.conf").write_text(config)
            given = str(home / "apt.conf")
            updated = await run("apt-get", "update", "--error-on=any", cwd=home, APT_CONFIG=given)
            if updated.status != 0:
                return updated
            return await run("apt-get", "download", "waterwheel", cwd=home, APT_CONFIG=given)

        homes = await cold_and_hot(tmp_path, fetch, origin)
        for home in homes:
            assert await found(home, "waterwheel_*.deb") == [deb.sha256]


async def test_cargo_fetches_a_crate(tmp_path: Path, origin: Origin, files: Origin) -> None:
    crate = registries.crates(origin, files)
    async with mounted(tmp_path, origin, "cargo") as service:
        lines = await printed("cargo", service)

        async def fetch(home: Path) -> Ran:
            (home / "src").mkdir()
            (home / "src/lib.rs").write_text("")
            (home / "Cargo.toml").write_text(
                '[package]\nname = "mill"\nversion = "0.1.0"\nedition = "2021"\n'
                '[dependencies]\nwaterwheel = "1"\n'
            )
            lines.put(home)
            return await run("cargo", "fetch", cwd=home, RUSTUP_HOME=_home(".rustup"))

        homes = await cold_and_hot(tmp_path, fetch, origin, files)
        for home in homes:
            assert await found(home, "waterwheel-1.0.0.crate") == [crate.sha256]


def _home(name: str) -> str:
    """A directory of whoever runs the tests: where rustup keeps its toolchains."""
    return str(Path("~").expanduser() / name)


async def test_go_downloads_a_module(tmp_path: Path, origin: Origin) -> None:
    module = registries.go_module(origin)
    async with mounted(tmp_path, origin, "go") as service:
        lines = await printed("go", service)

        async def fetch(home: Path) -> Ran:
            (home / "go.mod").write_text("module x\n\ngo 1.18\n")
            return await lines.run(
                "go", "mod", "download", "-x", "mill.example/wheel@v1.0.0", home=home,
                GOFLAGS="-modcacherw", GOSUMDB="off", GOTOOLCHAIN="local",
            )  # fmt: skip

        homes = await cold_and_hot(tmp_path, fetch, origin)
        for home in homes:
            assert await found(home, "v1.0.0.zip") == [module.sha256]


@pytest.mark.parametrize("program", ["hf", "hf1", "hf0"])
async def test_every_generation_of_hf_downloads_a_model(
    tmp_path: Path, origin: Origin, files: Origin, program: str
) -> None:
    large, small = registries.hub(origin, files)
    async with mounted(tmp_path, origin, "huggingface") as service:
        lines = await printed("hf", service)
        for name in ("cold", "hot"):
            before = files.body_bytes_sent
            home = tmp_path / name
            await asyncio.to_thread(home.mkdir)
            ran = await lines.run(
                program, "download", "org/model", "--local-dir", "there", home=home,
                HF_HUB_DISABLE_TELEMETRY="1", DO_NOT_TRACK="1",
            )  # fmt: skip
            assert ran.status == 0, ran.output
            assert await found(home / "there", "large.bin") == [large.sha256]
            assert await found(home / "there", "config.json") == [small.sha256]
            # The listings of a hub are asked for each time; its store sends nothing again.
            assert (files.body_bytes_sent == before) == (name == "hot")
        assert not [r for r in origin.requests if "xet" in r.target]


async def test_git_clones_a_repository_with_an_lfs_object(
    tmp_path: Path, origin: Origin, files: Origin
) -> None:
    file = registries.lfs(origin, files)
    pointer = (
        "version https://git-lfs.github.com/spec/v1\n"
        f"oid sha256:{file.sha256}\nsize {len(file.body)}\n"
    )
    await _publish(tmp_path / "published", origin, {
        ".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n", "a.bin": pointer,
    })  # fmt: skip
    async with mounted(tmp_path, origin, "git-lfs") as service:
        lines = await printed("git-lfs", service)
        for name in ("cold", "hot"):
            before = files.body_bytes_sent
            home = tmp_path / name
            await asyncio.to_thread(home.mkdir)
            installed = await run("git-lfs", "install", cwd=home)
            assert installed.status == 0, installed.output
            ran = await lines.run("git", "clone", "-q", origin.url("/mill.git"), "w", home=home)
            assert ran.status == 0, ran.output
            assert await found(home / "w", "a.bin") == [file.sha256]
            # The batch is a POST and is asked each time; the object is not.
            assert (files.body_bytes_sent == before) == (name == "hot")
    passed = {r.fields.get("via") is not None for r in [*origin.requests, *files.requests]}
    assert passed == {True}, "nothing went past us"


async def _publish(directory: Path, origin: Origin, tree: dict[str, str]) -> None:
    """Serve a repository of one commit at /mill.git, as files: git's plain HTTP."""
    await asyncio.to_thread(directory.mkdir)
    for name, text in tree.items():
        await asyncio.to_thread((directory / name).write_text, text)
    me = "-c user.name=t -c user.email=t@example.org"
    made = await run(
        "sh", "-ec", f"git init -q . && git add . && git {me} commit -qm a && "
        "git gc -q && git update-server-info", cwd=directory,
    )  # fmt: skip
    assert made.status == 0, made.output
    top = directory / ".git"
    for path in await asyncio.to_thread(lambda: [p for p in top.rglob("*") if p.is_file()]):
        origin.add(
            f"/mill.git/{path.relative_to(top)}", body=await asyncio.to_thread(path.read_bytes)
        )
