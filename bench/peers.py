"""Varnish, Squid and Traffic Server as peers, where they are installed, in fair settings.

As with nginx and Forebay, access logs are off, connections to the origin are kept, requests for
one object that is being fetched share the fetch, nothing is too large to be kept, and there is one
event loop where a server has such. What a server holds in memory may take 4 GiB, which is more
than the benchmark stores: the others have the page cache. Each lets go of what it is told by
PURGE, as its users have it do.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from bench.load import Load, run
from bench.servers import Server, free_port, started, version

Starter: TypeAlias = Callable[[str, Path, Mapping[str, Server]], AbstractContextManager[Server]]

_PURGERS = 8


def installed(names: Iterable[str]) -> Iterator[tuple[str, str, Starter]]:
    """Name, program and starter of each of these peers; one that is not here is told."""
    for name in names:
        program, starter = STARTERS[name]
        found = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        if found is not None:
            yield name, found, starter
        else:
            print(f"{name} is not here and left out: apt install {name}", file=sys.stderr)


def purge(load: Load) -> None:
    """Send PURGE for everything that this load has asked for, over a few connections."""
    clients = min(_PURGERS, load.keys or 1)
    plain = replace(load, range_bytes=0, seconds=None, sweep=bool(load.keys))
    run(replace(plain, clients=clients, purge=True))


@contextlib.contextmanager
def varnish(program: str, directory: Path, origins: Mapping[str, Server]) -> Iterator[Server]:
    """Varnish with memory as its storage and its defaults, but that it keeps idle connections as
    long as nginx does; clients of ``crowd`` rest for longer than its 5 s.
    """
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
    # The path alone would be the same object for two origins.
    keys = "sub vcl_hash { hash_data(req.backend_hint); }\n"
    purging = 'if (req.method == "PURGE") { return (purge); }\n'
    _let_in(directory)
    vcl = directory / "bench.vcl"
    vcl.write_text(f"vcl 4.1;\n{backends}{keys}sub vcl_recv {{\n{choices}{purging}}}\n")
    command = [
        program, "-F", "-f", str(vcl), "-a", f"127.0.0.1:{port}", "-n", str(directory / "work"),
        "-s", "malloc,4g", "-p", "timeout_idle=75",
    ]  # fmt: skip
    shown = (
        f"{version(program, '-V')}, a thread for each request, defaults, malloc 4g, timeout_idle 75"
    )
    with started(command, directory, port) as running:
        yield Server("varnish", port, running, shown, _prefixed(port, origins), purge)


@contextlib.contextmanager
def squid(program: str, directory: Path, origins: Mapping[str, Server]) -> Iterator[Server]:
    """Squid as an accelerator, with a port for each origin, collapsing, and a disk cache.

    All that it reads is in the page cache, where ufs costs a sixth of what the threads of aufs do.
    """
    ports = {name: free_port() for name in origins}
    (directory / "cache").mkdir(parents=True)
    file = directory / "squid.conf"
    lines = [
        f"http_port 127.0.0.1:{ports[name]} accel name={name} defaultsite=127.0.0.1\n"
        f"acl {name} myportname {name}\n"
        f"cache_peer 127.0.0.1 parent {origin.port} 0 no-query originserver name={name}\n"
        f"cache_peer_access {name} allow {name}\n"
        for name, origin in origins.items()
    ]
    file.write_text("".join(lines) + _SQUID.format(directory=directory, owner=_owner(directory)))
    shown = (
        f"{version(program, '-v')}, 1 process, accelerator, ufs, cache_mem 256 MB, "
        "collapsed_forwarding, read_ahead 1 MB"
    )
    # It makes the directories of its cache first, when they are not there.
    subprocess.run([program, "-z", "-N", "-f", str(file)], check=True, capture_output=True)
    bases = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    first = next(iter(ports.values()))
    with started([program, "-N", "-f", str(file)], directory, first) as running:
        yield Server("squid", first, running, shown, bases, purge)


_SQUID = """
acl purging method PURGE
http_access allow purging
http_access allow all
maximum_object_size 4 GB
cache_dir ufs {directory}/cache 20000 16 256
cache_mem 256 MB
maximum_object_size_in_memory 512 KB
memory_pools_limit 256 MB
read_ahead_gap 1 MB
collapsed_forwarding on
access_log none
cache_log {directory}/cache.log
cache_store_log none
pid_filename {directory}/squid.pid
coredump_dir {directory}
shutdown_lifetime 1 second
{owner}
"""


@contextlib.contextmanager
def traffic_server(
    program: str, directory: Path, origins: Mapping[str, Server]
) -> Iterator[Server]:
    """Traffic Server with read-while-write, a cache file, and memory for all that is in it.

    It reads and writes the file past the page cache (``O_DIRECT``), so that its own memory stands
    for what others leave to the kernel.
    """
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
        "proxy.config.exec_thread.autoconfig": "INT 0",
        "proxy.config.exec_thread.limit": "INT 1",
        "proxy.config.http.cache.required_headers": "INT 0",
        "proxy.config.http.cache.open_write_fail_action": "INT 5",
        "proxy.config.cache.enable_read_while_writer": "INT 1",
        "proxy.config.http.background_fill_completed_threshold": "FLOAT 0.0",
        "proxy.config.http.background_fill_active_timeout": "INT 0",
        "proxy.config.cache.max_doc_size": "INT 0",
        "proxy.config.cache.ram_cache.size": "INT 4294967296",
        "proxy.config.cache.ram_cache_cutoff": "INT 2147483648",
        "proxy.config.cache.ram_cache.use_seen_filter": "INT 0",
        "proxy.config.log.logging_enabled": "INT 0",
        "proxy.config.url_remap.remap_required": "INT 1",
        "proxy.config.admin.user_id": "STRING #-1",
    }
    lines = [f"CONFIG {name} {value}" for name, value in settings.items()]
    (etc / "records.config").write_text("\n".join(lines) + "\n")
    (etc / "storage.config").write_text(f"{directory}/cache 8G\n")
    maps = [f"map /{name}/ http://127.0.0.1:{one.port}/" for name, one in origins.items()]
    (etc / "remap.config").write_text("\n".join(maps) + "\n")
    runroot = directory / "runroot.yaml"
    roots = {"prefix": directory, "sysconfdir": etc, "localstatedir": directory / "run"}
    roots |= {"runtimedir": directory / "run", "logdir": directory / "log"}
    roots |= {"cachedir": directory / "cache", "bindir": Path(program).parent}
    runroot.write_text("".join(f"{name}: {path}\n" for name, path in roots.items()))
    shown = (
        f"{version(program, '-V')}, 1 net thread, read-while-write, background fill, "
        "cache 8 GB, ram_cache 4 GB"
    )
    command = [program, f"--run-root={runroot}"]
    with started(command, directory, port) as running:
        yield Server("trafficserver", port, running, shown, _prefixed(port, origins), purge)


STARTERS: dict[str, tuple[str, Starter]] = {
    "varnish": ("varnishd", varnish),
    "squid": ("squid", squid),
    "trafficserver": ("traffic_server", traffic_server),
}


def _prefixed(port: int, origins: Mapping[str, Server]) -> dict[str, str]:
    return {name: f"http://127.0.0.1:{port}/{name}" for name in origins}


def _owner(directory: Path) -> str:
    """The line that names Squid's user, who may then write here, where we are root."""
    if os.geteuid() != 0:
        return ""
    try:
        known = pwd.getpwnam("proxy")
    except KeyError:
        return ""
    for path in (directory, *directory.rglob("*")):
        os.chown(path, known.pw_uid, known.pw_gid)
    _let_in(directory)
    return "cache_effective_user proxy"


def _let_in(directory: Path) -> None:
    """Let users that a root's server becomes go through the directories that lead here."""
    for one in (directory, *directory.parents[:2]):
        if one.owner() == pwd.getpwuid(os.geteuid()).pw_name:
            one.chmod(one.stat().st_mode | 0o011)
