"""What a service with a million entries feels like: ``./scripts/bench scale [--quick]``.

The entries are written straight into an index, each with a sparse blob of its own, because a
million downloads would take an hour. Everything else is the real ``forebay serve``, asked over
sockets:

    start     from the start of the process to its first hit, beside one with an empty cache
    hits      time to the first byte of hits on random objects: alone, during a purge of many
              objects by prefix, of a whole mount, and during a listing page
    purges    how long the answers to these two purges take, and when the files were gone
    listing   the most recently used thousand of everything

Each client asks at fixed times, and its wait counts from then: a service that stands still for a
second is seen by all who would have asked in that second, and not by one of them.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bench.servers import Program, Server, free_port
from forebay.model import Entry, Fields, Head, Identity, Interval, Mount, Request
from forebay.rules.targets import resolve
from forebay.store.blobs import Blobs
from forebay.store.index import Index
from forebay.store.layout import Layout

ENTRIES, QUICK_ENTRIES = 1_000_000, 100_000
PURGED, QUICK_PURGED = 100_000, 10_000
_LENGTH_BYTES = 1024
_ROWS_PER_TRANSACTION = 20_000
_CLIENTS, _PERIOD_SECONDS = 4, 0.02
_ALONE_SECONDS, _QUICK_ALONE_SECONDS = 10.0, 2.0
_DEADLINE_SECONDS = 300.0
_QUIET_SHARE = 0.1
_TOKEN = "a-token-for-the-benchmark"
_UPSTREAM = "http://127.0.0.1:9/{name}/"
"""Nobody listens there: what is not in the cache fails, and the benchmark with it."""


class Part(NamedTuple):
    """So many objects of one mount."""

    mount: Mount
    objects: int

    @property
    def upstream(self) -> str:
        return self.mount.upstreams[0]


def main(arguments: list[str]) -> int:
    """Make the cache, run the service, print the figures."""
    parser = argparse.ArgumentParser(prog="./scripts/bench scale", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ENTRIES:,} entries")
    parser.add_argument("--directory", type=Path, help="where to keep the cache while it runs")
    options = parser.parse_args(arguments)
    entries = QUICK_ENTRIES if options.quick else ENTRIES
    purged = QUICK_PURGED if options.quick else PURGED
    by_prefix, whole = _part("prefixed", purged), _part("whole", entries // 4)
    kept = _part("kept", entries - by_prefix.objects - whole.objects)
    with tempfile.TemporaryDirectory(prefix="forebay-scale-", dir=options.directory) as made:
        directory = Path(made)
        print(f"writing {entries:,} entries …", file=sys.stderr)
        seconds = make_cache(directory / "cache", (kept, by_prefix, whole))
        print(f"written in {seconds:.0f} s", file=sys.stderr)
        alone_seconds = _QUICK_ALONE_SECONDS if options.quick else _ALONE_SECONDS
        for line in _measure(directory, kept, by_prefix, whole, alone_seconds):
            print(line, flush=True)
        print("cleaning up …", file=sys.stderr)
    return 0


def make_cache(directory: Path, parts: tuple[Part, ...]) -> float:
    """Fill a cache directory with fresh, complete entries; gives the seconds it took."""
    began = time.monotonic()
    layout = Layout(directory)
    blobs, index = Blobs(layout.blobs), Index(layout.index)
    blobs.prepare()
    index.open()
    layout.write_version()
    now = time.time()
    todo = ((part, number) for part in parts for number in range(part.objects))
    while some := list(itertools.islice(todo, _ROWS_PER_TRANSACTION)):
        with index.transaction():
            for part, number in some:
                entry = _entry(part, number, now)
                fileno = blobs.create(entry.entry_id)
                os.ftruncate(fileno, _LENGTH_BYTES)
                os.close(fileno)
                index.insert(entry, 0, now - number / 1000)
    index.sync()
    index.release()
    return time.monotonic() - began


def _part(name: str, count: int) -> Part:
    return Part(Mount(name, f"/{name}/", (_UPSTREAM.format(name=name),)), count)


def _path(part: Part, number: int) -> str:
    return f"{part.mount.prefix}some/directories/object-{number}.bin"


def _entry(part: Part, number: int, now: float) -> Entry:
    target = resolve(Request("GET", _path(part, number)), (part.mount,))
    fields = Fields(
        [("content-type", "application/octet-stream"), ("cache-control", "max-age=864000")]
    )
    fields = Fields([*fields, ("etag", f'"{number}"'), ("content-length", str(_LENGTH_BYTES))])
    return Entry(
        key=target.key,
        entry_id=uuid.uuid4().hex,
        name=target.name,
        mount=part.mount.name,
        head=Head(200, fields, "OK"),
        identity=Identity(length_bytes=_LENGTH_BYTES, etag=f'"{number}"'),
        request_time=now,
        response_time=now,
        coverage=(Interval(0, _LENGTH_BYTES),),
        complete=True,
        stored_time=now,
    )


class Service:
    """One ``forebay serve`` on a cache directory."""

    def __init__(self, directory: Path, cache: Path, parts: tuple[Part, ...]) -> None:
        directory.mkdir()
        self.port = free_port()
        config = directory / "forebay.toml"
        config.write_text(
            "".join(
                f'[[mounts]]\nname = "{part.mount.name}"\nupstreams = ["{part.upstream}"]\n'
                for part in parts
            )
        )
        environment = {k: v for k, v in os.environ.items() if not k.startswith("FOREBAY_")}
        environment |= {"FOREBAY_SERVER__LOG_LEVEL": "warning", "FOREBAY_ADMIN__TOKEN": _TOKEN}
        command = [str(Path(sys.executable).with_name("forebay")), "serve", f"--port={self.port}"]
        command += [f"--config={config}", f"--cache-dir={cache}"]
        self._started = time.monotonic()
        self._program = Program(command, directory, environment)

    def first_answer(self, path: str) -> float:
        """Seconds from the start of the process until this path was answered."""
        while True:
            with contextlib.suppress(ConnectionError):
                return self.ask(path)[0] - self._started
            if time.monotonic() - self._started > _DEADLINE_SECONDS:
                raise RuntimeError("the service does not answer")
            time.sleep(0.002)

    def ask(self, path: str, order: dict[str, Any] | None = None) -> tuple[float, bytes]:
        """Ask once, over a connection of its own: when the first byte came, and the body.

        Raises ``RuntimeError`` unless the answer is 200.
        """
        with contextlib.closing(self.connection()) as connection:
            fields = {"Authorization": f"Bearer {_TOKEN}"}
            if order is None:
                connection.request("GET", path, headers=fields)
            else:
                fields["Content-Type"] = "application/json"
                connection.request("POST", path, json.dumps(order), fields)
            return _answer(connection)

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=_DEADLINE_SECONDS)

    def wait_for_quiet(self) -> None:
        """Until the process does nothing more: the sweep at start is done then."""
        deadline = time.monotonic() + _DEADLINE_SECONDS
        while self._share_of_a_core(1.0) > _QUIET_SHARE:
            if time.monotonic() > deadline:
                raise RuntimeError("the service does not come to rest")

    def _share_of_a_core(self, seconds: float) -> float:
        server = Server("forebay", self.port, self._program, "")
        before = server.cpu_seconds()
        time.sleep(seconds)
        return (server.cpu_seconds() - before) / seconds

    def wait_for_objects(self, count: int) -> None:
        """Until the index has no more rows than this."""
        deadline = time.monotonic() + _DEADLINE_SECONDS
        while json.loads(self.ask("/-/stats")[1])["objects"] > count:
            if time.monotonic() > deadline:
                raise RuntimeError("purged rows stay")
            time.sleep(0.05)

    def stop(self) -> None:
        self._program.stop()


def _answer(connection: http.client.HTTPConnection) -> tuple[float, bytes]:
    response = connection.getresponse()
    came = time.monotonic()
    body = response.read()
    if response.status != 200:
        raise RuntimeError(f"status {response.status}: {body[:200]!r}")
    return came, body


@dataclass(slots=True)
class Waits:
    """How long clients waited for the first byte of hits, in milliseconds."""

    milliseconds: list[float]

    def __str__(self) -> str:
        found = sorted(self.milliseconds)
        if len(found) < 2:
            return "too short to tell"
        cuts = statistics.quantiles(found, n=100, method="inclusive")
        return f"p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms, most {found[-1]:.0f} ms"


class Clients:
    """Some connections that ask for random objects of one part while a block runs."""

    def __init__(self, service: Service, part: Part) -> None:
        self._service = service
        self.part = part

    @contextlib.contextmanager
    def asking(self) -> Iterator[Waits]:
        """Raises ``RuntimeError`` at the end where any of them got something else than a hit."""
        waits, over = Waits([]), threading.Event()
        troubles: list[BaseException] = []

        def work() -> None:
            try:
                self._ask_until(over, waits)
            except BaseException as error:
                troubles.append(error)

        threads = [threading.Thread(target=work) for _ in range(_CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield waits
        finally:
            over.set()
            for thread in threads:
                thread.join()
        if troubles:
            raise RuntimeError("a hit failed") from troubles[0]

    def _ask_until(self, over: threading.Event, waits: Waits) -> None:
        with contextlib.closing(self._service.connection()) as connection:
            due = time.monotonic() + random.uniform(0, _PERIOD_SECONDS)
            while not over.is_set():
                time.sleep(max(0.0, due - time.monotonic()))
                connection.request("GET", _path(self.part, random.randrange(self.part.objects)))
                came, body = _answer(connection)
                if len(body) != _LENGTH_BYTES:
                    raise RuntimeError("a body has not the length it should")
                waits.milliseconds.append(1000 * (came - due))
                due += _PERIOD_SECONDS


def _measure(
    directory: Path, kept: Part, by_prefix: Part, whole: Part, alone_seconds: float
) -> Iterator[str]:
    parts = kept, by_prefix, whole
    empty = Service(directory / "empty", directory / "empty-cache", parts)
    try:
        yield f"start, empty cache       {empty.first_answer('/healthz'):.2f} s to its first answer"
    finally:
        empty.stop()
    service = Service(directory / "full", directory / "cache", parts)
    try:
        seconds = service.first_answer(_path(kept, 7))
        yield f"start                    {seconds:.2f} s to its first hit"
        clients = Clients(service, kept)
        with clients.asking() as waits:
            time.sleep(alone_seconds)
        yield f"hits beside the sweep    {waits}"
        yield from _with_admin(service, clients, by_prefix, whole, alone_seconds)
    finally:
        service.stop()
        # Faster than what a temporary directory does with a million files.
        shutil.rmtree(directory / "cache", ignore_errors=True)


def _with_admin(
    service: Service, clients: Clients, by_prefix: Part, whole: Part, alone_seconds: float
) -> Iterator[str]:
    service.wait_for_quiet()
    with clients.asking() as waits:
        time.sleep(alone_seconds)
    yield f"hits alone               {waits}"
    works: dict[str, Callable[[], str]] = {
        "listing page": lambda: _listed(service),
        "purge by prefix": lambda: _purged(service, {"prefix": by_prefix.upstream}, by_prefix),
        "purge of a mount": lambda: _purged(service, {"mount": whole.mount.name}, whole),
    }
    for name, work in works.items():
        with clients.asking() as waits:
            began = time.monotonic()
            told = work()
            seconds = time.monotonic() - began
        yield f"{name:<24} {seconds:.3f} s ({told}); hits meanwhile {waits}"
    with clients.asking() as waits:
        began = time.monotonic()
        service.wait_for_objects(clients.part.objects)
        seconds = time.monotonic() - began
    yield f"its rows deleted         {seconds:.1f} s behind; hits meanwhile {waits}"


def _listed(service: Service) -> str:
    page = json.loads(service.ask("/-/objects?limit=1000")[1])
    return f"{len(page['objects']):,} objects"


def _purged(service: Service, order: dict[str, Any], part: Part) -> str:
    result = json.loads(service.ask("/-/purge", order)[1])
    if result["objects"] != part.objects:
        raise RuntimeError(f"purged {result['objects']:,} objects of {part.objects:,}")
    return f"{part.objects:,} objects"
