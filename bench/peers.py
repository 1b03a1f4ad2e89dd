"""Varnish, Squid and Traffic Server as peers, where they are installed, in fair settings.

Access logs are off and nothing is too large to be kept. Varnish keeps objects in memory, which is
how it is used; the other two on the disk that the rest uses.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeAlias

from bench.servers import Server, free_port, started

Starter: TypeAlias = Callable[[str, Path, Mapping[str, Server]], AbstractContextManager[Server]]


def installed() -> Iterator[tuple[str, str, Starter]]:
    """Name, program and starter of each peer that is on this machine."""
    starters: dict[str, tuple[str, Starter]] = {
        "varnish": ("varnishd", varnish),
        "squid": ("squid", squid),
        "trafficserver": ("traffic_server", traffic_server),
    }
    for name, (program, starter) in starters.items():
        found = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        if found is not None:
            yield name, found, starter


@contextlib.contextmanager
def varnish(program: str, directory: Path, origins: Mapping[str, Server]) -> Iterator[Server]:
    """Varnish with its default parameters and 4 GiB of memory."""
    port = free_port()
    directory.mkdir(parents=True)
    backends = "".join(
        f'backend {name} {{ .host = "127.0.0.1"; .port = "{origin.port}"; }}\n'
        for name, origin in origins.items()
    )
    choices = "".join(
        f'if (req.url ~ "^/{name}/") {{ set req.backend_hint = {name}; '
        f'set req.url = regsub(req.url, "^/{name}", ""); }}\n'
        for name in origins
    )
    _let_in(directory)
    vcl = directory / "bench.vcl"
    vcl.write_text(f"vcl 4.1;\n{backends}sub vcl_recv {{\n{choices}}}\n")
    command = [
        program, "-F", "-f", str(vcl), "-a", f"127.0.0.1:{port}", "-n", str(directory / "work"),
        "-s", "malloc,4g",
    ]  # fmt: skip
    with started(command, directory, port) as running:
        yield Server("varnish", port, running, "defaults, malloc 4g", _prefixed(port, origins))


@contextlib.contextmanager
def squid(program: str, directory: Path, origins: Mapping[str, Server]) -> Iterator[Server]:
    """Squid as an accelerator of the static origin, with collapsing and a disk cache."""
    port = free_port()
    (directory / "cache").mkdir(parents=True)
    owner = _owner("proxy", directory)
    file = directory / "squid.conf"
    file.write_text(
        f"""
http_port 127.0.0.1:{port} accel defaultsite=127.0.0.1
cache_peer 127.0.0.1 parent {origins["origin"].port} 0 no-query originserver
http_access allow all
maximum_object_size 1 GB
cache_dir ufs {directory}/cache 4096 16 256
cache_mem 256 MB
maximum_object_size_in_memory 512 KB
collapsed_forwarding on
access_log none
cache_log {directory}/cache.log
cache_store_log none
pid_filename {directory}/squid.pid
coredump_dir {directory}
shutdown_lifetime 1 second
{owner}
"""
    )
    shown = "accelerator, ufs 4 GB, cache_mem 256 MB, collapsed_forwarding"
    # It makes the directories of its cache first, when they are not there.
    subprocess.run([program, "-z", "-N", "-f", str(file)], check=True, capture_output=True)
    with started([program, "-N", "-f", str(file)], directory, port) as running:
        yield Server("squid", port, running, shown, {"origin": f"http://127.0.0.1:{port}"})


@contextlib.contextmanager
def traffic_server(
    program: str, directory: Path, origins: Mapping[str, Server]
) -> Iterator[Server]:
    """Traffic Server with read-while-write and a cache file of 4 GiB."""
    port = free_port()
    for name in ("etc", "cache", "log", "run"):
        (directory / name).mkdir(parents=True)
    etc = directory / "etc"
    system = Path("/etc/trafficserver")
    for known in system.iterdir() if system.is_dir() else ():
        if known.is_file():
            shutil.copy(known, etc)
    settings = {
        "proxy.config.http.server_ports": f"STRING {port}:ip-in=127.0.0.1",
        "proxy.config.http.cache.required_headers": "INT 0",
        "proxy.config.cache.enable_read_while_writer": "INT 1",
        "proxy.config.http.background_fill_completed_threshold": "FLOAT 0.0",
        "proxy.config.http.background_fill_active_timeout": "INT 0",
        "proxy.config.cache.max_doc_size": "INT 0",
        "proxy.config.cache.ram_cache.size": "INT 268435456",
        "proxy.config.log.logging_enabled": "INT 0",
        "proxy.config.url_remap.remap_required": "INT 1",
        "proxy.config.admin.user_id": "STRING #-1",
    }
    lines = [f"CONFIG {name} {value}" for name, value in settings.items()]
    (etc / "records.config").write_text("\n".join(lines) + "\n")
    (etc / "storage.config").write_text(f"{directory}/cache 4G\n")
    maps = [f"map /{name}/ http://127.0.0.1:{one.port}/" for name, one in origins.items()]
    (etc / "remap.config").write_text("\n".join(maps) + "\n")
    runroot = directory / "runroot.yaml"
    roots = {"prefix": directory, "sysconfdir": etc, "localstatedir": directory / "run"}
    roots |= {"runtimedir": directory / "run", "logdir": directory / "log"}
    roots |= {"cachedir": directory / "cache", "bindir": Path(program).parent}
    runroot.write_text("".join(f"{name}: {path}\n" for name, path in roots.items()))
    shown = "read-while-write, cache 4 GB, ram_cache 256 MB, background fill"
    command = [program, f"--run-root={runroot}"]
    with started(command, directory, port) as running:
        yield Server("trafficserver", port, running, shown, _prefixed(port, origins))


def _prefixed(port: int, origins: Mapping[str, Server]) -> dict[str, str]:
    return {name: f"http://127.0.0.1:{port}/{name}" for name in origins}


def _owner(user: str, directory: Path) -> str:
    """The line that names the user, who may then write here, where we are root."""
    if os.geteuid() != 0:
        return ""
    try:
        known = pwd.getpwnam(user)
    except KeyError:
        return ""
    for path in (directory, *directory.rglob("*")):
        os.chown(path, known.pw_uid, known.pw_gid)
    _let_in(directory)
    return f"cache_effective_user {user}"


def _let_in(directory: Path) -> None:
    """Let users that a root's server becomes go through the directories that lead here."""
    for one in (directory, *directory.parents[:2]):
        if one.owner() == pwd.getpwuid(os.geteuid()).pw_name:
            one.chmod(one.stat().st_mode | 0o011)
