"""``forebay doctor``: is the service there, do its mounts answer, does it do what it is for.

Each check is one line, ``ok`` or what is wrong and what to do. Nothing is asked of the world but
what the mounts' upstreams are for, and with ``--url`` that one file.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, NamedTuple

import typer

from forebay.cli.common import ConfigOption, ServerOption, scheme_of, settings_or_fail
from forebay.cli.env import place_of
from forebay.cli.reaching import reach_without_token
from forebay.cli.remote import Remote, RemoteError
from forebay.model import Mount
from forebay.presets import preset_settings

_TIMEOUT_SECONDS = 20.0
_MAX_BYTES = 64 * 1024 * 1024
_TRIES = 4
_PAUSE_SECONDS = 0.2


class Finding(NamedTuple):
    """The outcome of one check, in words."""

    good: bool
    text: str


class Way(NamedTuple):
    """One of the ways to a mount: what is opened, as people know it, and the fields to send."""

    address: str
    told: str
    fields: Mapping[str, str]


def examine(
    remote: Remote, mounts: Sequence[Mount], url: str | None, port_scheme: str = "http"
) -> Iterator[Finding]:
    """The findings, one check after the other; nothing follows where there is no service.
    ``port_scheme`` is what is spoken at mounts' own ports."""
    try:
        with remote.open(f"{remote.base_url}/readyz", timeout_seconds=_TIMEOUT_SECONDS) as answer:
            yield _readiness(remote.base_url, answer.read(4096))
    except RemoteError as error:
        yield Finding(False, str(error))
        if error.status is None:
            return
    for mount in mounts:
        if mount.upstreams:
            yield from (
                _mount_answers(remote, mount, way) for way in _ways(remote, mount, port_scheme)
            )
    if url is not None:
        yield from _file_is_cached(remote, f"{remote.base_url}/{url}")


def _readiness(base_url: str, body: bytes) -> Finding:
    """What ``/readyz`` says: 200 with trouble named where the disk refuses work."""
    try:
        said = json.loads(body)
    except ValueError:
        said = None
    status = said.get("status") if isinstance(said, dict) else None
    if status not in {None, "ok", "ready"}:
        return Finding(False, f"{base_url} answers, and says that it is {status}: see /readyz.")
    return Finding(True, f"{base_url} answers.")


def _ways(remote: Remote, mount: Mount, port_scheme: str) -> Iterator[Way]:
    """A mount's names, each asked for by Host alone, since they need not resolve here; its port;
    where it has neither, its path."""
    for host in mount.hosts:
        # At a name of a mount the root is Forebay's own page; any other path will do.
        yield Way(f"{remote.base_url}/robots.txt", f"every path at {host}", {"Host": host})
    if mount.port is not None or not mount.hosts:
        # With a port a mount is found there, whatever its names.
        address = place_of(mount, remote.base_url, port_scheme).url + "/"
        yield Way(address, address, {})


def _mount_answers(remote: Remote, mount: Mount, way: Way) -> Finding:
    """Any answer of the upstream's own will do: many have nothing at their root."""
    where = f"mount {mount.name}: {way.told}"
    try:
        with remote.open(way.address, way.fields, timeout_seconds=_TIMEOUT_SECONDS):
            return Finding(True, f"{where} answers.")
    except RemoteError as error:
        if error.status is not None and error.status < 500:
            return Finding(True, f"{where} answers ({error.status}).")
        if error.is_absent and not way.address.startswith(f"{remote.base_url}/"):
            return Finding(
                False,
                f"{where}: nothing listens there. Was Forebay started with this configuration?",
            )
        return Finding(False, f"{where}: {error}")


def _file_is_cached(remote: Remote, address: str) -> Iterator[Finding]:
    """What is fetched again comes from the cache, and a range works."""
    told, length = "", -1
    try:
        for _ in range(_TRIES):
            with remote.open(address, timeout_seconds=_TIMEOUT_SECONDS) as whole:
                length = len(whole.read(_MAX_BYTES))
                told = whole.headers.get("Cache-Status", "")
            if "forebay; hit" in told:
                break
            # The first fetch may still be on its way to the disk.
            time.sleep(_PAUSE_SECONDS)
        with remote.open(address, {"Range": "bytes=0-0"}, timeout_seconds=_TIMEOUT_SECONDS) as part:
            works = part.status == 206 and len(part.read(2)) == 1
            status = part.status
    except RemoteError as error:
        yield Finding(False, f"{address}: {error}")
        return
    hit = "forebay; hit" in told
    yield Finding(
        hit,
        f"a second fetch is a hit ({length} bytes)."
        if hit
        else f"a second fetch is no hit; Cache-Status says: {told or 'nothing'}",
    )
    yield Finding(works, "a range is answered with 206." if works else _no_range(status))


def _no_range(status: int) -> str:
    return f"a range is answered with {status}: the upstream's file has no ranges, or is empty."


def doctor(
    config: ConfigOption = None,
    server: ServerOption = None,
    url: Annotated[
        str | None,
        typer.Option("--url", help="A file to fetch twice, as https://host/path."),
    ] = None,
) -> None:
    """Check that Forebay is there, that its mounts answer, and that it caches."""
    settings = settings_or_fail(config)
    remote = reach_without_token(settings, server)
    wrong = 0
    mounts = settings.mount_table(preset_settings())
    for finding in examine(remote, mounts, url, scheme_of(settings)):
        typer.echo(f"{'ok   ' if finding.good else 'FAIL '}{finding.text}")
        wrong += not finding.good
    if wrong:
        raise typer.Exit(1)
