"""Further programs through their mounts: cold, then hot with empty caches of their own."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.clients.conftest import Ran, python_with, run
from tests.clients.printed import printed
from tests.clients.twice import cold_and_hot, found, mounted, sha256
from tests.fakes import package_sites, registries
from tests.fakes.origin import Origin

pytestmark = pytest.mark.clients


async def test_rclone_copies_a_listed_directory(tmp_path: Path, origin: Origin) -> None:
    files = package_sites.listing(origin)
    async with mounted(tmp_path, origin, "generic", "/files/") as service:

        async def fetch(home: Path) -> Ran:
            return await run(
                "rclone", "copy", ":http:", "there", "--multi-thread-cutoff", "1M",
                "--http-url", f"http://127.0.0.1:{service.port}/m/", "--config", "/dev/null",
                cwd=home,
            )  # fmt: skip

        for home in await cold_and_hot(tmp_path, fetch, origin):
            for name, file in files.items():
                assert await asyncio.to_thread(sha256, home / "there" / name) == file.sha256


async def test_maven_resolves_a_parent_and_an_extension(tmp_path: Path, origin: Origin) -> None:
    parent, jar = package_sites.maven(origin)
    project = (
        "<project><modelVersion>4.0.0</modelVersion><parent><groupId>example.mill</groupId>"
        "<artifactId>parent</artifactId><version>1.0</version><relativePath/></parent>"
        "<artifactId>here</artifactId><packaging>pom</packaging><build><extensions><extension>"
        "<groupId>example.mill</groupId><artifactId>wheel</artifactId><version>1.0</version>"
        "</extension></extensions></build></project>"
    )
    async with mounted(tmp_path, origin, "maven", "/maven/") as service:
        lines = await printed("maven", service)

        async def fetch(home: Path) -> Ran:
            (home / "pom.xml").write_text(project)
            lines.put(home)
            # Java asks the system, not the environment, where its user is at home.
            return await run(
                "mvn", "-B", "-q", "validate", cwd=home, timeout_seconds=120.0,
                MAVEN_OPTS=f"-Duser.home={home} -XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
            )  # fmt: skip

        for home in await cold_and_hot(tmp_path, fetch, origin):
            assert await found(home / ".m2/repository", "parent-1.0.pom") == [parent.sha256]
            assert await found(home / ".m2/repository", "wheel-1.0.jar") == [jar.sha256]


async def test_dnf_downloads_a_package(tmp_path: Path, origin: Origin) -> None:
    rpm = package_sites.dnf(origin)
    async with mounted(tmp_path, origin, "dnf", "/") as service:
        lines = (await printed("dnf", service)).fill_in({"PATH/OF/THE/REPOSITORY": "dnf"})

        async def fetch(home: Path) -> Ran:
            (home / "log").mkdir()
            [file] = lines.put(home).values()
            file.write_text("[mill]\nname=mill\n" + file.read_text())
            options = {
                "reposdir": file.parent,
                "cachedir": home / "cache",
                "persistdir": home / "persist",
                "logdir": home / "log",
                "pluginpath": home / "none",
                "keepcache": "True",
                "module_platform_id": "platform:f40",
            }
            given = [f"--setopt={key}={value}" for key, value in options.items()]
            return await run(
                "dnf", "-y", "-q", *given, "--releasever=40", f"--installroot={home / 'root'}",
                "--forcearch=x86_64", "--nogpgcheck",
                "--repo=mill", "install", "--downloadonly", "waterwheel", cwd=home,
            )  # fmt: skip

        for home in await cold_and_hot(tmp_path, fetch, origin):
            assert await found(home, "waterwheel-1.0-1.noarch.rpm") == [rpm.sha256]


async def test_conda_creates_an_environment(tmp_path: Path, origin: Origin) -> None:
    _, digest = package_sites.conda(origin)
    async with mounted(tmp_path, origin, "conda", "/conda/") as service:
        lines = await printed("conda", service)

        async def fetch(home: Path) -> Ran:
            return await lines.run(
                "conda", "create", "-y", "-q", "--solver", "classic", "-p", str(home / "there"),
                "--override-channels", "-c", "mill", "waterwheel", home=home,
                CONDA_PKGS_DIRS=str(home / "pkgs"),
            )  # fmt: skip

        for home in await cold_and_hot(tmp_path, fetch, origin):
            assert await found(home / "there", "wheel.bin") == [digest]


_RATTLER = """
import asyncio, sys
from pathlib import Path
import rattler

async def main(channel: str, home: Path) -> None:
    gateway = rattler.Gateway(cache_dir=home / "repodata")
    records = await rattler.solve(
        [rattler.Channel(channel)], ["waterwheel"], platforms=["linux-64", "noarch"],
        virtual_packages=[], gateway=gateway,
    )
    await rattler.install(records, target_prefix=home / "there", cache_dir=home / "packages")

asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
"""


async def test_rattler_installs_from_a_conda_channel(tmp_path: Path, origin: Origin) -> None:
    python = python_with("rattler")
    _, digest = package_sites.conda(origin)
    async with mounted(tmp_path, origin, "conda", "/conda/") as service:

        async def fetch(home: Path) -> Ran:
            channel = f"http://127.0.0.1:{service.port}/m/mill"
            return await run(python, "-c", _RATTLER, channel, str(home), cwd=home)

        for home in await cold_and_hot(tmp_path, fetch, origin):
            assert await found(home / "there", "wheel.bin") == [digest]


@pytest.mark.parametrize("program", ["pnpm", "yarn"])
async def test_pnpm_and_yarn_install_where_the_mount_rewrites_links(
    tmp_path: Path, origin: Origin, files: Origin, program: str
) -> None:
    registries.npm(origin, files)
    async with mounted(tmp_path, origin, "npm", rewrite_links=True) as service:
        lines = (await printed("npm", service)).only(program if program == "pnpm" else "YARN")

        async def fetch(home: Path) -> Ran:
            manifest = {"name": "mill", "version": "1.0.0", "dependencies": {"waterwheel": "1.0.0"}}
            (home / "package.json").write_text(json.dumps(manifest))
            if program == "pnpm":
                return await lines.run(
                    "pnpm", "install", "--store-dir", str(home / "store"), home=home,
                    npm_config_manage_package_manager_versions="false",
                    npm_config_minimum_release_age="0",
                )  # fmt: skip
            (home / "yarn.lock").write_text("")
            return await lines.run(
                "yarn", "install", home=home, YARN_ENABLE_TELEMETRY="0",
                YARN_NODE_LINKER="node-modules", YARN_GLOBAL_FOLDER=str(home / "global"),
                YARN_ENABLE_GLOBAL_CACHE="0", YARN_ENABLE_IMMUTABLE_INSTALLS="0",
                YARN_NPM_MINIMAL_AGE_GATE="0",
            )  # fmt: skip

        expected = registries.File("", registries.noise(100_000)).sha256
        for home in await cold_and_hot(tmp_path, fetch, origin, files):
            assert set(await found(home / "node_modules", "blob.bin")) == {expected}
