"""Starting and stopping what is measured: origins, nginx as a peer, Forebay.

The other peers stand in ``peers``.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench import processes
from bench.load import Load
from forebay import __version__ as forebay_version

_START_SECONDS = 20.0
_STOP_SECONDS = 10.0
_SETTLE_SECONDS = 20.0
_BLOCK_BYTES = 1 << 20
_TOKEN = "a-token-for-the-benchmark"
MIB = 1 << 20

FILES = {"large": 256 * MIB, "medium": 64 * MIB, "small": 10 * 1024}
"""What the origin has, by name and size."""
HUGE_BYTES = 1024 * MIB
"""Beside them "huge", of zeros that take no room at the origin."""


class Program:
    """A command that runs, and can be run again; its output goes to ``directory/output.log``."""

    def __init__(
        self,
        command: list[str],
        directory: Path,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._command = command
        self._environment = environment
        self._cwd = cwd or directory
        self._output = directory / "output.log"
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self._output.open("ab") as output:
            return subprocess.Popen(
                self._command, stdout=output, stderr=output, env=self._environment, cwd=self._cwd
            )

    def stop(self) -> None:
        """Ask it to end, and see to it."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def start(self) -> None:
        """Begin again after ``stop``; it may not answer yet when this returns."""
        self.process = self._start()


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: where it answers, its program, and the settings worth showing.

    ``bases`` tells for each origin that a cache knows where it has that origin's paths. ``forget``
    deletes what a load brought into the cache, or everything.
    """

    name: str
    port: int
    program: Program
    settings: str
    bases: Mapping[str, str] = field(default_factory=dict)
    forget: Callable[[Load], None] = lambda _: None

    @property
    def pid(self) -> int:
        """The first process."""
        return self.program.process.pid

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cpu_seconds(self) -> float:
        """User and system time of all its processes so far."""
        return processes.cpu_seconds(self.pid)

    def anonymous_bytes(self) -> int:
        """Memory of all its processes that is no file's."""
        return processes.anonymous_bytes(self.pid)

    def descriptors(self) -> int:
        """What all its processes have open."""
        return processes.descriptors(self.pid)

    def restart(self) -> None:
        """Stop and start it again; it listens when this returns."""
        self.program.stop()
        self.program.start()
        _wait_for(self.port, self.program.process)

    def settle(self) -> None:
        """Wait until its processes are quiet: what it does behind its answers is its own."""
        if not processes.settled(self.pid, _SETTLE_SECONDS):
            print(f"{self.name} is still busy after {_SETTLE_SECONDS:.0f} s", file=sys.stderr)


def find_nginx() -> str | None:
    """The nginx on this machine; Debian keeps it where ordinary users do not look."""
    return shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def version(program: str, option: str) -> str:
    """What the program says of itself, as ``1.22.1``; nothing where it says no such thing."""
    told = subprocess.run([program, option], capture_output=True, text=True, check=False)
    found = re.search(r"\d+\.\d+(\.\d+)*", told.stdout + told.stderr)
    return found[0] if found else ""


def make_files(root: Path) -> None:
    """The origin's files, of bytes that do not compress."""
    root.mkdir(parents=True)
    block = os.urandom(_BLOCK_BYTES)
    for name, size_bytes in FILES.items():
        with (root / name).open("wb") as file:
            for _ in range(size_bytes // _BLOCK_BYTES):
                file.write(block)
            file.write(block[: size_bytes % _BLOCK_BYTES])
    with (root / "huge").open("wb") as file:
        file.truncate(HUGE_BYTES)


@contextlib.contextmanager
def nginx_origin(nginx: str, directory: Path) -> Iterator[Server]:
    """Static files with sendfile; each response is a line of ``directory/access.log``.

    Those of the small file are none: a line for each would cost as much as the response.
    """
    port = free_port()
    make_files(directory / "files")
    config = _NGINX.format(
        **_nginx_values(directory),
        http=f"""
    log_format bodies '$request_uri $status $body_bytes_sent';
    access_log {directory}/access.log bodies;
    server {{
        listen 127.0.0.1:{port};
        root {directory}/files;
        add_header Cache-Control "max-age=86400";
        location = /small {{ access_log off; }}
        location = /status {{ stub_status; access_log off; }}
    }}""",
    )
    with _nginx(nginx, directory, config, "origin", port, "static files, sendfile") as server:
        yield server


def requests_so_far(origin: Server) -> int:
    """How many requests the static origin has had, this question among them."""
    with urllib.request.urlopen(f"{origin.url}/status", timeout=_START_SECONDS) as answer:
        return requests_in(answer.read().decode())


def requests_in(status: str) -> int:
    """The third of the three numbers that nginx's ``stub_status`` tells."""
    _, _, numbers = status.partition("requests\n")
    return int(numbers.split()[2])


@contextlib.contextmanager
def nginx_peer(nginx: str, directory: Path, origins: Mapping[str, Server]) -> Iterator[Server]:
    """``proxy_cache`` with a lock, one location for each origin: ``/<origin>/path``; ``sliced``
    has those with ``slice``.
    """
    port = free_port()
    upstreams = "".join(
        f"upstream {name} {{ server 127.0.0.1:{origin.port}; keepalive 64; }}\n"
        for name, origin in origins.items()
    )
    locations = "".join(
        f"location /{name}/ {{ proxy_pass http://{name}/; }}\n"
        f"location /slice/{name}/ {{ proxy_pass http://{name}/; {_SLICE} }}\n"
        for name in origins
    )
    config = _NGINX.format(
        **_nginx_values(directory),
        http=f"""
    {upstreams}
    access_log off;
    proxy_cache_path {directory}/cache levels=1:2 keys_zone=bench:100m max_size=60g
                     inactive=1d use_temp_path=off;
    open_file_cache max=1000 inactive=60s;
    server {{
        listen 127.0.0.1:{port};
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_buffer_size 64k;
        proxy_buffers 32 64k;
        proxy_busy_buffers_size 512k;
        proxy_temp_file_write_size 1m;
        proxy_cache bench;
        proxy_cache_lock on;
        proxy_cache_lock_timeout 120s;
        proxy_cache_lock_age 120s;
        {locations}
    }}""",
    )
    shown = (
        f"{version(nginx, '-v')}, 1 worker, sendfile, tcp_nopush, "
        "proxy_cache with lock, buffers 32 64k, open_file_cache"
    )
    bases = {name: f"http://127.0.0.1:{port}/{name}" for name in origins}
    with _nginx(nginx, directory, config, "nginx", port, shown, bases) as server:
        yield replace(server, forget=lambda _: delete_files(directory / "cache"))


def sliced(nginx: Server) -> Server:
    """The same nginx where it fetches and keeps what it is asked for in slices."""
    bases = {name: f"{nginx.url}/slice/{name}" for name in nginx.bases}
    return replace(nginx, name="nginx slice", settings="the same with slice 1m", bases=bases)


@contextlib.contextmanager
def forebay(
    directory: Path, origins: Mapping[str, Server], more: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """``forebay serve`` with its defaults; loopback and the origins' ports are opened.

    ``more`` are environment variables that set something else.
    """
    port = free_port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FOREBAY_")}
    environment |= {
        "FOREBAY_UPSTREAM__ALLOW_NETWORKS": '["127.0.0.0/8"]',
        "FOREBAY_UPSTREAM__ALLOW_PORTS": json.dumps([o.port for o in origins.values()]),
        "FOREBAY_SERVER__LOG_LEVEL": "warning",
        "FOREBAY_ADMIN__TOKEN": _TOKEN,
        **(more or {}),
    }
    serve = [str(Path(sys.executable).with_name("forebay")), "serve", f"--port={port}"]
    command = [*serve, f"--cache-dir={directory / 'cache'}"]
    bases = {name: f"http://127.0.0.1:{port}/{origin.url}" for name, origin in origins.items()}
    shown = f"{forebay_version}, 1 worker, defaults, log_level warning"
    with started(command, directory, port, environment) as program:
        yield Server("forebay", port, program, shown, bases, lambda _: _purge_all(port))


@contextlib.contextmanager
def paced_origin(
    directory: Path,
    size_bytes: int,
    *,
    rate_bytes_per_second: int = 0,
    think_seconds: float = 0.0,
) -> Iterator[Server]:
    """An origin that paces each connection to this rate (0: does not), and answers so much late."""
    port = free_port()
    directory.mkdir(parents=True, exist_ok=True)
    numbers = (port, size_bytes, rate_bytes_per_second, think_seconds)
    log = str(directory / "access.log")
    command = [sys.executable, "-m", "bench.paced", log, *map(str, numbers)]
    rate = "unlimited"
    if rate_bytes_per_second:
        rate = f"{rate_bytes_per_second / MIB:.0f} MiB/s a connection"
    shown = f"{rate}, {1000 * think_seconds:.0f} ms to each head"
    with started(command, directory, port, cwd=Path(__file__).parent.parent) as program:
        yield Server(directory.name, port, program, shown)


def delete_files(directory: Path) -> None:
    """What nginx's users do who have no module for PURGE; a file that is gone is a miss."""
    for path in directory.rglob("*"):
        if path.is_file():
            path.unlink()


def _purge_all(port: int) -> None:
    fields = {"Authorization": f"Bearer {_TOKEN}", "Content-Type": "application/json"}
    url = f"http://127.0.0.1:{port}/-/purge"
    order = urllib.request.Request(url, b'{"all": true}', fields, method="POST")
    urllib.request.urlopen(order, timeout=_START_SECONDS).close()


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


_SLICE = """
    slice 1m;
    proxy_cache_key $proxy_host$request_uri$slice_range;
    proxy_set_header Range $slice_range;
    proxy_set_header Connection "";
"""

_NGINX = """
{user}
worker_processes 1;
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 4096; }}
http {{
    sendfile on;
    tcp_nopush on;
    keepalive_timeout 75s;
    keepalive_requests 1000000000;
    client_body_temp_path {directory}/t1;
    proxy_temp_path {directory}/t2;
    fastcgi_temp_path {directory}/t3;
    uwsgi_temp_path {directory}/t4;
    scgi_temp_path {directory}/t5;
    {http}
}}
"""


def _nginx_values(directory: Path) -> dict[str, object]:
    # Workers of a root's nginx would otherwise be nobody, who may not look into our directory.
    return {"directory": directory, "user": "user root;" if os.geteuid() == 0 else ""}


@contextlib.contextmanager
def _nginx(
    nginx: str,
    directory: Path,
    config: str,
    name: str,
    port: int,
    shown: str,
    bases: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "nginx.conf"
    file.write_text(config)
    command = [nginx, "-c", str(file), "-p", str(directory), "-e", str(directory / "error.log")]
    with started(command, directory, port) as program:
        yield Server(name, port, program, shown, bases or {})


@contextlib.contextmanager
def started(
    command: list[str],
    directory: Path,
    port: int,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[Program]:
    """Run the command, from when it listens on this port, while the block runs."""
    program = Program(command, directory, environment, cwd)
    try:
        _wait_for(port, program.process)
        yield program
    finally:
        program.stop()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with status {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{process.args!r} does not listen on port {port}")
