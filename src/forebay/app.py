"""Wiring: settings become objects, objects become the ASGI application.

``create_app`` is what ``forebay serve`` calls. ``uvicorn forebay.app:app`` works too, reads
``FOREBAY_…`` variables and the file named by ``FOREBAY_CONFIG``, and sends files by the plain
ASGI path unless ``--http forebay.web.protocol:ForebayHttpProtocol`` is given.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from forebay.credentials import OwnCredential
from forebay.model import Mount, Share
from forebay.presets import preset_settings
from forebay.rules.eviction import Eviction
from forebay.rules.targets import URL_MOUNT
from forebay.service import Service
from forebay.service.authorizing import AuthorizedUpstream
from forebay.service.presented import PresentedUpstream
from forebay.service.sharing import KEY_BYTES, Sharing
from forebay.settings import ClientKeys, Settings, load
from forebay.settings.access import parse_address
from forebay.store.checks import Verify
from forebay.store.disk import DiskStore
from forebay.streaming.crew import Surroundings
from forebay.streaming.pace import Slots
from forebay.tokens import CREDENTIAL_KEY_NAME, read_or_make_token
from forebay.upstream.client import HttpxUpstream
from forebay.upstream.guard import Guard
from forebay.upstream.mirrors import Mirrors, mirror_of
from forebay.upstream.resolver import Resolver
from forebay.upstream.tunnels import TunnelDialer
from forebay.upstream.turns import TurnTakingUpstream
from forebay.web.application import AdminSide, make_app
from forebay.web.asgi import App
from forebay.web.auth import AdminKey
from forebay.web.credentials import TokenBook
from forebay.web.entrance import Access, Entrance
from forebay.web.limits import DoorLimits
from forebay.web.proxies import Proxies
from forebay.web.shares import ClientLimits, Shares
from forebay.web.tunnel import Tunnels
from forebay.web.ways import WaysIn

RUN_VARIABLE = "_FOREBAY_RUN"
"""Handed down by ``forebay serve`` to its workers; no setting, and nobody's to set."""


def create_app(settings: Settings, *, resolver: Resolver | None = None) -> App:
    """The whole service as one ASGI application; its lifespan opens and closes everything.

    ``resolver`` looks up names of upstreams; None asks the system.
    """
    run = run_name(settings)
    # The same in all workers: a request that comes back to another of them has come back.
    pseudonym = f"forebay-{hashlib.sha256(run.encode()).hexdigest()[:8]}"
    guard = _guard(settings, resolver)
    upstream = HttpxUpstream(
        guard=guard,
        connect_timeout_seconds=settings.upstream.connect_timeout,
        stall_timeout_seconds=settings.upstream.stall_timeout,
        min_rate_bytes=settings.upstream.min_rate,
        max_connections=settings.upstream.max_connections,
        via=pseudonym,
    )
    store = DiskStore(
        settings.cache.dir,
        max_size_bytes=settings.cache.max_size,
        min_free_bytes=settings.cache.min_free,
        shared=settings.server.workers > 1,
        verify=Verify(settings.cache.verify),
        quotas=settings.quotas(),
        eviction=Eviction(settings.cache.eviction),
        pinned_mounts=settings.pinned_mounts(),
    )
    if store.neighbours is not None:
        store.neighbours.run = run
    store.scrub_rate_bytes_per_second = settings.cache.scrub_rate
    mounts = settings.mount_table(preset_settings())
    mirrors = Mirrors(told={mirror_of(url) for mount in mounts for url in mount.upstreams})
    token, admin = _token(settings), _admin_side(settings)
    sharing = _sharing(settings, mounts)
    entrance = _entrance(settings, (AdminKey("admin", token), *admin.keys))
    in_turn = TurnTakingUpstream(
        upstream, settings.upstream.max_requests_per_host, settings.upstream.connect_timeout
    )
    presented = PresentedUpstream(in_turn, mounts)
    around = Surroundings(
        upstream=AuthorizedUpstream(presented, mounts, time.monotonic),
        health=mirrors,
        slots=Slots(settings.upstream.max_connections, settings.upstream.max_connections_per_host),
        clock=time.monotonic,
        wall_clock=time.time,
        tells_digests=settings.cache.repr_digest,
    )
    service = Service(
        store=store,
        around=around,
        mounts=mounts,
        pseudonym=pseudonym,
        mirror_views=mirrors.view,
        neighbours=store.neighbours,
        sharing=sharing,
    )

    async def announce() -> None:
        await store.announce([mount.name for mount in mounts])

    return make_app(
        service,
        token=token,
        startup=[store.open, announce, service.open],
        shutdown=[service.close, upstream.aclose, store.close],
        limits=door_limits(settings),
        ways=WaysIn(
            landing=not any(mount.prefix == "/" and mount.upstreams for mount in mounts),
            mount_ports=frozenset(mount.port for mount in mounts if mount.port is not None),
            tunnels=_tunnels(settings, resolver, entrance),
        ),
        admin=admin,
        entrance=entrance,
    )


def run_name(settings: Settings) -> str:
    """The name of this start of the service, the same in all its workers.

    ``forebay serve`` chooses it. Under another supervisor it is that one's process.
    """
    if settings.server.workers == 1:
        return secrets.token_hex(8)
    return os.environ.get(RUN_VARIABLE) or f"{os.getppid()}-{_started_ticks()}"


def _started_ticks() -> str:
    """When the supervisor started, where the system tells: process numbers come back."""
    with contextlib.suppress(OSError, IndexError):
        told = Path(f"/proc/{os.getppid()}/stat").read_text(encoding="ascii", errors="replace")
        return told.rpartition(")")[2].split()[19]
    return "0"


def door_limits(settings: Settings) -> DoorLimits:
    """What one connection may cost, as ``[server]`` has it."""
    server = settings.server
    return DoorLimits(
        max_head_bytes=server.max_header_bytes,
        head_seconds=server.head_timeout,
        stall_seconds=server.client_stall_timeout,
        body_stall_seconds=server.client_stall_timeout,
        max_connections=server.max_connections,
        min_rate_bytes=server.client_min_rate,
    )


def _sharing(settings: Settings, mounts: Sequence[Mount]) -> Sharing:
    """The mounts' own credentials, read, and the key under which clients' are told apart."""
    read = {mount.name: mount.read_credentials() for mount in settings.mounts}
    own = {n: OwnCredential(reader, time.monotonic) for n, reader in read.items() if reader}
    if any(mount.share in {Share.PRIVATE, Share.VERIFY} for mount in mounts):
        key = read_or_make_token(settings.cache.dir / CREDENTIAL_KEY_NAME).encode()
    else:
        key = secrets.token_bytes(KEY_BYTES)
    return Sharing(mounts, key, own)


def _guard(settings: Settings, resolver: Resolver | None) -> Guard:
    upstream = settings.upstream
    return _listening(settings, upstream.allow_hosts, upstream.allow_ports, resolver)


def _tunnels(settings: Settings, resolver: Resolver | None, entrance: Entrance) -> Tunnels | None:
    """What opens tunnels, by lists of their own; None where no host is listed."""
    tunnel = settings.tunnel
    if not tunnel.hosts:
        return None
    hosts = () if "*" in tunnel.hosts else tunnel.hosts
    guard = _listening(settings, hosts, tunnel.ports, resolver)
    timeout = settings.upstream.connect_timeout
    return Tunnels(
        TunnelDialer(guard, connect_timeout_seconds=timeout, idle_seconds=tunnel.idle_timeout),
        lambda request: entrance.admit_and_count(request, (URL_MOUNT,)),
    )


def _listening(
    settings: Settings, hosts: Sequence[str], ports: Sequence[int], resolver: Resolver | None
) -> Guard:
    """A guard that knows these lists, and the addresses at which we listen ourselves."""
    networks = tuple(str(network) for network in settings.upstream.allow_networks)
    guard = Guard(allow_hosts=hosts, allow_networks=networks, allow_ports=ports, resolver=resolver)
    for host, port in settings.listens():
        for address in _addresses(host):
            guard.note_listening(address, port)
    admin = settings.admin.listen and parse_address(settings.admin.listen)
    if admin and admin.path is None:
        for address in _addresses(admin.host):
            guard.note_listening(address, admin.port)
    return guard


def _admin_side(settings: Settings) -> AdminSide:
    """Raises ``ValueError`` or ``OSError`` for a token that cannot be read."""
    keys = (AdminKey(t.name, t.reveal(), frozenset(t.scopes)) for t in settings.admin.tokens)
    return AdminSide(tuple(keys), apart=settings.admin.listen is not None)


def _entrance(settings: Settings, admin_keys: Sequence[AdminKey]) -> Entrance:
    """Who may download, and how much. Raises as ``_admin_side``."""
    clients = settings.clients()
    tokens = {t.reveal(): t.name for keys in clients.values() for t in keys.client_tokens}
    tokens.update((key.token, key.name) for key in admin_keys)
    limits = settings.limits
    bounds = ClientLimits(
        requests_per_second=limits.requests_per_second,
        request_burst=limits.request_burst,
        max_downloads=limits.max_downloads,
        queue_seconds=limits.queue_timeout,
        rate_bytes_per_second=limits.rate,
    )
    access = {name: _access(keys) for name, keys in clients.items()}
    return Entrance(
        access={name: one for name, one in access.items() if not one.is_open},
        proxies=Proxies(settings.server.trusted_proxies),
        shares=Shares(bounds),
        ours=TokenBook((name, token) for token, name in tokens.items()),
    )


def _access(keys: ClientKeys) -> Access:
    tokens = [(token.name, token.reveal()) for token in keys.client_tokens]
    return Access(TokenBook(tokens) if tokens else None, keys.client_networks)


def _addresses(host: str) -> set[str]:
    """The addresses that this name of ours stands for, once and at start."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return {str(address[0]) for *_, address in found}


def _token(settings: Settings) -> str:
    token = settings.admin_token(create=True)
    if token is None:
        raise ValueError(f"There is no admin token in {settings.token_path}.")
    return token.get_secret_value()


def __getattr__(name: str) -> Any:
    """``app``, made when it is first asked for: importing this module opens nothing."""
    if name != "app":
        raise AttributeError(name)
    application = create_app(load())
    globals()["app"] = application
    return application
