"""A live answer has one owner, a bounded buffer, and ends with whoever leaves."""

from __future__ import annotations

import asyncio

import pytest

from forebay.errors import ForebayError, UpstreamMisbehaved, UpstreamUnreachable
from forebay.model import Ask
from forebay.streaming.relay import CLAIM_DEADLINE_SECONDS, MAX_WAITING_PIECES, PIECE_BYTES, Relay
from tests.fakes.upstream import Act, Ending, Gate, Representation, ScriptedUpstream
from tests.streaming.rig import URL, content, take

BODY = content(40_000)


class Frame:
    """The frame that opens a response and pumps it, as a flight does."""

    def __init__(self, act: Act | None = None) -> None:
        self.upstream = ScriptedUpstream({URL: Representation(BODY)})
        self.upstream.then(URL, act or Act())
        self.landed: asyncio.Future[Relay] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async with self.upstream.open(Ask(URL)) as response:
            relay = Relay(response)
            self.landed.set_result(relay)
            await relay.pump(response, skip_bytes=0)

    async def ended(self) -> None:
        await asyncio.wait([self.task], timeout=60)
        assert self.task.done()
        assert self.upstream.open_responses == 0


async def test_the_body_passes_and_ends() -> None:
    frame = Frame()
    relay = await frame.landed
    assert relay.claim()
    assert await take(relay) == BODY
    assert relay.passed_bytes == len(BODY)
    await relay.aclose()
    await frame.ended()


async def test_only_one_can_claim_it() -> None:
    frame = Frame()
    relay = await frame.landed
    assert [relay.claim() for _ in range(3)] == [True, False, False]
    await relay.aclose()
    await frame.ended()


async def test_nothing_is_pulled_before_it_is_claimed_and_the_wait_has_a_deadline() -> None:
    frame = Frame()
    relay = await frame.landed
    await asyncio.sleep(CLAIM_DEADLINE_SECONDS - 0.1)
    assert frame.upstream.delivered == []
    await asyncio.sleep(0.2)
    await frame.ended()
    assert not relay.claim()
    with pytest.raises(ForebayError):
        await relay.next_piece()


async def test_a_client_that_leaves_releases_the_frame() -> None:
    frame = Frame(Act(gate=Gate()))
    relay = await frame.landed
    relay.claim()
    await asyncio.sleep(1)
    await relay.aclose()
    await relay.aclose()
    await frame.ended()
    assert not frame.task.cancelled()
    assert frame.task.cancelling() == 0


async def test_a_client_that_left_before_the_pump_began_is_noticed() -> None:
    upstream = ScriptedUpstream({URL: Representation(BODY)})
    async with upstream.open(Ask(URL)) as response:
        relay = Relay(response)
        await relay.aclose()
        await relay.pump(response)
    assert upstream.delivered == []


async def test_a_slow_client_holds_upstream_back_within_a_bound() -> None:
    frame = Frame()
    relay = await frame.landed
    relay.claim()
    await asyncio.sleep(10)
    assert len(frame.upstream.delivered) == MAX_WAITING_PIECES
    await relay.next_piece()
    await asyncio.sleep(10)
    assert len(frame.upstream.delivered) == MAX_WAITING_PIECES + 1
    await relay.aclose()
    await frame.ended()


async def test_a_long_read_from_upstream_is_handed_on_in_pieces() -> None:
    body = bytes(range(256)) * (PIECE_BYTES // 64)  # four pieces
    upstream = ScriptedUpstream({URL: Representation(body)})
    upstream.choose = lambda _: Act(chunk_bytes=len(body))
    async with upstream.open(Ask(URL)) as response:
        relay = Relay(response)
        relay.claim()
        await relay.pump(response)
    pieces = [await relay.next_piece() for _ in range(5)]
    assert pieces.pop() is None
    assert {len(piece or b"") for piece in pieces} == {PIECE_BYTES}
    assert b"".join(piece or b"" for piece in pieces) == body
    await relay.aclose()


async def test_an_error_comes_after_the_bytes_before_it() -> None:
    frame = Frame(Act(ends_after_bytes=2500, ending=Ending.RESET))
    relay = await frame.landed
    relay.claim()
    await asyncio.sleep(1)
    assert await take(relay, 2500) == BODY[:2500]
    with pytest.raises(UpstreamUnreachable):
        await relay.next_piece()
    await relay.aclose()
    await frame.ended()


async def test_a_pump_that_is_stopped_tells_its_client_and_its_canceller() -> None:
    frame = Frame(Act(gate=Gate()))
    relay = await frame.landed
    relay.claim()
    await asyncio.sleep(0.1)
    frame.task.cancel()
    with pytest.raises(UpstreamMisbehaved):
        await relay.next_piece()
    await frame.ended()
    assert frame.task.cancelled()
    await relay.aclose()


async def test_a_fault_of_ours_is_no_clean_end() -> None:
    upstream = ScriptedUpstream({URL: Representation(BODY)})
    gate = Gate()
    gate.fail(TimeoutError())  # type: ignore[arg-type]
    upstream.then(URL, Act(gate=gate))
    async with upstream.open(Ask(URL)) as response:
        relay = Relay(response)
        relay.claim()
        with pytest.raises(TimeoutError):
            await relay.pump(response)
    with pytest.raises(ForebayError):
        await relay.next_piece()
    await relay.aclose()
