"""Who the client is where reverse proxies stand in front: X-Forwarded-For, from those trusted.

A client can send any X-Forwarded-For it likes, and each proxy adds at the end whom it heard from.
So the lines are read from the end, and the first address that is no trusted proxy's is the client:
everything before it is hearsay.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from forebay.model import Request

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_HOPS = 32
"""Members of X-Forwarded-For that are looked at; no chain of proxies is that long."""


def address_of(host: str) -> Address | None:
    """The address that this text is, IPv4-mapped ones as IPv4, zones left out; else None."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def is_within(host: str, networks: Sequence[Network]) -> bool:
    """Whether this host is an address in one of the networks."""
    address = address_of(host)
    return address is not None and any(address in network for network in networks)


def client_network(host: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 of an IPv6 address, since every
    host there has all of its addresses."""
    address = address_of(host)
    if address is None:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


class Proxies:
    """The reverse proxies in front of us that are believed."""

    def __init__(self, trusted: Sequence[Network] = ()) -> None:
        self._trusted = tuple(trusted)

    def __bool__(self) -> bool:
        return bool(self._trusted)

    def seen_through(self, request: Request) -> Request:
        """The request as its client sent it: ``client_host`` the client's, and for a path of
        ours ``scheme`` the one that the client used."""
        if not self._trusted or not is_within(request.client_host, self._trusted):
            return request
        client = self._client(request)
        scheme = (request.fields.get("x-forwarded-proto") or "").strip(" \t").lower()
        if request.absolute or scheme not in {"http", "https"}:
            scheme = request.scheme
        return replace(request, client_host=client, scheme=scheme)

    def _client(self, request: Request) -> str:
        said = ",".join(request.fields.get_all("x-forwarded-for")).split(",")
        client = request.client_host
        for member in reversed(said[-MAX_HOPS:]):
            address = address_of(_bare(member))
            if address is None:
                # What a trusted proxy could not name: the proxy itself answers for it.
                return client
            client = str(address)
            if not is_within(client, self._trusted):
                return client
        return client


def _bare(member: str) -> str:
    """An address without the port that some proxies add: ``192.0.2.1:80``, ``[2001:db8::1]:80``."""
    text = member.strip(' \t"')
    if text.startswith("["):
        return text[1:].partition("]")[0]
    host, colon, port = text.partition(":")
    return host if colon and port.isdigit() else text
