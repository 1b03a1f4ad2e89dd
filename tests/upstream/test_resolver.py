"""Looking names up: shared, bounded, remembered for a while, never in each other's way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from forebay.errors import UpstreamTimeout, UpstreamUnreachable
from forebay.upstream import resolver
from forebay.upstream.resolver import Resolver, system_lookup
from tests.patience import PATIENCE_SECONDS


class Names:
    """A blocking name service: ``slow.`` names answer when ``released``."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.known: dict[str, tuple[str, ...]] = {}
        self.released = threading.Event()
        self.begun = threading.Semaphore(0)

    def lookup(self, host: str) -> tuple[str, ...]:
        self.asked.append(host)
        self.begun.release()
        if "slow" in host:
            self.released.wait(PATIENCE_SECONDS)
        if host not in self.known:
            raise OSError("no such name")
        return self.known[host]


@pytest.fixture
def names() -> Iterator[Names]:
    service = Names()
    yield service
    service.released.set()


async def test_many_who_ask_at_once_share_one_look_up(names: Names) -> None:
    names.known["slow.example"] = ("192.0.2.1", "2001:db8::1")
    subject = Resolver(lookup=names.lookup)
    tasks = [asyncio.create_task(subject.resolve("slow.example")) for _ in range(50)]
    await asyncio.sleep(0)
    names.released.set()
    assert set(await asyncio.gather(*tasks)) == {("192.0.2.1", "2001:db8::1")}
    assert names.asked == ["slow.example"]


async def test_answers_are_used_again_until_they_are_old_or_forgotten(names: Names) -> None:
    now = 0.0
    names.known["a.example"] = ("192.0.2.1",)
    subject = Resolver(lookup=names.lookup, clock=lambda: now)
    for _ in range(3):
        await subject.resolve("a.example")
    assert len(names.asked) == 1
    now = resolver.FOUND_SECONDS
    await subject.resolve("a.example")
    assert len(names.asked) == 2
    subject.forget("a.example")
    await subject.resolve("a.example")
    assert len(names.asked) == 3


async def test_a_missing_name_is_unreachable_and_asked_again_soon(names: Names) -> None:
    now = 0.0
    subject = Resolver(lookup=names.lookup, clock=lambda: now)
    for _ in range(2):
        with pytest.raises(UpstreamUnreachable):
            await subject.resolve("none.example")
    assert len(names.asked) == 1
    now = resolver.NOT_FOUND_SECONDS
    names.known["none.example"] = ("192.0.2.1",)
    assert await subject.resolve("none.example") == ("192.0.2.1",)


async def test_slow_names_have_a_deadline_and_do_not_delay_others(names: Names) -> None:
    names.known["quick.other"] = ("192.0.2.9",)
    subject = Resolver(lookup=names.lookup, deadline_seconds=1.0)
    slow = [f"slow{number}.attacker.example" for number in range(100)]
    tasks = [asyncio.create_task(subject.resolve(name)) for name in slow]
    await asyncio.to_thread(names.begun.acquire)
    assert await subject.resolve("quick.other") == ("192.0.2.9",)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} == {UpstreamTimeout}
    # Whoever owns one domain gets one domain's share of the threads.
    assert len(names.asked) == resolver.MAX_LOOKUPS_BELOW_DOMAIN + 1


async def test_one_who_leaves_does_not_end_the_look_up_of_others(names: Names) -> None:
    names.known["slow.example"] = ("192.0.2.1",)
    subject = Resolver(lookup=names.lookup)
    first = asyncio.create_task(subject.resolve("slow.example"))
    second = asyncio.create_task(subject.resolve("slow.example"))
    await asyncio.to_thread(names.begun.acquire)
    first.cancel()
    names.released.set()
    assert await second == ("192.0.2.1",)
    assert len(names.asked) == 1


async def test_what_is_remembered_is_bounded(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "MAX_REMEMBERED", 2)
    subject = Resolver(lookup=names.lookup)
    for name in ("a.example", "b.example", "c.example", "b.example", "a.example"):
        names.known[name] = ("192.0.2.1",)
        await subject.resolve(name)
    assert names.asked == ["a.example", "b.example", "c.example", "a.example"]


def test_the_system_knows_this_machine() -> None:
    assert set(system_lookup("localhost")) <= {"127.0.0.1", "::1"}
    assert system_lookup("127.0.0.1") == ("127.0.0.1",)
