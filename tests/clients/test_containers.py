"""Clients of container registries, by the lines of ``forebay env docker``: cold, then hot.

The daemons among them run for the test, with their state in its directory; they want root.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import Ran, run
from tests.clients.printed import printed
from tests.clients.twice import cold_and_hot, found, mounted, sha256
from tests.fakes import registries
from tests.fakes.origin import Origin
from tests.live.running import running
from tests.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.clients

IMAGE = "library/mill:latest"
CONTENT = hashlib.sha256(registries.noise(300_000, 3)).hexdigest()
"""Of the one file in the image, where an engine unpacks it."""


@pytest.mark.parametrize("program", ["skopeo", "podman", "buildah"])
async def test_an_image_is_pulled_from_us_as_the_mirror_of_its_registry(
    tmp_path: Path, origin: Origin, program: str
) -> None:
    image = registries.registry(origin, token="let-me-in")
    if program != "skopeo" and os.geteuid() != 0:
        pytest.skip(f"{program} wants user namespaces or root")
    async with mounted(tmp_path, origin, "oci") as service:
        lines = await printed("docker", service)
        # Without us it would be asked over TLS, which it does not speak.
        name = origin.url(f"/{IMAGE}").removeprefix("http://")

        async def fetch(home: Path) -> Ran:
            config = str(lines.put(home)["/etc/containers/registries.conf.d/forebay.conf"])
            if program == "skopeo":
                return await run(
                    "skopeo", "--registries-conf", config, "--insecure-policy",
                    "--override-os=linux", "--override-arch=amd64", "copy",
                    f"docker://{name}", "dir:there", cwd=home,
                )  # fmt: skip
            # A path of theirs may have fifty bytes.
            with tempfile.TemporaryDirectory(prefix="run") as short:
                return await run(
                    program, "--storage-driver=vfs", f"--root={home}/root", f"--runroot={short}",
                    "pull", "-q", name, cwd=home, CONTAINERS_REGISTRIES_CONF=config,
                )  # fmt: skip

        for home in await cold_and_hot(tmp_path, fetch, origin):
            if program == "skopeo":
                assert image.layer.sha256 in await found(home / "there", image.layer.sha256)
            else:
                assert await found(home / "root/vfs", "data.bin") == [CONTENT]
    assert len(origin.requests_for("/token")) == 1


async def test_docker_pulls_an_image_from_us_as_the_mirror_of_its_hub(
    tmp_path: Path, origin: Origin
) -> None:
    registries.registry(origin, token="let-me-in")
    async with mounted(tmp_path, origin, "oci", prefix="/v2/") as service:
        lines = await printed("docker", service)

        async def fetch(home: Path) -> Ran:
            config = lines.put(home)["/etc/docker/daemon.json"]
            async with _dockerd(home, config) as address:
                # Its hub is out of reach of the tests; only a mirror can answer.
                return await run("docker", "-H", address, "pull", "-q", "mill", cwd=home)

        for home in await cold_and_hot(tmp_path, fetch, origin):
            # Where the engine keeps what it has verified and unpacked.
            assert await found(home / "data/vfs", "data.bin") == [CONTENT]


async def test_containerd_fetches_an_image(tmp_path: Path, origin: Origin) -> None:
    """containerd's own resolver, by its ``hosts.toml``."""
    image = registries.registry(origin, token="let-me-in")
    async with mounted(tmp_path, origin, "oci") as service:
        lines = await printed("docker", service)
        name = origin.url(f"/{IMAGE}").removeprefix("http://")

        async def fetch(home: Path) -> Ran:
            lines.put(home)
            config = home / "config.toml"
            config.write_text(
                f'version = 2\nroot = "{home}/root"\nstate = "{home}/state"\n'
                'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
                f'[grpc]\naddress = "{home}/sock"\n'
            )
            words = ("containerd", "--config", str(config), "--log-level", "error")
            async with _daemon(*words, ready=home / "sock", log=home / "log"):
                return await run(
                    "ctr", "--address", str(home / "sock"), "content", "fetch",
                    "--hosts-dir", str(home / "etc/containerd/certs.d"),
                    "--platform", "linux/amd64", name, cwd=home,
                )  # fmt: skip

        for home in await cold_and_hot(tmp_path, fetch, origin):
            assert image.layer.sha256 in await found(home / "root", image.layer.sha256)


@asynccontextmanager
async def _daemon(*words: str, ready: Path, log: Path) -> AsyncIterator[None]:
    """A program that goes on until it is told to stop, and makes this socket when it is ready."""
    if shutil.which(words[0]) is None or os.geteuid() != 0:
        pytest.skip(f"{words[0]} is not installed here, or wants root")
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *words, stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await asyncio.to_thread(ready.exists):
                if process.returncode is not None:
                    said = await asyncio.to_thread(log.read_text)
                    pytest.skip(f"{words[0]} does not start here: {said[-300:]}")
                await asyncio.sleep(0.05)
        yield
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()


@asynccontextmanager
async def _dockerd(home: Path, config: Path) -> AsyncIterator[str]:
    """Docker's engine with this configuration and nothing of the machine's; gives its address."""
    # A socket's path may have a hundred bytes, and it makes some below.
    with tempfile.TemporaryDirectory(prefix="docker", ignore_cleanup_errors=True) as short:
        ready = Path(short) / "sock"
        words = (
            "dockerd", "--config-file", str(config), "--iptables=false", "--bridge=none",
            "--storage-driver=vfs", "--data-root", str(home / "data"), "--exec-root", short,
            "--pidfile", str(home / "pid"), "--host", f"unix://{ready}",
        )  # fmt: skip
        async with _daemon(*words, ready=ready, log=home / "log"):
            yield f"unix://{ready}"


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
