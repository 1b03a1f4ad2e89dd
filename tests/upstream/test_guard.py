"""The guard: one answer for every way to name what is not public, and checked addresses only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.errors import InvalidTarget, TargetForbidden, UpstreamUnreachable
from forebay.rules import urls
from forebay.rules.addresses import is_public
from forebay.upstream.guard import FORBIDDEN, METADATA_NAMES, Guard, is_local_address
from forebay.upstream.resolver import Resolver

PUBLIC = "93.184.216.34"


def guard(names: Mapping[str, Sequence[str]] | None = None, **settings: object) -> Guard:
    def lookup(host: str) -> tuple[str, ...]:
        if host not in (names or {}):
            raise OSError
        return tuple((names or {})[host])

    return Guard(resolver=Resolver(lookup=lookup), **settings)  # type: ignore[arg-type]


async def refusal(subject: Guard, host: str, port: int = 80, *, unguarded: bool = False) -> str:
    with pytest.raises(TargetForbidden) as caught:
        await subject.check(host, port, unguarded=unguarded)
    return caught.value.detail


async def test_a_public_host_gives_the_addresses_to_connect_to() -> None:
    subject = guard({"a.example": [PUBLIC, "2a00:1450::1"]})
    assert await subject.check("a.example", 443) == (PUBLIC, "2a00:1450::1")
    assert await subject.check(PUBLIC, 80) == (PUBLIC,)
    assert await subject.check("2a00:1450::1", 80) == ("2a00:1450::1",)


async def test_every_refusal_is_the_same_sentence() -> None:
    subject = guard({"in.example": ["10.0.0.1"], "half.example": [PUBLIC, "127.0.0.1"]})
    said = {
        await refusal(subject, "127.0.0.1"),
        await refusal(subject, "127.0.0.1", 22),
        await refusal(subject, "::1"),
        await refusal(subject, "::ffff:127.0.0.1"),
        await refusal(subject, "fe80::1%lo"),
        await refusal(subject, "in.example"),
        await refusal(subject, "half.example"),
        await refusal(subject, PUBLIC, 8080),
        await refusal(subject, "metadata.google.internal"),
        await refusal(guard(allow_hosts=["a.example"]), "b.example"),
    }
    assert said == {FORBIDDEN}
    for setting in ("allow_hosts", "allow_ports", "allow_networks"):
        assert setting in FORBIDDEN


async def test_an_unresolvable_name_is_unreachable_not_forbidden() -> None:
    with pytest.raises(UpstreamUnreachable):
        await guard().check("none.example", 80)


@pytest.mark.parametrize("name", sorted(METADATA_NAMES))
async def test_metadata_names_are_refused_before_they_are_resolved(name: str) -> None:
    await refusal(guard({name: [PUBLIC]}), name)


@pytest.mark.parametrize(
    ("pattern", "host", "allowed"),
    [
        ("a.example", "a.example", True),
        ("A.Example.", "a.example", True),
        ("a.example", "b.a.example", False),
        ("a.example", "xa.example", False),
        ("*.a.example", "b.a.example", True),
        ("*.a.example", "c.b.a.example", True),
        ("*.a.example", "a.example", False),
        ("*.a.example", "xa.example", False),
    ],
)
def test_patterns_match_whole_labels(pattern: str, host: str, allowed: bool) -> None:
    subject = guard(allow_hosts=[pattern])
    if allowed:
        subject.allow(host, 80)
    else:
        with pytest.raises(TargetForbidden):
            subject.allow(host, 80)


async def test_an_allowed_host_must_still_have_an_allowed_address() -> None:
    names = {"a.example": ["10.0.0.1"]}
    await refusal(guard(names, allow_hosts=["a.example"]), "a.example")
    opened = guard(names, allow_hosts=["a.example"], allow_networks=["10.0.0.0/8"])
    assert await opened.check("a.example", 80) == ("10.0.0.1",)


async def test_opened_networks_open_themselves_only() -> None:
    subject = guard(allow_networks=["127.0.0.0/8", "fd00::/8"], allow_ports=[80, 8080])
    assert await subject.check("127.0.0.1", 8080) == ("127.0.0.1",)
    assert await subject.check("fd00::1", 80) == ("fd00::1",)
    for host in ("10.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.169.254"):
        await refusal(subject, host)


async def test_an_upstream_that_the_operator_named_may_be_anywhere() -> None:
    subject = guard({"in.example": ["10.0.0.1"]}, allow_hosts=["other.example"])
    assert await subject.check("in.example", 3141, unguarded=True) == ("10.0.0.1",)
    assert await subject.check("127.0.0.1", 3141, unguarded=True) == ("127.0.0.1",)


async def test_our_own_address_is_refused_to_everybody() -> None:
    subject = guard(
        {"me.example": ["127.0.0.1"]}, allow_networks=["0.0.0.0/0", "::/0"], allow_ports=[8000]
    )
    assert await subject.check("127.0.0.1", 8000) == ("127.0.0.1",)
    subject.note_listening("127.0.0.1", 8000)
    for host in ("127.0.0.1", "me.example", "::ffff:127.0.0.1", "0.0.0.0", "::"):
        await refusal(subject, host, 8000)
        await refusal(subject, host, 8000, unguarded=True)
    assert await subject.check("127.0.0.1", 9000, unguarded=True) == ("127.0.0.1",)


async def test_listening_everywhere_makes_every_address_of_this_machine_ours() -> None:
    ours = {ip_address("10.1.2.3"), ip_address("fd00::1")}
    subject = guard(is_local=lambda address: address in ours)
    subject.note_listening("0.0.0.0", 8000)
    await refusal(subject, "10.1.2.3", 8000, unguarded=True)
    await refusal(subject, "fd00::1", 8000, unguarded=True)
    assert await subject.check("10.1.2.4", 8000, unguarded=True) == ("10.1.2.4",)


def test_this_machine_knows_its_own_addresses() -> None:
    assert is_local_address(IPv4Address("127.0.0.1"))
    assert not is_local_address(IPv4Address("192.0.2.1"))


async def test_a_name_that_changes_its_mind_is_checked_each_time_it_is_resolved() -> None:
    answers = [(PUBLIC,), ("127.0.0.1",)]
    subject = Guard(resolver=Resolver(lookup=lambda _: answers.pop(0)))
    assert await subject.check("rebind.example", 80) == (PUBLIC,)
    # Within the resolver's memory the same address is given, not a second answer.
    assert await subject.check("rebind.example", 80) == (PUBLIC,)
    subject.forget("rebind.example")
    await refusal(subject, "rebind.example")


def allow_text(text: str) -> None:
    url = urls.from_text(text)
    Guard().allow(url.host, url.port)


def spellings(address: IPv4Address) -> list[str]:
    """How people have written IPv4 addresses past guards."""
    number = int(address)
    a, b, c, d = address.packed
    wide = str(address).translate({ord(x): ord(x) + 0xFEE0 for x in "0123456789"})
    return [
        str(address), f"{address}.", str(number), hex(number), f"0{number:o}",
        f"{a}.{(b << 16) + (c << 8) + d}", f"{a}.{b}.{(c << 8) + d}",
        f"0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}", f"0{a:o}.0{b:o}.0{c:o}.0{d:o}",
        f"0x{a:x}.{b}.{c}.{d}", f"{a}\u3002{b}\u3002{c}\u3002{d}", f"{a}\uff0e{b}.{c}.{d}",
        wide, f"[::ffff:{address}]", f"[::{address}]", f"[64:ff9b::{address}]",
        f"[2002:{a:02x}{b:02x}:{c:02x}{d:02x}::1]", f"[::ffff:0:{address}]",
        f"user@{address}", f"public.example@{address}", f"{address}\\@public.example",
        f"{address}%00.public.example", f"%{ord('1'):x}{address}", f"{address}\t", f"{address}#@a",
    ]  # fmt: skip


@given(st.ip_addresses(v=4).filter(lambda address: not is_public(address)))
def test_no_spelling_of_a_forbidden_address_passes(address: IPv4Address) -> None:
    for spelling in spellings(address):
        with pytest.raises((InvalidTarget, TargetForbidden)):
            allow_text(f"http://{spelling}/")


@given(st.ip_addresses().filter(is_public), st.sampled_from([80, 443]))
def test_every_public_address_passes(address: object, port: int) -> None:
    host = f"[{address}]" if ":" in str(address) else str(address)
    allow_text(f"http://{host}:{port}/")
