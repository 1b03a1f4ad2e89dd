"""Which hosts, ports and addresses may be fetched from: checked, then connected to.

A name is resolved once; every address it has is checked; the connection goes to an address
that was checked, never to the name again. So a name cannot change its mind between check and
connection. The same is done for each redirect and each retry that makes a connection.

The refusal is one sentence for a literal, a name, a port and a metadata service alike: it
tells a stranger nothing about the network here.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from forebay.errors import TargetForbidden
from forebay.rules.addresses import Address, is_public
from forebay.upstream.resolver import Resolver

FORBIDDEN = (
    "This address may not be fetched from here; the operator can open it with "
    "upstream.allow_hosts, upstream.allow_ports or upstream.allow_networks, or with a mount."
)

METADATA_NAMES = frozenset(
    {
        "instance-data",
        "instance-data.ec2.internal",
        "metadata",
        "metadata.azure.com",
        "metadata.azure.internal",
        "metadata.goog",
        "metadata.google.internal",
        "metadata.packet.net",
        "metadata.platformequinix.com",
        "metadata.tencentyun.com",
    }
)
"""Names under which clouds tell a machine its secrets; refused before they are resolved."""


class Guard:
    """What the settings in ``[upstream]`` allow.

    ``allow_hosts`` holds names and patterns like ``*.example.org`` (which is every name below
    example.org and not itself); empty allows every public host. ``allow_networks`` opens
    address ranges that are not public. Both are asked only of guarded requests: an upstream
    that the operator named in a mount is open, except that our own address never is.
    """

    def __init__(
        self,
        *,
        allow_hosts: Sequence[str] = (),
        allow_networks: Sequence[str] = (),
        allow_ports: Sequence[int] = (80, 443),
        resolver: Resolver | None = None,
        is_local: Callable[[Address], bool] | None = None,
    ) -> None:
        self._hosts = tuple(host.lower().removesuffix(".") for host in allow_hosts)
        self._networks = tuple(ip_network(network, strict=False) for network in allow_networks)
        self._ports = frozenset(allow_ports)
        self._resolver = resolver or Resolver()
        self._is_local = is_local or is_local_address
        self._own: set[tuple[Address, int]] = set()

    def note_listening(self, address: str, port: int) -> None:
        """From now on refuse this address and port, where the service itself listens.

        0.0.0.0 and :: stand for every address of this machine.
        """
        self._own.add((ip_address(address), port))

    def allow(self, host: str, port: int, *, unguarded: bool = False) -> None:
        """Check all that can be known without resolving. Raises ``TargetForbidden``.

        ``host`` is in the normal form of ``rules.urls``.
        """
        literal = _literal(host)
        if literal is not None:
            self._check_address(literal, port, unguarded=unguarded)
        if unguarded:
            return
        if port not in self._ports or host in METADATA_NAMES or not self._names(host):
            raise TargetForbidden(FORBIDDEN)

    async def check(self, host: str, port: int, *, unguarded: bool = False) -> tuple[str, ...]:
        """The addresses to connect to, each checked, in order of preference.

        Raises ``TargetForbidden`` when any address of the host is not allowed, and what
        ``Resolver.resolve`` raises.
        """
        self.allow(host, port, unguarded=unguarded)
        if _literal(host) is not None:
            return (host,)
        addresses = await self._resolver.resolve(host)
        for address in addresses:
            found = _literal(address)
            if found is None:
                raise TargetForbidden(FORBIDDEN)
            self._check_address(found, port, unguarded=unguarded)
        return addresses

    def forget(self, host: str) -> None:
        """None of the host's addresses answered: resolve it anew next time."""
        self._resolver.forget(host)

    def _names(self, host: str) -> bool:
        """Whether the allow-list, if there is one, has this host."""
        if not self._hosts:
            return True
        return any(
            host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern
            for pattern in self._hosts
        )

    def _check_address(self, address: Address, port: int, *, unguarded: bool) -> None:
        if self._is_own(address, port):
            raise TargetForbidden(FORBIDDEN)
        if unguarded or is_public(address):
            return
        if not any(_within(address, network) for network in self._networks):
            raise TargetForbidden(FORBIDDEN)

    def _is_own(self, address: Address, port: int) -> bool:
        plain = _unmapped(address)
        for own, own_port in self._own:
            if port != own_port:
                continue
            # To connect to 0.0.0.0 or :: is to connect to this machine.
            if plain == own or plain.is_unspecified:
                return True
            if own.is_unspecified and self._is_local(plain):
                return True
        return False


def is_local_address(address: Address) -> bool:
    """Whether this machine has the address: only then can a socket be bound to it."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


def _within(address: Address, network: IPv4Network | IPv6Network) -> bool:
    return address.version == network.version and address in network


@lru_cache(maxsize=256)
def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _unmapped(address: Address) -> Address:
    """The IPv4 address that an IPv4-mapped one connects to (RFC 4291 §2.5.5.2)."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
