"""The tables of the service itself: ``[server]``, ``[cache]``, ``[admin]``, ``[upstream]``;
``[tls]`` and ``[limits]`` stand in ``access``.

Each default carries its reason, with what the peers chose beside it. The docstrings are the
text of ``docs/configuration.md``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from forebay.settings.access import AdminToken, ListenAddress, UsableToken
from forebay.settings.kinds import (
    Duration,
    HostPattern,
    Listed,
    Network,
    OptionalSize,
    PathValue,
    Size,
    Table,
)
from forebay.units import parse_size


class Server(Table):
    """Where Forebay listens, and what it bears from clients."""

    host: str = Field(default="127.0.0.1", min_length=1)
    """The address to listen on. Loopback until someone decides otherwise: in URL-in-path mode
    whoever reaches the port can have any public address fetched. `0.0.0.0` and `::` mean
    every interface. (nginx, Varnish and Squid listen on every interface.)"""

    port: int = Field(default=8000, ge=0, le=65535)
    """The TCP port to listen on; `0` takes a free one and prints it. 8000 needs no privilege
    and is what uvicorn uses. (Squid 3128, Varnish 6081, apt-cacher-ng 3142.)"""

    workers: int = Field(default=1, ge=1, le=256)
    """Server processes. One is enough for several gigabits: bytes go from the disk to the
    socket inside the kernel. (nginx and Traffic Server start one thing per core.)"""

    head_timeout: Duration = 15.0
    """How long a client may take to send a whole request head, counted from its first byte.
    A head fits in a packet or two; the limit is for clients that drip to hold a connection.
    (nginx 60s between two reads, Apache 20s, Node 60s, uvicorn no limit.)"""

    idle_timeout: Duration = 75.0
    """How long a kept connection may wait for its next request. Above the 60 s after which load
    balancers usually close theirs, so that they never meet a connection that we have just
    closed. (nginx 75s, Varnish 5s, uvicorn 5s.)"""

    client_stall_timeout: Duration = 60.0
    """How long a client may take no byte at all before its connection is dropped. A slow client
    is welcome; one that stands still holds a descriptor. (nginx 60s, Squid 15m, Varnish 10m in
    all, Traffic Server 30s.)"""

    client_min_rate: Size = 1000
    """How many bytes a second a client must take while more wait for it, and send of a body that
    it has announced, on the average of `client_stall_timeout`; `0` lets it crawl. A modem of 1995
    takes 3,500; who takes one byte a minute wants the connection and not the file. (Kestrel 240,
    dnf asks 1000 of its mirrors over 30s, nginx, Squid and Varnish no limit.)"""

    stop_timeout: Duration = 30.0
    """How long running responses may take to finish after SIGTERM or Ctrl-C before they are cut.
    What the cache already has of them stays. (Kubernetes kills after 30s, Docker after 10s:
    `docker-compose.yml` here gives 45s.)"""

    max_header_bytes: Size = 64 * 1024
    """The most that a request's line and fields may take together; above it the answer is 431.
    Signed addresses and cookies of large sites come to 16 KiB. (nginx 32KiB, Node 16KiB,
    h11 64KiB.)"""

    max_connections: int = Field(default=10_000, ge=1, le=1_000_000)
    """Connections of clients at once, resting ones included, in each worker; further ones are
    refused with 503. One that rests or reads slowly costs some 15 KB. Below this the open files
    that the system allows are the limit: an eighth of them, at most 1,024, is kept back for
    downloads that run.
    (nginx 512 in a worker, Apache 400, HAProxy and Squid by the open files, uvicorn no limit.)"""

    backlog: int = Field(default=2048, ge=1, le=65535)
    """Connections that may wait to be accepted. The kernel cuts it to `net.core.somaxconn`.
    (nginx 511, uvicorn 2048.)"""

    trusted_proxies: Annotated[tuple[Network, ...], Listed] = ()
    """Networks of reverse proxies in front of Forebay, such as `127.0.0.1` or `10.0.0.0/8`. From
    these alone X-Forwarded-For says who the client is, for logs, networks and limits, and
    X-Forwarded-Proto whether it came by https; from others both mean nothing. (nginx
    `set_real_ip_from`.)"""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important messages to log. `info` has one line for each request."""


class Cache(Table):
    """What is kept on disk, and where."""

    dir: PathValue = Path("cache")
    """The directory of the cache, made where it is missing. A relative path is taken from the
    directory in which Forebay is started."""

    max_size: OptionalSize = parse_size("50G")
    """The most that the cache may take on disk, unfinished objects included; the least recently
    used go first. `none` leaves only `min_free` as a limit. 50 GB holds a few large models and
    every package of a team, and fits on a laptop. (nginx no limit, proxpi 5G, lancache 1000g.)"""

    min_free: Size = parse_size("1G")
    """What must stay free on the disk, whoever fills it: the cache gives way before the machine
    suffers. (nginx 0, lancache 10g.)"""

    eviction: Literal["lru", "gdsf"] = "lru"
    """Who makes way: `lru` the least recently used; `gdsf` what is large, seldom used and old, so
    that one job that reads everything once does not empty the cache. On the traces of
    `./scripts/bench eviction` `gdsf` answers 10 to 36 points more of the requests than `lru`, and
    spares upstream about as many bytes. (nginx and Squid `lru`, Traffic Server a kind of FIFO.)"""

    verify: Literal["first-use", "always", "never"] = "first-use"
    """When stored bytes are compared with their checksums before they are sent: at their first
    use after a start, at every use, or never. Damaged ones are fetched again. Looking costs 0.15
    to 0.4 s of one core for a GiB that is in memory, beside the sending itself: a hot object of
    256 MiB took 0.52 to 0.70 s for a GiB with `always`, 0.27 to 0.37 s with the others. `always`
    also keeps small objects from being answered without a look at the disk. (nginx, Varnish and
    Squid never look.)"""

    repr_digest: bool = True
    """Whether the SHA-256 of every whole object is computed, once, so that what is answered from
    the cache carries `Repr-Digest` (RFC 9530) and a download can be checked at its end. Up to 8 MiB
    it is computed before an object is kept, beyond that behind it, with half a core at most: a GiB
    took 1 s of a core with SHA instructions. (nginx, Varnish and Squid have no such thing.)"""

    scrub_rate: OptionalSize = parse_size("64M")
    """How many bytes a second `forebay fsck` and `POST /-/scrub` read of a cache that is at work;
    `none` is as fast as the disk. (ZFS and btrfs scrub as fast as an idle disk allows.)"""


class Admin(Table):
    """Who may purge, list and look inside: everything under `/-/` needs a token."""

    token: UsableToken | None = None
    """The token itself, best given as `FOREBAY_ADMIN__TOKEN`. It goes before `token_file`. It is
    good for everything, and the audit log calls its holder `admin`."""

    token_file: PathValue | None = None
    """A file that holds the token. Without this and without `token`, a token is made at the
    first start and kept in `admin-token` in the cache directory, readable by its owner only."""

    tokens: tuple[AdminToken, ...] = ()
    """More tokens, each with a name for the audit log and with scopes:
    `{name = "ci", token_file = "/run/secrets/ci", scopes = ["read", "purge"]}`. `read` may look,
    `purge` may purge, `all` may do everything. A token stands in `token` or in `token_file`."""

    listen: ListenAddress | None = None
    """An address of its own for the admin side: `127.0.0.1:8901`, `[::1]:8901`, or
    `unix:/run/forebay/admin.sock` (which only its owner may use). `/-/…`, `PURGE` and `/metrics`
    are then answered there, and with 404 on the port for downloads; `/-/fetch` stays with the
    downloads, and `/healthz`, `/livez` and `/readyz` are on both. `[tls]` counts for it
    too. (Varnish keeps `varnishadm` on a port of its own.)"""

    @model_validator(mode="after")
    def _names_are_unique(self) -> Admin:
        names = ["admin", *(token.name for token in self.tokens)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"has two tokens with the name {twice!r}; name one of them otherwise")
        return self


class Tunnel(Table):
    """Tunnels through Forebay, for clients that have it as their proxy for `https://` too. What
    goes through one is encrypted between its ends: nothing of it is cached, checked or seen."""

    hosts: Annotated[tuple[Literal["*"] | HostPattern, ...], Listed] = ()
    """Hosts to which CONNECT opens a tunnel: `example.org`, `*.example.org`, or `*` for every
    public host. Empty refuses all. (Squid: every host, from every client that it serves.)"""

    ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = (443,)
    """Ports to which a tunnel may lead. (Squid 443.)"""

    idle_timeout: Duration = Field(default=300.0, gt=0)
    """How long a tunnel may carry nothing before it is closed. (Squid 30m, nginx 60s.)"""


class Upstream(Table):
    """How Forebay asks other servers, and which ones it may ask for a stranger.

    The lists of hosts, networks and ports are for addresses that clients name. An upstream
    that a mount names may be anywhere; where it redirects to is checked again.
    """

    connect_timeout: Duration = 10.0
    """How long a connection may take to be made, name and TLS included; the next address or
    mirror is tried then. Three lost SYN packets take 7 s. (nginx 60s, Varnish 3.5s, Squid 60s,
    httpx 5s.)"""

    stall_timeout: Duration = 30.0
    """How long an upstream may send nothing, before its head or between two bytes; the transfer
    then goes on elsewhere or at the next byte. (nginx 60s, Varnish 60s, Squid 15m, curl no
    limit.)"""

    min_rate: Size = 1000
    """How many bytes a second an upstream must send on the average of `stall_timeout`, or it is
    left like one that is silent; `0` waits for drips without end. Only time in which we wait for
    it counts. Where nobody else has the file, it is asked again, `max_tries` times in a row at
    most; what came stays. (dnf 1000 over 30s; git, curl and aria2 no limit unless told.)"""

    max_connections: int = Field(default=256, ge=1, le=65535)
    """Connections to all upstreams together. Further requests wait for one. (httpx 100, aria2
    16 to a server, nginx no limit.)"""

    max_connections_per_host: int = Field(default=16, ge=1, le=65535)
    """Connections to one upstream host. 16 fill a long fat link without looking like an attack.
    (Browsers 6 by HTTP/1.1, aria2 at most 16, nginx no limit.)"""

    max_requests_per_host: int = Field(default=128, ge=1, le=65535)
    """Requests that may be under way at one upstream host. Further ones wait for a turn, for as
    long as `connect_timeout`, and are then answered with 503 and Retry-After, so that one slow
    host does not take every connection from the others. (nginx `max_conns`, off; HAProxy
    `maxconn`.)"""

    allow_hosts: Annotated[tuple[HostPattern, ...], Listed] = ()
    """Hosts that clients may name: `example.org` is that name, `*.example.org` every name below
    it. Empty means every public host."""

    allow_networks: Annotated[tuple[Network, ...], Listed] = ()
    """Networks to open although they are not public, such as `10.0.0.0/8`. Empty means that
    private, loopback, link-local, carrier-grade and metadata addresses are refused."""

    allow_ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = (80, 443)
    """Ports that clients may name. The ports of the web, so that nobody reaches mail, databases
    or the like through Forebay. (Squid: 80, 443, 21, 70, 210, 280, 488, 591, 777 and all above
    1024.)"""
