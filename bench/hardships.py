"""Workloads of clients that are slow or leave, and of a cache that is started anew."""

from __future__ import annotations

import contextlib
import http.client
import socket
import statistics
import struct
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from urllib.parse import urlsplit

from bench.crowd import attached
from bench.load import Load, run
from bench.servers import MIB, Server
from bench.workloads import Case, Sample, Stage, fresh_key, gib_per_second, measure_hits, warm

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_SETTLE_SECONDS = 3.0
_SMALL_BUFFER_BYTES = 16 * 1024


def slow_reader(stage: Stage) -> Iterator[Case]:
    """One fast client of a hot object while 64 others have asked for it and hardly read."""

    def beside(cache: Server) -> Sample:
        url = stage.url(cache, "origin", "large")
        with _holding(url, 64):
            return measure_hits(stage, cache, Load(url, 1, stage.seconds), gib_per_second)

    warm(stage, "large", stage.caches)
    targets = {cache.name: partial(beside, cache) for cache in stage.caches}
    yield Case("slow-reader, 1 fast beside 64 slow", "GiB/s", targets, "nginx")


def memory(stage: Stage) -> Iterator[Case]:
    """What a reader of a hot GiB costs in memory, nine in ten of them hardly reading.

    The growth is counted from a fresh start and before the first round: an allocator that keeps
    what it once had would make what comes later free.
    """
    readers = 100 if stage.quick else 1000
    fast = readers // 10
    for cache in stage.caches:
        cache.restart()
    warm(stage, "huge", stage.caches)
    before = {cache.name: cache.anonymous_bytes() for cache in stage.caches}

    def grow(cache: Server) -> Sample:
        url = stage.url(cache, "origin", "huge")
        with _holding(url, readers - fast), ThreadPoolExecutor(1) as pool:
            reading = pool.submit(run, Load(url, fast, 2.0))
            time.sleep(1.0)
            grown = cache.anonymous_bytes() - before[cache.name]
            reading.result()
        return Sample(max(grown, 1024) / 1024 / readers, 0.5, 0, notes={"in all, MiB": grown / MIB})

    targets = {cache.name: partial(grow, cache) for cache in stage.caches}
    name = f"memory, {readers} readers, {readers - fast} slow"
    yield Case(name, "KiB a reader", targets, "nginx", more_is_better=False)


def crowd(stage: Stage) -> Iterator[Case]:
    """Hits of one client beside others that rest on kept connections or read 8 KiB/s."""
    count = 200 if stage.quick else 1000

    def beside(cache: Server) -> Sample:
        small, large = (stage.url(cache, "origin", path) for path in ("small", "large"))
        alone = _latencies_ms(small, stage.seconds)
        before = cache.anonymous_bytes()
        with attached(small, large, count):
            begin, cpu = time.perf_counter(), cache.cpu_seconds()
            crowded = _latencies_ms(small, stage.seconds)
            seconds, cpu = time.perf_counter() - begin, cache.cpu_seconds() - cpu
            grown = cache.anonymous_bytes() - before
        notes = {
            "median, ms": statistics.median(crowded),
            "alone: 99 %, ms": _percentile(alone, 99),
            "alone: median, ms": statistics.median(alone),
            "memory before, MiB": before / MIB,
            "memory more, MiB": grown / MIB,
        }
        return Sample(_percentile(crowded, 99), seconds, 0, cpu, notes=notes)

    warm(stage, "large", stage.caches)
    warm(stage, "small", stage.caches)
    targets = {cache.name: partial(beside, cache) for cache in stage.caches}
    name = f"crowd, {count} clients resting, {count} slow"
    yield Case(name, "ms, 99 %", targets, "nginx", more_is_better=False)


def abort(stage: Stage) -> Iterator[Case]:
    """What is still open 3 s after 200 clients of one hot and one cold object have left."""

    def leave(cache: Server) -> Sample:
        before = cache.descriptors()
        urls = (
            stage.url(cache, "origin", "large"),
            stage.url(cache, "origin", f"large?{fresh_key()}"),
        )
        for url in urls:
            with _holding(url, 100):
                pass
        time.sleep(_SETTLE_SECONDS)
        left = cache.descriptors() - before
        return Sample(max(left, 0), _SETTLE_SECONDS, 0)

    warm(stage, "large", stage.caches)
    targets = {cache.name: partial(leave, cache) for cache in stage.caches}
    name = "abort, 200 clients"
    yield Case(name, "descriptors", targets, "nginx", more_is_better=False, compares=False)


def restart(stage: Stage) -> Iterator[Case]:
    """From the start of the process to the first hit of what was stored before."""

    def again(cache: Server) -> Sample:
        url = stage.url(cache, "origin", "small")
        run(Load(url))
        time.sleep(1.2)  # what is written down once a second has been
        cache.program.stop()
        begin = time.perf_counter()
        cache.program.start()
        while time.perf_counter() < begin + 30:
            with contextlib.suppress(OSError, urllib.error.URLError):
                urllib.request.urlopen(url, timeout=5).read()
                break
            time.sleep(0.002)
        seconds = time.perf_counter() - begin
        return Sample(1000 * seconds, seconds, 0)

    targets = {cache.name: partial(again, cache) for cache in stage.caches}
    yield Case("restart, to the first answer", "ms", targets, "nginx", more_is_better=False)


HARDSHIPS = {
    "slow-reader": slow_reader,
    "crowd": crowd,
    "memory": memory,
    "abort": abort,
    "restart": restart,
}


def _latencies_ms(url: str, seconds: float) -> list[float]:
    """How long each of a client's requests took, one every few milliseconds, from the sending to
    the last byte."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    found = []
    connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=60)
    with contextlib.closing(connection):
        end = time.perf_counter() + max(seconds, 2.0)
        while (begin := time.perf_counter()) < end:
            connection.request("GET", parts.path)
            connection.getresponse().read()
            found.append(1000 * (time.perf_counter() - begin))
            time.sleep(0.002)
    return found


def _percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]


@contextlib.contextmanager
def _holding(url: str, count: int) -> Iterator[None]:
    """So many clients that have asked, have read a little and then nothing; they end by resets."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    request = f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(count):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER_BYTES)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            client.settimeout(30)
            client.connect((parts.hostname, parts.port or 80))
            client.sendall(request)
            clients.append(client)
        for client in clients:
            client.recv(_SMALL_BUFFER_BYTES)
        yield
