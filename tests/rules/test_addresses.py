"""Which addresses are public: every special one is refused, in every version of itself."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.rules.addresses import NOT_PUBLIC_V4, NOT_PUBLIC_V6, is_public

REFUSED = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.0", "100.127.255.255",
    "100.100.100.200", "127.0.0.1", "127.255.255.254", "168.63.129.16", "169.254.0.1",
    "169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.255", "192.0.0.1",
    "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.19.255.255",
    "198.51.100.7", "203.0.113.7", "224.0.0.1", "239.255.255.255", "240.0.0.1",
    "255.255.255.255",
    "::", "::1", "::7f00:1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8",
    "::ffff:0:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::8.8.8.8", "64:ff9b:1::1",
    "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", "100::1", "2001::1", "2001:0:4136:e378::1",
    "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::1",
    "3fff::1", "3fff:fff:ffff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fdff:ffff::1",
    "fe80::1", "fe80::1%eth0", "febf::1", "fec0::1", "feff::1", "ff02::1", "ff0e::1",
    "2a00:1450::1%eth0",
]  # fmt: skip

ALLOWED = [
    "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0",
    "126.255.255.255", "128.0.0.0", "151.101.0.223", "168.63.129.15", "169.253.255.255",
    "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.167.255.255", "198.17.255.255",
    "198.20.0.0", "223.255.255.255",
    "2001:200::1", "2001:4860:4860::8888", "2003::1", "2606:4700::1111", "2a00:1450::1",
    "3ffe:ffff::1",
]  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_special_addresses_are_not_public(text: str) -> None:
    assert not is_public(ip_address(text))


@pytest.mark.parametrize("text", ALLOWED)
def test_neighbours_of_special_ranges_and_well_known_servers_are_public(text: str) -> None:
    assert is_public(ip_address(text))


@given(st.ip_addresses(v=4))
def test_no_ipv4_address_is_public_that_python_calls_private(address: IPv4Address) -> None:
    # ipaddress lets too much through, but what it holds back is rightly held back.
    if not address.is_global or address.is_multicast or address.is_reserved:
        assert not is_public(address)


@given(st.ip_addresses(v=6))
def test_no_ipv6_address_is_public_that_python_calls_private(address: IPv6Address) -> None:
    if not address.is_global or address.is_multicast or address.is_reserved:
        assert not is_public(address)


@given(st.ip_addresses(v=4), st.sampled_from(["::", "::ffff:", "::ffff:0:", "64:ff9b::"]))
def test_no_ipv4_address_is_public_inside_an_ipv6_one(address: IPv4Address, prefix: str) -> None:
    assert not is_public(ip_address(f"{prefix}{address}"))


@given(st.ip_addresses(v=4), st.integers(0, 2**80 - 1))
def test_no_6to4_address_is_public(address: IPv4Address, rest: int) -> None:
    assert not is_public(IPv6Address((0x2002 << 112) | (int(address) << 80) | rest))


@given(st.data())
def test_every_address_of_a_listed_network_is_refused(data: st.DataObject) -> None:
    four = data.draw(st.sampled_from(NOT_PUBLIC_V4))
    six = data.draw(st.sampled_from(NOT_PUBLIC_V6))
    assert not is_public(four[data.draw(st.integers(0, four.num_addresses - 1))])
    assert not is_public(six[data.draw(st.integers(0, six.num_addresses - 1))])
