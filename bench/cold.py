"""Workloads of objects that nobody has asked for before: what a cache's way out is worth.

Each measurement asks with a query that is new, so that caches know nothing and origins, which
do not look at it, have it in memory. When it is over and the cache is quiet, the cache lets go of
what came: memory that the machine has given once is used again, and is as cheap for the last
target as for the first.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from bench import servers
from bench.load import Load, Result
from bench.servers import MIB, Server
from bench.workloads import (
    Case,
    Sample,
    Stage,
    Targets,
    fresh_key,
    gib_per_second,
    measure,
    measure_both,
    requests_per_second,
)

FAR_BYTES = 1024 * MIB
ROUND_TRIP_SECONDS = 0.05
"""How late the far origin's heads come."""
_CLIENTS = 64
_SMALL_KEYS = 5000
"""So many a round at most: the fastest need half a second for them."""
_CRAWL_PIECE_BYTES = 64 * 1024
_SETTLE_SECONDS = 30.0


def cold_range(stage: Stage) -> Iterator[Case]:
    """The bytes 900 to 901 MiB of 1 GiB, from an origin one round trip away."""

    def fetch(cache: Server) -> Sample:
        query = str(fresh_key())
        url = stage.url(cache, "far", f"object?{query}")
        load = Load(url, range_bytes=MIB, range_start=900 * MIB)
        with _forgotten(cache, load):
            sample, result = measure_both(cache, load, _first_byte_ms)
            upstream_bytes = _upstream_bytes(stage.logs["far"], query)
        notes = {
            "round trips to the first byte": result.first_byte_seconds[0] / ROUND_TRIP_SECONDS,
            "done, ms": 1000 * _last_done(result),
            "upstream MiB": upstream_bytes / MIB,
        }
        return replace(sample, notes=notes)

    caches = (*stage.caches_of("far"), stage.sliced)
    targets = {cache.name: partial(fetch, cache) for cache in caches}
    yield Case(
        "cold-range, first byte of 1 MiB at 900", "ms", targets, "nginx",
        more_is_better=False, cpu_per="request",
    )  # fmt: skip


def cold_stream(stage: Stage) -> Iterator[Case]:
    """A large object for one client, at whatever speed it comes; also with one connection only."""

    def fetch(server: Server, url: str) -> Sample:
        load = Load(f"{url}?{fresh_key()}")
        with _forgotten(server, load):
            return measure(server, load, gib_per_second)

    origin = stage.origins["origin"]
    targets = {
        cache.name: partial(fetch, cache, stage.url(cache, "origin", "large"))
        for cache in (*stage.caches, stage.sliced)
    }
    targets["direct"] = partial(fetch, origin, f"{origin.url}/large")
    one = {"FOREBAY_DEFAULTS__MAX_SEGMENTS": "1"}
    with servers.forebay(stage.directory / "one-connection", stage.origins, one) as single:
        targets["forebay x1"] = partial(fetch, single, stage.url(single, "origin", "large"))
        yield Case("cold-stream, 256 MiB", "GiB/s", targets, "nginx")


def cold_small(stage: Stage) -> Iterator[Case]:
    """Small objects that nobody has asked for before, each once, over 1, 8 and 64 connections."""
    for clients in (1, 8, 64):

        def fetch(cache: Server, clients: int = clients) -> Sample:
            load = Load(
                stage.url(cache, "origin", "small"), clients, stage.seconds,
                keys=_SMALL_KEYS, sweep=True, label=f"fresh{fresh_key()}",
            )  # fmt: skip
            with _forgotten(cache, load):
                return measure(cache, load, requests_per_second)

        targets = {cache.name: partial(fetch, cache) for cache in stage.caches}
        name = f"cold-small, connections: {clients}"
        yield Case(name, "requests/s", targets, "nginx", cpu_per="request")


def herd(stage: Stage) -> Iterator[Case]:
    """64 clients that ask for one object at the same moment; and one that asks the origin.

    From the unlimited origin this measures how fast a cache serves 64 clients; from the paced one
    whether they wait for anything but upstream.
    """
    for origin, path in (("origin", "medium"), ("paced", "object")):

        def rush(
            server: Server, base: str, clients: int, origin: str = origin, path: str = path
        ) -> Sample:
            query = str(fresh_key())
            load = Load(f"{base}/{path}?{query}", clients=clients)
            with _forgotten(server, load):
                sample, result = measure_both(server, load, _last_done)
                upstream_bytes = _upstream_bytes(stage.logs[origin], query)
            notes = {
                "upstream bodies": upstream_bytes / (sample.body_bytes / clients),
                "median first byte, ms": 1000 * statistics.median(result.first_byte_seconds),
                "last first byte, ms": 1000 * max(result.first_byte_seconds),
            }
            return replace(sample, notes=notes)

        targets = {
            cache.name: partial(rush, cache, cache.bases[origin], _CLIENTS)
            for cache in stage.caches_of(origin)
        }
        server = stage.origins[origin]
        targets["1 client, direct"] = partial(rush, server, server.url, 1)
        name = "herd, 64 clients" + (", paced origin" if origin == "paced" else "")
        yield Case(name, "s to the last", targets, "nginx", more_is_better=False)


def cold_throttled(stage: Stage) -> Iterator[Case]:
    """From an origin that paces each connection; downloaders go there directly."""
    paced = stage.origins["paced"]

    def through(cache: Server) -> Sample:
        query = str(fresh_key())
        load = Load(stage.url(cache, "paced", f"object?{query}"))
        with _forgotten(cache, load):
            sample = measure(cache, load, _last_done)
            bodies = _upstream_bytes(stage.logs["paced"], query) / sample.body_bytes
        return replace(sample, notes={"upstream bodies": bodies})

    def program(command: list[str]) -> Sample:
        with tempfile.TemporaryDirectory() as directory:
            query, start = str(fresh_key()), time.perf_counter()
            url = f"{paced.url}/object?{query}"
            subprocess.run([*command, url], cwd=directory, check=True, capture_output=True)
            seconds = time.perf_counter() - start
            (file,) = Path(directory).iterdir()
            bodies = _upstream_bytes(stage.logs["paced"], query) / file.stat().st_size
        return Sample(seconds, seconds, 0, notes={"upstream bodies": bodies})

    caches = stage.caches_of("paced")
    targets: dict[str, Callable[[], Sample]] = {c.name: partial(through, c) for c in caches}
    if shutil.which("curl"):
        targets["curl direct"] = partial(program, ["curl", "-sfo", "out"])
    if shutil.which("aria2c"):
        for connections in (4, 16):
            number = str(connections)
            aria2 = ["aria2c", "-q", "-x", number, "-s", number, "-k1M", "--file-allocation=none"]
            targets[f"aria2c -x{number} direct"] = partial(program, aria2)
    with contextlib.ExitStack() as stack:
        more = {"FOREBAY_DEFAULTS__MAX_SEGMENTS": "16", "FOREBAY_DEFAULTS__MIN_SEGMENT": "1MiB"}
        sixteen = stack.enter_context(
            servers.forebay(stage.directory / "sixteen", stage.origins, more)
        )
        targets["forebay x16, min_segment 1MiB"] = partial(through, sixteen)
        yield Case("cold-throttled", "s", targets, "nginx", more_is_better=False)


def cold_beside_slow(stage: Stage) -> Iterator[Case]:
    """What a slow reader costs a fast one that asks for the same object after it: 32 MiB/s of a
    large object, 8 MiB/s of the paced one.

    Without the slow one the paced origin's object is cold-throttled, and not measured again.
    """

    def fetch(cache: Server, url: str, crawl_bytes_per_second: int = 0) -> Sample:
        load = Load(f"{url}?{fresh_key()}")
        with _forgotten(cache, load), contextlib.ExitStack() as stack:
            if crawl_bytes_per_second:
                stack.enter_context(_crawling(load.url, crawl_bytes_per_second))
            return measure(cache, load, _last_done)

    def compare(cache: Server, url: str) -> Sample:
        alone, beside = fetch(cache, url), fetch(cache, url, 32 * MIB)
        notes = {"alone, s": alone.value, "beside / alone": beside.value / alone.value}
        return replace(beside, notes=notes)

    targets: Targets = {
        cache.name: partial(compare, cache, stage.url(cache, "origin", "large"))
        for cache in stage.caches_of("origin")
    }
    yield Case("cold-beside-slow", "s", targets, "nginx", more_is_better=False)
    targets = {
        cache.name: partial(fetch, cache, stage.url(cache, "paced", "object"), 8 * MIB)
        for cache in stage.caches_of("paced")
    }
    name = "cold-beside-slow, paced origin"
    yield Case(name, "s", targets, "nginx", more_is_better=False)


COLD = {
    "cold-range": cold_range,
    "cold-stream": cold_stream,
    "cold-small": cold_small,
    "herd": herd,
    "cold-throttled": cold_throttled,
    "cold-beside-slow": cold_beside_slow,
}


@contextlib.contextmanager
def _forgotten(server: Server, load: Load) -> Iterator[None]:
    """After the block the server lets go of what this load brought, and rests."""
    yield
    server.settle()
    server.forget(load)
    server.settle()


@contextlib.contextmanager
def _crawling(url: str, bytes_per_second: int) -> Iterator[None]:
    """A client that reads this at such a speed, until the block ends."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    done = threading.Event()

    def crawl(client: socket.socket) -> None:
        while not done.wait(_CRAWL_PIECE_BYTES / bytes_per_second):
            if not client.recv(_CRAWL_PIECE_BYTES):
                return

    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _CRAWL_PIECE_BYTES)
        client.connect((parts.hostname, parts.port or 80))
        target = f"{parts.path}?{parts.query}"
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
        client.recv(_CRAWL_PIECE_BYTES)
        crawler = threading.Thread(target=crawl, args=(client,))
        crawler.start()
        try:
            yield
        finally:
            done.set()
            crawler.join()


def _last_done(result: Result) -> float:
    return max(result.done_seconds)


def _first_byte_ms(result: Result) -> float:
    return 1000 * result.first_byte_seconds[0]


def _upstream_bytes(log: Path, query: str) -> int:
    """The body bytes that the origin sent for requests with this query.

    Waits for the first to be done: a cache that fetches more than its client asked for is not to do
    so beside the next measurement.
    """
    deadline = time.monotonic() + _SETTLE_SECONDS
    while True:
        time.sleep(0.2)  # others of the same query end at about the same time
        lines = [line.split() for line in log.read_text().splitlines()]
        sent = [int(size) for uri, _, size in lines if uri.endswith(f"?{query}")]
        if sent or time.monotonic() > deadline:
            return sum(sent)
