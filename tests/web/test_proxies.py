"""Who the client is behind proxies: only those that are trusted are believed."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.model import Fields, Request
from forebay.web.proxies import Proxies, client_network

TRUSTED = [ipaddress.ip_network(text) for text in ("10.0.0.0/8", "fd00::/8")]


def _request(peer: str, *lines: tuple[str, str], absolute: bool = False) -> Request:
    return Request("GET", "/f", fields=Fields(lines), client_host=peer, absolute=absolute)


@pytest.mark.parametrize(
    ("peer", "said", "client"),
    [
        ("10.0.0.1", ["192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", ["192.0.2.7:5123"], "192.0.2.7"),
        ("10.0.0.1", ["[2001:db8::7]:5123"], "2001:db8::7"),
        ("10.0.0.1", ["2001:db8::7"], "2001:db8::7"),
        ("10.0.0.1", ["::ffff:192.0.2.7"], "192.0.2.7"),
        ("::ffff:10.0.0.1", ["192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", ["1.1.1.1, 192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", ["1.1.1.1", "192.0.2.7, 10.9.9.9"], "192.0.2.7"),
        ("10.0.0.1", ["1.1.1.1, unknown, 10.9.9.9"], "10.9.9.9"),
        ("10.0.0.1", ["10.2.2.2"], "10.2.2.2"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("192.0.2.9", ["127.0.0.1"], "192.0.2.9"),
        ("", ["127.0.0.1"], ""),
    ],
)
def test_the_last_address_that_nobody_trusted_vouches_for_is_the_client(
    peer: str, said: list[str], client: str
) -> None:
    lines = [("x-forwarded-for", one) for one in said]
    assert Proxies(TRUSTED).seen_through(_request(peer, *lines)).client_host == client


@given(st.text(max_size=60))
def test_a_stranger_s_word_counts_for_nothing(said: str) -> None:
    request = _request("192.0.2.9", ("x-forwarded-for", said), ("x-forwarded-proto", "https"))
    assert Proxies(TRUSTED).seen_through(request) == request
    assert Proxies().seen_through(request) == request


@given(st.text(max_size=60))
def test_whatever_stands_there_the_client_is_an_address(said: str) -> None:
    request = _request("10.0.0.1", ("x-forwarded-for", said))
    ipaddress.ip_address(Proxies(TRUSTED).seen_through(request).client_host)


@pytest.mark.parametrize(
    ("said", "absolute", "scheme"),
    [("https", False, "https"), ("HTTPS", False, "https"), ("gopher", False, "http"),
     ("https", True, "http")],
)  # fmt: skip
def test_a_trusted_proxy_says_what_the_client_speaks(
    said: str, absolute: bool, scheme: str
) -> None:
    request = _request("10.0.0.1", ("x-forwarded-proto", said), absolute=absolute)
    assert Proxies(TRUSTED).seen_through(request).scheme == scheme


def test_an_ipv6_network_is_one_client() -> None:
    assert client_network("2001:db8::1") == client_network("2001:db8::ffff")
    assert client_network("2001:db8::1") != client_network("2001:db8:0:1::1")
