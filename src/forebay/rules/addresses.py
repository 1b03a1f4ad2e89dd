"""Which IP addresses belong to the public Internet: the ground of the SSRF guard.

``ipaddress.is_global`` is no filter: it is true for addresses that carry a private IPv4
address inside (NAT64, 6to4, IPv4-mapped), for site-local IPv6 and for cloud metadata. So the
tables stand here in full, from the IANA special-purpose registries (RFC 6890) and the
addresses that clouds keep for themselves. IPv4 is what is not listed; IPv6 is only 2000::/3,
the one block that IANA gives out for global unicast (RFC 4291 §2.4), less what is listed.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address

NOT_PUBLIC_V4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network, RFC 791
        "10.0.0.0/8",  # private, RFC 1918
        "100.64.0.0/10",  # carrier-grade NAT, RFC 6598; a cloud's metadata at 100.100.100.200
        "127.0.0.0/8",  # loopback, RFC 1122
        "168.63.129.16/32",  # a cloud's host agent, on an address that looks public
        "169.254.0.0/16",  # link-local, RFC 3927; most clouds' metadata
        "172.16.0.0/12",  # private, RFC 1918
        "192.0.0.0/24",  # protocol assignments, RFC 6890; a cloud's metadata at 192.0.0.192
        "192.0.2.0/24",  # documentation, RFC 5737
        "192.88.99.0/24",  # 6to4 relays, RFC 7526
        "192.168.0.0/16",  # private, RFC 1918
        "198.18.0.0/15",  # benchmarking, RFC 2544
        "198.51.100.0/24",  # documentation, RFC 5737
        "203.0.113.0/24",  # documentation, RFC 5737
        "224.0.0.0/4",  # multicast, RFC 5771
        "240.0.0.0/4",  # reserved, RFC 1112, with limited broadcast
    )
)

GLOBAL_UNICAST_V6 = IPv6Network("2000::/3")
"""What lies outside: unspecified, loopback, IPv4-mapped, -compatible and -translated, both
NAT64 prefixes, discard-only, unique local, link-local, site-local, multicast."""

NOT_PUBLIC_V6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments, RFC 2928: Teredo, benchmarking, ORCHID
        "2001:db8::/32",  # documentation, RFC 3849
        "2002::/16",  # 6to4, RFC 3056: any IPv4 address may be inside
        "3fff::/20",  # documentation, RFC 9637
    )
)


@lru_cache(maxsize=256)
def is_public(address: Address) -> bool:
    """Whether a stranger may have us connect to this address.

    False for every special-purpose address, and for an IPv6 address with a zone (RFC 4007
    §11), which only means something on this machine.
    """
    if isinstance(address, IPv4Address):
        return not any(address in network for network in NOT_PUBLIC_V4)
    if address.scope_id is not None or address not in GLOBAL_UNICAST_V6:
        return False
    return not any(address in network for network in NOT_PUBLIC_V6)
