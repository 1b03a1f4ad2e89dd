"""So many requests under way at one host; another host does not wait for them."""

from __future__ import annotations

import asyncio

import pytest

from forebay.errors import Overloaded
from forebay.model import Ask
from forebay.upstream.turns import TurnTakingUpstream
from tests.fakes.answers import AnsweringUpstream


async def test_a_busy_host_is_waited_for_and_others_are_not() -> None:
    inner = AnsweringUpstream()
    inner.add("http://slow.test/f", body=b"x")
    inner.add("http://other.test/f", body=b"x")
    upstream = TurnTakingUpstream(inner, 1, patience_seconds=0.0)
    async with upstream.open(Ask("http://slow.test/f")):
        with pytest.raises(Overloaded) as caught:
            async with upstream.open(Ask("http://slow.test/f")):
                pass
        assert caught.value.retry_after_seconds > 0
        async with upstream.open(Ask("http://other.test/f")) as response:
            assert response.head.status == 200
    async with upstream.open(Ask("http://slow.test/f")) as response:
        assert response.head.status == 200


async def test_who_waits_is_next_and_nothing_is_remembered_afterwards() -> None:
    inner = AnsweringUpstream()
    inner.add("http://slow.test/f", body=b"x")
    upstream = TurnTakingUpstream(inner, 1, patience_seconds=10.0)

    async def ask() -> int:
        async with upstream.open(Ask("http://slow.test/f")) as response:
            return response.head.status

    async with upstream.open(Ask("http://slow.test/f")):
        waiting = [asyncio.create_task(ask()) for _ in range(3)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
    assert await asyncio.gather(*waiting) == [200, 200, 200]
    assert not upstream._turns
