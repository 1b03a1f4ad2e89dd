"""Further programs through their mounts: cold, then hot with empty caches of their own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.clients.conftest import Ran, run
from tests.clients.twice import cold_and_hot, found, mounted, sha256
from tests.fakes import package_sites, registries
from tests.fakes.origin import Origin
from tests.patience import PATIENCE_SECONDS

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
        settings = (
            "<settings><mirrors><mirror><id>forebay</id><mirrorOf>*</mirrorOf>"
            f"<url>http://127.0.0.1:{service.port}/m/</url></mirror></mirrors></settings>"
        )

        async def fetch(home: Path) -> Ran:
            (home / "pom.xml").write_text(project)
            (home / "settings.xml").write_text(settings)
            return await run(
                "mvn", "-B", "-q", "-s", "settings.xml", f"-Dmaven.repo.local={home / 'repo'}",
                "validate", cwd=home, timeout_seconds=120.0,
                MAVEN_OPTS="-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
            )  # fmt: skip

        for home in await cold_and_hot(tmp_path, fetch, origin):
            assert await found(home / "repo", "parent-1.0.pom") == [parent.sha256]
            assert await found(home / "repo", "wheel-1.0.jar") == [jar.sha256]


async def test_dnf_downloads_a_package(tmp_path: Path, origin: Origin) -> None:
    rpm = package_sites.dnf(origin)
    async with mounted(tmp_path, origin, "dnf", "/dnf/") as service:

        async def fetch(home: Path) -> Ran:
            (home / "log").mkdir()
            options = {
                "reposdir": home / "none",
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
                f"--repofrompath=mill,http://127.0.0.1:{service.port}/m/", "--repo=mill",
                "install", "--downloadonly", "waterwheel", cwd=home,
            )  # fmt: skip

        for home in await cold_and_hot(tmp_path, fetch, origin):
            assert await found(home, "waterwheel-1.0-1.noarch.rpm") == [rpm.sha256]


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
    python = _python_with("rattler")
    _, digest = package_sites.conda(origin)
    async with mounted(tmp_path, origin, "conda", "/conda/") as service:

        async def fetch(home: Path) -> Ran:
            channel = f"http://127.0.0.1:{service.port}/m/mill"
            return await run(python, "-c", _RATTLER, channel, str(home), cwd=home)

        for home in await cold_and_hot(tmp_path, fetch, origin):
            assert await found(home / "there", "wheel.bin") == [digest]


def _python_with(module: str) -> str:
    """An interpreter that has this module, among those beside the clients."""
    for directory in os.environ["PATH"].split(os.pathsep):
        python = Path(directory) / "python3"
        if python.exists() and list(Path(directory).parent.glob(f"lib/*/site-packages/{module}")):
            return str(python)
    pytest.skip(f"no interpreter here has {module}")


@pytest.mark.parametrize("program", ["pnpm", "yarn"])
async def test_pnpm_and_yarn_install_where_the_mount_rewrites_links(
    tmp_path: Path, origin: Origin, files: Origin, program: str
) -> None:
    registries.npm(origin, files)
    async with mounted(tmp_path, origin, "npm", rewrite_links=True) as service:
        registry = f"http://127.0.0.1:{service.port}/m"

        async def fetch(home: Path) -> Ran:
            manifest = {"name": "mill", "version": "1.0.0", "dependencies": {"waterwheel": "1.0.0"}}
            (home / "package.json").write_text(json.dumps(manifest))
            if program == "pnpm":
                return await run(
                    "pnpm", "install", "--registry", f"{registry}/",
                    "--store-dir", str(home / "store"), cwd=home,
                    npm_config_manage_package_manager_versions="false",
                    npm_config_minimum_release_age="0", XDG_CACHE_HOME=str(home / "cache"),
                )  # fmt: skip
            (home / "yarn.lock").write_text("")
            return await run(
                "yarn", "install", cwd=home, YARN_NPM_REGISTRY_SERVER=registry,
                YARN_UNSAFE_HTTP_WHITELIST="127.0.0.1", YARN_ENABLE_TELEMETRY="0",
                YARN_NODE_LINKER="node-modules", YARN_GLOBAL_FOLDER=str(home / "global"),
                YARN_ENABLE_GLOBAL_CACHE="0", YARN_ENABLE_IMMUTABLE_INSTALLS="0",
                YARN_NPM_MINIMAL_AGE_GATE="0",
            )  # fmt: skip

        expected = registries.File("", registries.noise(100_000)).sha256
        for home in await cold_and_hot(tmp_path, fetch, origin, files):
            assert set(await found(home / "node_modules", "blob.bin")) == {expected}


async def test_skopeo_finds_us_as_a_mirror_of_its_registry(tmp_path: Path, origin: Origin) -> None:
    """As podman and buildah do, by the lines that ``forebay env docker`` prints."""
    image = registries.registry(origin, token="let-me-in")
    async with mounted(tmp_path, origin, "oci") as service:

        async def fetch(home: Path) -> Ran:
            (home / "registries.conf").write_text(
                '[[registry]]\nlocation = "registry.example"\n[[registry.mirror]]\n'
                f'location = "127.0.0.1:{service.port}/m"\ninsecure = true\n'
            )
            return await run(
                "skopeo", "--registries-conf", "registries.conf", "copy", "--insecure-policy",
                "--override-os", "linux", "--override-arch", "amd64", "docker://registry.example/library/mill:latest",
                "dir:there", cwd=home,
            )  # fmt: skip

        for home in await cold_and_hot(tmp_path, fetch, origin):
            layer = home / "there" / image.layer.sha256
            assert await asyncio.to_thread(sha256, layer) == image.layer.sha256


async def test_containerd_fetches_an_image(tmp_path: Path, origin: Origin) -> None:
    """containerd's own resolver, by the hosts.toml that ``forebay env docker`` prints."""
    image = registries.registry(origin, token="let-me-in")
    if shutil.which("containerd") is None or os.geteuid() != 0:
        pytest.skip("containerd is not installed here, or wants root")
    async with mounted(tmp_path, origin, "oci") as service:

        async def fetch(home: Path) -> Ran:
            hosts = home / "certs.d/registry.example"
            hosts.mkdir(parents=True)
            (hosts / "hosts.toml").write_text(
                f'[host."http://127.0.0.1:{service.port}/v2/m"]\n'
                'capabilities = ["pull", "resolve"]\noverride_path = true\n'
            )
            config = home / "config.toml"
            config.write_text(
                f'version = 2\nroot = "{home}/root"\nstate = "{home}/state"\n'
                'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
                f'[grpc]\naddress = "{home}/sock"\n'
            )
            daemon = await asyncio.create_subprocess_exec(
                "containerd", "--config", str(config), "--log-level", "error",
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    while not (home / "sock").exists():  # noqa: ASYNC110 - no event tells of it
                        await asyncio.sleep(0.05)
                return await run(
                    "ctr", "--address", str(home / "sock"), "content", "fetch",
                    "--hosts-dir", str(home / "certs.d"), "--platform", "linux/amd64",
                    "registry.example/library/mill:latest", cwd=home,
                )  # fmt: skip
            finally:
                daemon.send_signal(signal.SIGTERM)
                await daemon.wait()

        for home in await cold_and_hot(tmp_path, fetch, origin):
            assert image.layer.sha256 in await found(home / "root", image.layer.sha256)


@pytest.mark.parametrize("generation", [0, 1])
async def test_older_clients_of_the_hub_download_a_model(
    tmp_path: Path, origin: Origin, files: Origin, generation: int
) -> None:
    program = shutil.which(f"hf{generation}")
    if program is None:
        pytest.skip(f"huggingface_hub of generation {generation} is not installed here")
    large, small = registries.hub(origin, files)
    async with mounted(tmp_path, origin, "huggingface") as service:
        for name in ("cold", "hot"):
            before = files.body_bytes_sent
            home = tmp_path / name
            await asyncio.to_thread(home.mkdir)
            ran = await run(
                program, "download", "org/model", "--local-dir", str(home / "there"), cwd=home,
                HF_ENDPOINT=f"http://127.0.0.1:{service.port}/m", HF_HOME=str(home / "hf"),
                HF_HUB_DISABLE_TELEMETRY="1", DO_NOT_TRACK="1",
            )  # fmt: skip
            assert ran.status == 0, ran.output
            assert await found(home / "there", "large.bin") == [large.sha256]
            assert await found(home / "there", "config.json") == [small.sha256]
            assert (files.body_bytes_sent == before) == (name == "hot")
