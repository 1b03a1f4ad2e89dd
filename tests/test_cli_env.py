"""``forebay env`` and ``forebay doctor``: what they print, and when they fail."""

from __future__ import annotations

import asyncio
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from typer.testing import CliRunner

from forebay.cli import app
from forebay.cli.doctor import examine
from forebay.cli.env import CLIENTS, lines_for
from forebay.cli.remote import Remote
from forebay.model import Mount
from forebay.presets import PRESETS, preset_settings
from forebay.settings import Defaults, MountTable
from tests.fakes.origin import Origin
from tests.live.running import running

BASE = "http://cache.lan:8000"
RUNNER = CliRunner()


def mounts(*tables: dict[str, Any]) -> tuple[Mount, ...]:
    read = [MountTable.model_validate(table) for table in tables]
    return tuple(table.build(Defaults(), preset_settings()) for table in read)


def table(preset: str, **more: Any) -> dict[str, Any]:
    return {"name": "m", "preset": preset, "upstream": "https://up.example/", **more}


@pytest.mark.parametrize(
    ("client", "line"),
    [
        ("pip", f"pip config set global.index-url {BASE}/m/simple/"),
        ("pip", "pip config set global.trusted-host cache.lan"),
        ("uv", f"export UV_DEFAULT_INDEX={BASE}/m/simple/"),
        ("npm", f"npm config set registry {BASE}/m/"),
        ("apt", f"deb {BASE}/m/ SUITE COMPONENT"),
        (
            "apt",
            f'echo \'Acquire::http::Proxy "{BASE}"; Acquire::https::Proxy "DIRECT";\''
            " > /etc/apt/apt.conf.d/01forebay",
        ),
        ("dnf", f"baseurl={BASE}/m/PATH/OF/THE/REPOSITORY/"),
        ("hf", f"export HF_ENDPOINT={BASE}/m"),
        ("docker", 'location = "cache.lan:8000/m"'),
        ("docker", f'[host."{BASE}/v2/m"]'),
        ("git-lfs", f"git config --global url.{BASE}/m/.insteadOf https://up.example/"),
        ("go", f"export GOPROXY={BASE}/m,direct"),
        ("cargo", f'registry = "sparse+{BASE}/m/"'),
        ("maven", f"<url>{BASE}/m/</url></mirror></mirrors></settings>"),
        ("conda", f"conda config --set channel_alias {BASE}/m"),
        ("curl", f"curl -C - -LO {BASE}/https://HOST/PATH"),
    ],
)
def test_a_client_is_told_its_line(client: str, line: str) -> None:
    preset = CLIENTS[client][0] if client in CLIENTS else "generic"
    assert line in lines_for(client, BASE, mounts(table(preset)))


def test_every_client_has_a_preset_that_there_is() -> None:
    assert {preset for preset, _ in CLIENTS.values()} <= PRESETS.keys()


def test_a_loopback_index_need_not_be_trusted() -> None:
    lines = lines_for("pip", "http://127.0.0.1:8000", mounts(table("pypi")))
    assert not [line for line in lines if "trusted-host" in line]


def test_a_mount_that_ends_in_simple_is_not_given_it_twice() -> None:
    made = mounts(table("pypi", upstream="https://up.example/simple/"))
    assert f"export UV_DEFAULT_INDEX={BASE}/m/" in lines_for("uv", BASE, made)


def test_pnpm_and_yarn_are_named_where_links_are_rewritten() -> None:
    made = mounts(table("npm", rewrite_links=True))
    assert f"pnpm config set registry {BASE}/m/" in lines_for("npm", BASE, made)


def test_a_mount_at_a_host_of_its_own_is_named_by_it() -> None:
    made = mounts(table("huggingface", hosts=["hf.lan"]))
    assert "export HF_ENDPOINT=http://hf.lan:8000" in lines_for("hf", BASE, made)


def test_docker_itself_is_mirrored_by_a_mount_at_the_root() -> None:
    lines = lines_for("docker", BASE, mounts(table("oci", prefix="/v2/")))
    assert f'{{"registry-mirrors": ["{BASE}"]}}' in lines
    assert 'location = "cache.lan:8000"' in lines


def test_a_client_without_a_mount_is_told_what_to_add() -> None:
    with pytest.raises(LookupError, match=r'preset = "pypi"(?s:.*)\[\[mounts\]\]'):
        lines_for("pip", BASE, mounts(table("npm")))


def test_an_unknown_client_is_told_those_that_are_known() -> None:
    with pytest.raises(LookupError, match=r"pip, uv, npm"):
        lines_for("emacs", BASE, ())


def test_the_command_prints_lines_that_a_shell_can_read(tmp_path: Path) -> None:
    config = tmp_path / "forebay.toml"
    config.write_text('[[mounts]]\nname = "m"\npreset = "pypi"\nupstream = "https://up.example/"\n')
    done = RUNNER.invoke(app, ["env", "uv", "--config", str(config), "--server", "cache.lan:8000"])
    assert done.exit_code == 0
    words = shlex.split(done.stdout, comments=True)
    assert words == ["export", f"UV_DEFAULT_INDEX={BASE}/m/simple/"]


def test_the_command_fails_where_there_is_nothing_to_print(tmp_path: Path) -> None:
    done = RUNNER.invoke(app, ["env", "pip"])
    assert done.exit_code == 1


def test_of_several_mounts_a_client_with_one_address_is_told_one_and_how_to_choose() -> None:
    made = mounts(table("pypi"), {**table("pypi"), "name": "team"})
    lines = lines_for("pip", BASE, made)
    active = [line for line in lines if not line.startswith("#")]
    assert active == lines_for("pip", BASE, made[:1])[1:]
    assert lines[-1] == "# or team: https://up.example/, by forebay env pip --mount team"
    chosen = lines_for("pip", BASE, made, "team")
    assert f"pip config set global.index-url {BASE}/team/simple/" in chosen
    assert not [line for line in chosen if "/m/" in line]
    with pytest.raises(LookupError, match="'tema' is for pip; these are: m, team"):
        lines_for("pip", BASE, made, "tema")


def test_of_several_mounts_a_client_with_many_addresses_is_told_all() -> None:
    made = mounts(table("apt"), {**table("apt"), "name": "security"})
    lines = lines_for("apt", BASE, made)
    for name in ("m", "security"):
        assert f"deb {BASE}/{name}/ SUITE COMPONENT" in lines


async def test_mounts_at_names_and_ports_of_their_own_are_examined_there(
    tmp_path: Path, origin: Origin
) -> None:
    origin.add("/robots.txt", body=b"here", headers=[("cache-control", "max-age=60")])
    at_names = {"name": "m", "upstream": origin.url(), "hosts": ["a.cache", "b.cache"]}
    async with running(tmp_path / "cache", origin, mounts=[at_names]) as service:
        remote = Remote(f"http://127.0.0.1:{service.port}")
        made = mounts(at_names, {"name": "p", "upstream": origin.url(), "listen": ":1"})
        found = await asyncio.to_thread(lambda: list(examine(remote, made, None)))
        at_port = mounts({"name": "p", "upstream": origin.url(), "listen": ":1"})
        secure = await asyncio.to_thread(lambda: list(examine(remote, at_port, None, "https")))
    assert "mount p: https://127.0.0.1:1/: nothing listens there" in secure[1].text
    assert [finding.good for finding in found] == [True, True, True, False]
    assert found[1].text == "mount m: every path at a.cache answers."
    assert re.search(r"mount p: http://127\.0\.0\.1:1/: nothing listens there", found[3].text)
    assert {request.path for request in origin.requests} == {"/robots.txt"}


async def test_a_service_that_does_what_it_is_for_is_found_well(
    tmp_path: Path, origin: Origin
) -> None:
    origin.add("/f", body=b"x" * 5000, etag='"x"', headers=[("cache-control", "max-age=60")])
    found = await examined(tmp_path, origin, origin.url("/f"))
    assert [finding.good for finding in found] == [True] * 4, found
    assert "(5000 bytes)" in found[2].text


async def test_what_is_not_cached_is_found(tmp_path: Path, origin: Origin) -> None:
    origin.add("/f", body=b"x" * 50, ranges=False, headers=[("cache-control", "no-store")])
    found = await examined(tmp_path, origin, origin.url("/f"))
    assert [finding.good for finding in found] == [True, True, False, False]


async def test_a_mount_whose_upstream_is_gone_is_found(tmp_path: Path, origin: Origin) -> None:
    origin.refuse_connections()
    found = await examined(tmp_path, origin, None)
    assert [finding.good for finding in found] == [True, False]
    assert re.search(r"mount m: .*502", found[1].text)


def test_a_service_that_is_not_there_is_one_finding() -> None:
    [finding] = examine(Remote("http://127.0.0.1:1"), (), "https://a.example/")
    assert not finding.good


@pytest.fixture
async def origin() -> Any:
    async with Origin() as server:
        yield server


async def examined(directory: Path, origin: Origin, url: str | None) -> Any:
    mount = {"name": "m", "upstream": origin.url()}
    async with running(directory / "cache", origin, mounts=[mount]) as service:
        remote = Remote(f"http://127.0.0.1:{service.port}")
        made = mounts(mount)
        return await asyncio.to_thread(lambda: list(examine(remote, made, url)))


def test_a_mount_that_wants_logins_says_where_they_go() -> None:
    private = mounts(table("npm", share="private", rewrite_links=True))
    lines = lines_for("npm", BASE, private)
    assert "npm config set //cache.lan:8000/m/:_authToken TOKEN" in lines
    assert "export YARN_UNSAFE_HTTP_WHITELIST=cache.lan" in lines
    assert not [line for line in lines_for("npm", BASE, mounts(table("npm"))) if "TOKEN" in line]


@pytest.mark.parametrize("client", sorted(CLIENTS))
def test_with_tls_every_line_is_for_https_at_mounts_own_ports_too(
    tmp_path: Path, client: str
) -> None:
    """One of them at the server's address, one at a port; and a server that is named in short."""
    config = tmp_path / "forebay.toml"
    preset = CLIENTS[client][0]
    tables = {
        "tls": {"certificate": "c.pem", "key": "k.pem"},
        "mounts": [
            table(preset, rewrite_links=True),
            table(preset, name="p", listen=":5000", rewrite_links=True),
        ],
    }
    config.write_text(tomli_w.dumps(tables))
    for mount in ("m", "p"):
        words = ["env", client, "--mount", mount, "--config", str(config), "--server", "cache:8443"]
        done = RUNNER.invoke(app, words)
        assert done.exit_code == 0, done.output
        assert f"https://cache:{'5000' if mount == 'p' else '8443'}" in done.output
        for plain in ("http://cache", "insecure", "trusted-host", "UNSAFE"):
            assert plain not in done.output


def test_a_mount_with_a_port_of_its_own_is_told_by_it() -> None:
    hub = mounts(table("oci", listen=":5000"))
    lines = lines_for("docker", BASE, hub)
    assert '{"registry-mirrors": ["http://cache.lan:5000"]}' in lines
    assert '[host."http://cache.lan:5000/v2"]' in lines
    assert 'location = "cache.lan:5000"' in lines
