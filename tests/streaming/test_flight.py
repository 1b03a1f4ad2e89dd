"""Whoever waits gets an answer or an error, whatever becomes of the others and of the task."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from forebay.errors import StoreFull, UpstreamTimeout, UpstreamUnreachable
from forebay.streaming.flight import Flight, Flights

Fly = Callable[[Flight[str]], Awaitable[None]]


class Pilot:
    """A task whose course a test holds in its hand."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.end = asyncio.Event()
        self.flights = 0
        self.cancelled = 0

    async def fly(self, flight: Flight[str]) -> None:
        self.flights += 1
        try:
            await self.go.wait()
            flight.land("here")
            await self.end.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


def joined(flights: Flights[str], fly: Fly, key: str = "k") -> asyncio.Task[str]:
    return asyncio.create_task(flights.join(key, fly)[0].wait())


async def test_all_who_come_before_the_answer_get_it_from_one_task() -> None:
    flights, pilot = Flights[str](), Pilot()
    waiting = [joined(flights, pilot.fly) for _ in range(3)]
    await asyncio.sleep(0)
    pilot.go.set()
    assert await asyncio.gather(*waiting) == ["here"] * 3
    assert pilot.flights == 1
    await flights.close()


async def test_only_the_first_leads() -> None:
    flights, pilot = Flights[str](), Pilot()
    assert [flights.join("k", pilot.fly)[1] for _ in range(3)] == [True, False, False]
    assert flights.join("other", pilot.fly)[1]
    await flights.close()


async def test_after_the_landing_a_new_flight_begins_and_the_old_task_goes_on() -> None:
    flights, pilot = Flights[str](), Pilot()
    first = joined(flights, pilot.fly)
    pilot.go.set()
    await first
    await joined(flights, pilot.fly)
    assert pilot.flights == 2
    pilot.end.set()
    await asyncio.sleep(0.01)
    assert pilot.cancelled == 0
    await flights.close()


async def test_an_error_before_the_answer_reaches_everybody() -> None:
    flights = Flights[str]()

    async def crash(flight: Flight[str]) -> None:
        await asyncio.sleep(0)
        raise UpstreamTimeout("silent")

    waiting = [joined(flights, crash) for _ in range(3)]
    for found in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(found, UpstreamTimeout)


async def fly_nowhere(flight: Flight[str]) -> None:
    return


async def fail_twice(flight: Flight[str]) -> None:
    flight.fail(UpstreamUnreachable("first"))
    flight.fail(StoreFull("second"))
    flight.land("third")


@pytest.mark.parametrize("fly", [fly_nowhere, fail_twice])
async def test_a_task_that_ends_without_an_answer_strands_nobody(fly: Fly) -> None:
    with pytest.raises(UpstreamUnreachable):
        await joined(Flights[str](), fly)


async def test_a_fault_of_ours_is_logged_and_strands_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def stumble(flight: Flight[str]) -> None:
        raise ZeroDivisionError

    with pytest.raises(UpstreamUnreachable):
        await joined(Flights[str](), stumble)
    assert "fault of ours" in caplog.text


@pytest.mark.parametrize("leaver", [0, 1])
async def test_somebody_who_stops_waiting_harms_nobody(leaver: int) -> None:
    flights, pilot = Flights[str](), Pilot()
    waiting = [joined(flights, pilot.fly) for _ in range(2)]
    await asyncio.sleep(0)
    waiting[leaver].cancel()
    pilot.go.set()
    assert await waiting[1 - leaver] == "here"
    assert pilot.cancelled == 0
    await flights.close()


async def test_a_flight_lands_even_when_nobody_waits_any_more() -> None:
    flights, pilot = Flights[str](), Pilot()
    flight, _ = flights.join("k", pilot.fly)
    waiting = asyncio.create_task(flight.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    again, leads = flights.join("k", pilot.fly)
    assert again is flight
    assert not leads
    pilot.go.set()
    assert await again.wait() == "here"
    await flights.close()


async def test_an_error_that_nobody_waits_for_is_no_complaint() -> None:
    flights = Flights[str]()

    async def crash(flight: Flight[str]) -> None:
        raise UpstreamTimeout("silent")

    flights.launch(crash)
    await asyncio.sleep(0.01)


async def test_a_forgotten_flight_is_joined_by_nobody_and_knows_it() -> None:
    flights, pilot = Flights[str](), Pilot()
    old, _ = flights.join("k", pilot.fly)
    other, _ = flights.join("z", pilot.fly)
    flights.forget(lambda key: key == "k")
    new, leads = flights.join("k", pilot.fly)
    assert (old.forgotten, new.forgotten, other.forgotten) == (True, False, False)
    assert leads
    pilot.go.set()
    assert [await flight.wait() for flight in (old, new)] == ["here", "here"]
    # The landing of the old one must not take the new one's place away.
    assert not flights.join("z", pilot.fly)[1] or other.landed
    await flights.close()


async def test_closing_cancels_every_task_and_waits_until_each_has_cleaned_up() -> None:
    flights = Flights[str]()
    cleaned = 0

    async def fly(flight: Flight[str]) -> None:
        nonlocal cleaned
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1)
            cleaned += 1

    waiting = [joined(flights, fly, key) for key in "ab"]
    await asyncio.sleep(0.01)
    await flights.close()
    assert cleaned == 2
    for found in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(found, UpstreamUnreachable)
