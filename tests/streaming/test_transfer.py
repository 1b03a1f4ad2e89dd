"""A transfer fetches what is missing once, over several connections, and tells the truth."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace

import pytest

from forebay.errors import (
    ForebayError,
    StoreError,
    UpstreamChanged,
    UpstreamError,
    UpstreamMisbehaved,
    UpstreamTooSlow,
    UpstreamUnreachable,
)
from forebay.model import Interval, TransferPolicy, WhenAlone
from forebay.streaming.pace import Slots
from forebay.streaming.transfer import State
from tests.fakes.mirrors import RecordingMirrors
from tests.fakes.upstream import Act, Ending, Gate, Representation
from tests.streaming.rig import OTHER, SMALL, THIRD, URL, Rig, content, take, take_all

LENGTH = 32_000
BODY = content(LENGTH)
SLOW = Act(pause_seconds=0.25)
"""4 kB a second: what remains takes long enough that more connections are worth a try."""


async def settled(rig: Rig) -> State:
    """The state in which the latest transfer ended."""
    transfer = rig.transfers[-1]
    await transfer.settled.wait()
    return transfer.state


async def partial(rig: Rig, *parts: Interval) -> None:
    """Let the store hold these parts."""
    for part in parts:
        await take_all(await rig.read(part))
        assert await settled(rig) is State.STOPPED
    rig.upstream.asks.clear()
    rig.upstream.delivered.clear()


def rig_of(representation: Representation | None = None, **options: object) -> Rig:
    rig = Rig(**options)  # type: ignore[arg-type]
    rig.hold(representation or Representation(BODY))
    return rig


# Partial objects.


async def test_a_range_of_a_cold_object_costs_that_range_and_stays() -> None:
    rig = rig_of()
    assert await take_all(await rig.read(Interval(20_000, 21_000))) == BODY[20_000:21_000]
    assert await settled(rig) is State.STOPPED
    assert rig.upstream.delivered_bytes() == 1000
    assert await take_all(await rig.read(Interval(20_500, 20_700))) == BODY[20_500:20_700]
    assert len(rig.upstream.asks) == 1
    await rig.close()


@pytest.mark.parametrize("etag", [None, 'W/"v1"'])
async def test_the_rest_of_what_has_no_strong_validator_is_fetched_anew(etag: str | None) -> None:
    rig = rig_of(Representation(BODY, etag=etag), policy=replace(SMALL, when_alone=WhenAlone.STOP))
    rig.upstream.choose = lambda _: SLOW
    first = await rig.read()
    assert await take(first, 1000) == BODY[:1000]
    await first.aclose()
    assert await settled(rig) is State.STOPPED
    assert await take_all(await rig.read()) == BODY
    assert rig.upstream.ranges == [None, None]
    await rig.close()


async def test_the_last_byte_of_a_part_is_kept_where_a_digest_of_the_whole_is_expected() -> None:
    rig = rig_of(digests=sha256(BODY))
    await partial(rig, Interval(20_000, LENGTH))
    assert await take_all(await rig.read()) == BODY
    assert await settled(rig) is State.COMPLETE
    assert rig.upstream.ranges == ["bytes=0-19999"]
    await rig.close()


async def test_later_requests_fetch_only_what_is_missing() -> None:
    rig = rig_of()
    await partial(rig, Interval(4000, 8000), Interval(12_000, 16_000))
    assert await take_all(await rig.read()) == BODY
    assert await settled(rig) is State.COMPLETE
    assert [rig.upstream.times_delivered(p) for p in (0, 5000, 9000, 13_000, 20_000)] == [
        1,
        0,
        1,
        0,
        1,
    ]
    entry = await rig.entry()
    assert entry is not None
    assert entry.complete
    await rig.close()


@pytest.mark.parametrize(
    ("policy", "fetched"),
    [
        (SMALL, 1000),
        (replace(SMALL, read_ahead_bytes=3000), 4000),
        (replace(SMALL, read_ahead_bytes=10**9), LENGTH - 8000),
        (replace(SMALL, complete_ranges=True), LENGTH),
    ],
)
async def test_read_ahead_and_completion_are_the_mounts_choice(
    policy: TransferPolicy, fetched: int
) -> None:
    rig = rig_of(policy=policy)
    await take_all(await rig.read(Interval(8000, 9000)))
    await settled(rig)
    assert rig.upstream.delivered_bytes() == fetched
    await rig.close()


# Readers at any offset.


async def test_a_reader_far_ahead_is_served_before_the_bytes_between() -> None:
    rig = rig_of()
    gate = Gate()
    rig.upstream.then(URL, Act(gate=gate), Act())
    first = await rig.read()
    far = await rig.read(Interval(24_000, 25_000))
    assert await take_all(far) == BODY[24_000:25_000]
    assert rig.upstream.ranges == [None, f"bytes=24000-{LENGTH - 1}"]
    gate.open()
    assert await take_all(first) == BODY
    assert max(map(rig.upstream.times_delivered, range(0, LENGTH, 500))) == 1
    await rig.close()


async def test_many_readers_cause_no_byte_to_be_fetched_twice() -> None:
    rig = rig_of()
    rig.upstream.choose = lambda _: SLOW
    starts = [0, 0, 5000, 17_000, 31_000, 12_000]
    bodies = [await rig.read(Interval(start, LENGTH)) for start in starts]
    found = await asyncio.gather(*map(take_all, bodies))
    assert found == [BODY[start:] for start in starts]
    await settled(rig)
    written = rig.written["e1"]
    assert sum(part.length_bytes for part in written) == LENGTH
    await rig.close()


async def test_a_reader_that_crawls_or_leaves_holds_nobody_up() -> None:
    rig = rig_of()
    crawler, leaver = await rig.read(), await rig.read()
    begun = await take(crawler, 1)
    await leaver.aclose()
    assert await take_all(await rig.read()) == BODY
    assert await settled(rig) is State.COMPLETE
    assert begun + await take(crawler) == BODY
    await crawler.aclose()
    await rig.close()


async def test_closing_a_reader_ends_the_wait_of_whoever_reads_it() -> None:
    rig = rig_of()
    rig.upstream.then(URL, Act(gate=Gate()))
    body = await rig.read()
    reading = asyncio.create_task(take(body, 1))
    await asyncio.sleep(0.01)
    await body.aclose()
    with pytest.raises(ForebayError):
        await reading
    assert rig.transfers[0].view().readers == ()
    await rig.close()


# Parallel ranges.


async def test_a_slow_upstream_gets_more_connections_and_each_byte_once() -> None:
    rig = rig_of()
    rig.upstream.choose = lambda _: SLOW
    body = await rig.read()
    await asyncio.sleep(1)
    assert len(rig.transfers[0].view().segments) == 4
    assert await take_all(body) == BODY
    assert sum(part.length_bytes for part in rig.written["e1"]) == LENGTH
    assert all(ask.fields.get("if-range") == '"v1"' for ask in rig.upstream.asks[1:])
    await rig.close()


async def test_a_fast_upstream_gets_one_connection() -> None:
    rig = rig_of()
    assert await take_all(await rig.read()) == BODY
    assert len(rig.upstream.asks) == 1
    await rig.close()


async def test_an_upstream_that_is_ahead_of_us_gets_one_connection() -> None:
    rig = rig_of()
    rig.upstream.choose = lambda _: replace(SLOW, unread_bytes=10**6)
    assert await take_all(await rig.read()) == BODY
    assert len(rig.upstream.asks) == 1
    assert rig.upstream.delivered_bytes() == LENGTH
    await rig.close()


async def test_a_reader_waits_for_bytes_that_are_about_to_come() -> None:
    rig = rig_of()
    rig.upstream.choose = lambda _: Act(pause_seconds=0.01)
    first = await rig.read()
    await take(first, 2000)
    # 100 kB a second: in a quarter of a second come the 20 kB that lie between.
    second = await rig.read(Interval(22_000, LENGTH))
    assert await take_all(second) == BODY[22_000:]
    assert await take_all(first) == BODY[2000:]
    assert len(rig.upstream.asks) == 1
    assert rig.upstream.delivered_bytes() == LENGTH
    await rig.close()


@pytest.mark.parametrize(
    "holding",
    [
        Representation(BODY, etag=None),
        Representation(BODY, etag='W/"v1"'),
        Representation(BODY, declares_length=False),
        Representation(BODY, fields=Representation(b"").fields.with_field("accept-ranges", "none")),
    ],
    ids=["no validator", "weak", "unknown length", "ranges refused"],
)
async def test_without_what_joining_takes_there_is_one_connection(holding: Representation) -> None:
    rig = rig_of(holding)
    rig.upstream.choose = lambda _: SLOW
    assert await take_all(await rig.read()) == BODY
    assert await settled(rig) is State.COMPLETE
    assert len(rig.upstream.asks) == 1
    await rig.close()


async def test_an_upstream_that_ignores_ranges_is_not_harmed_by_the_try() -> None:
    rig = rig_of(Representation(BODY, has_ranges=False))
    rig.upstream.choose = lambda _: SLOW
    assert await take_all(await rig.read()) == BODY
    assert sum(part.length_bytes for part in rig.written["e1"]) == LENGTH
    assert rig.upstream.responses[0].given_bytes == LENGTH
    assert rig.upstream.delivered_bytes() == LENGTH
    await rig.close()


async def test_a_split_before_the_head_has_come_does_not_make_the_answer_wrong() -> None:
    rig = rig_of()
    rig.upstream.choose = lambda _: replace(SLOW, head_after_seconds=1.0)
    assert await take_all(await rig.read()) == BODY
    assert sum(part.length_bytes for part in rig.written["e1"]) == LENGTH
    assert isinstance(rig.health.order([URL]), tuple)
    await rig.close()


@pytest.mark.parametrize(
    "refusal",
    [Act(status=429, retry_after="2"), Act(status=503), Act(refuse=UpstreamUnreachable("no"))],
)
async def test_an_upstream_that_wants_fewer_connections_gets_fewer(refusal: Act) -> None:
    rig = rig_of()
    rig.upstream.then(URL, SLOW, refusal, refusal, refusal)
    rig.upstream.choose = lambda _: SLOW
    assert await take_all(await rig.read()) == BODY
    assert await settled(rig) is State.COMPLETE
    assert sum(part.length_bytes for part in rig.written["e1"]) == LENGTH
    await rig.close()


async def test_connections_for_speed_stay_within_the_limit_per_host() -> None:
    rig = rig_of(slots=Slots(64, 2))
    rig.upstream.choose = lambda _: SLOW
    body = await rig.read()
    await asyncio.sleep(1)
    assert rig.upstream.open_responses == 2
    assert await take_all(body) == BODY
    assert await settled(rig) is State.COMPLETE
    assert rig.slots.used == 0
    await rig.close()


# Mirrors, resume.


@pytest.mark.parametrize("ending", Ending)
async def test_a_mirror_that_fails_in_mid_body_is_replaced_by_another(ending: Ending) -> None:
    rig = rig_of(urls=(URL, OTHER))
    rig.upstream.then(URL, Act(ends_after_bytes=9500, ending=ending))
    assert await take_all(await rig.read()) == BODY
    assert await settled(rig) is State.COMPLETE
    assert rig.upstream.asks[-1].url == OTHER
    assert rig.upstream.delivered_bytes() == LENGTH
    await rig.close()


async def test_a_mirror_far_slower_than_another_is_left_in_mid_body() -> None:
    health = RecordingMirrors()
    rig = rig_of(urls=(URL, OTHER), health=health)
    rig.upstream.choose = lambda ask: Act(pause_seconds=4.0 if ask.url == URL else 0.2)
    body = await rig.read()
    await asyncio.sleep(1)
    health.last.add(URL)
    assert await take_all(body) == BODY
    assert asyncio.get_running_loop().time() < LENGTH / 1000 * 2.0
    await rig.close()


async def test_a_slow_mirror_is_left_for_one_that_has_been_fast_and_has_nothing_to_do() -> None:
    whole = content(2_000_000)
    policy = replace(SMALL, max_segments=2, min_segment_bytes=500_000)
    health = RecordingMirrors()
    rig = rig_of(Representation(whole), urls=(URL, OTHER), policy=policy, health=health)
    slow, fast = Act(chunk_bytes=10_000), Act(chunk_bytes=100_000)
    rig.upstream.choose = lambda ask: replace(slow if ask.url == URL else fast, pause_seconds=0.05)
    body = await rig.read()
    health.last.add(URL)
    assert await take_all(body) == whole
    # The fast one brings its half in half a second. It takes two to see that the other is slow.
    assert asyncio.get_running_loop().time() < 3.5
    assert sum(part.length_bytes for part in rig.written["e1"]) == len(whole)
    await rig.close()


async def test_a_mirror_with_another_representation_is_left_out() -> None:
    rig = rig_of(urls=(URL, OTHER, THIRD))
    rig.hold(Representation(content(LENGTH, 1), etag='"v2"'), OTHER)
    rig.upstream.then(URL, Act(ends_after_bytes=9500))
    assert await take_all(await rig.read()) == BODY
    assert [ask.url for ask in rig.upstream.asks] == [URL, OTHER, THIRD]
    await rig.close()


async def test_mirrors_whose_etags_differ_are_joined_where_the_operator_says_so() -> None:
    policy = replace(SMALL, identity=frozenset({"length"}))
    rig = rig_of(urls=(URL, OTHER), policy=policy)
    rig.hold(Representation(BODY, etag='"other"'), OTHER)
    rig.upstream.then(URL, Act(ends_after_bytes=9500))
    assert await take_all(await rig.read()) == BODY
    assert rig.upstream.asks[1].fields.get("if-range") is None
    await rig.close()


async def test_a_drop_at_any_byte_costs_only_the_missing_bytes() -> None:
    rig = rig_of()
    rig.upstream.then(URL, *(Act(ends_after_bytes=n) for n in (1, 999, 1000, 1001, 7)))
    assert await take_all(await rig.read()) == BODY
    assert rig.upstream.delivered_bytes() == LENGTH
    assert rig.upstream.ranges[1] == f"bytes=1-{LENGTH - 1}"
    await rig.close()


async def test_tries_are_bounded_while_nothing_comes() -> None:
    rig = rig_of()
    rig.upstream.then(URL, Act(ends_after_bytes=5000))
    rig.upstream.choose = lambda _: Act(ends_after_bytes=0)
    body = await rig.read()
    assert await take(body, 5000) == BODY[:5000]
    with pytest.raises(UpstreamError):
        await take(body)
    assert len(rig.upstream.asks) == 1 + SMALL.max_tries
    assert await settled(rig) is State.FAILED
    entry = await rig.entry()
    assert entry is not None
    assert entry.coverage == (Interval(0, 5000),)
    await body.aclose()
    await rig.close()


async def test_an_upstream_that_drips_in_short_connections_does_not_do_so_for_ever() -> None:
    rig = rig_of(policy=replace(SMALL, max_segments=1))
    rig.upstream.choose = lambda _: Act(chunk_bytes=10, ends_after_bytes=10, ending=Ending.DRIPPED)
    with pytest.raises(UpstreamTooSlow):
        await take_all(await rig.read())
    assert len(rig.upstream.asks) == SMALL.max_tries
    assert await settled(rig) is State.FAILED
    entry = await rig.entry()
    assert entry is not None
    assert entry.coverage == (Interval(0, 10 * SMALL.max_tries),), "what came stays"
    await rig.close()


async def test_every_mirror_is_tried_before_a_transfer_fails() -> None:
    rig = rig_of(urls=(URL, OTHER, THIRD), policy=replace(SMALL, max_tries=1))
    rig.upstream.then(URL, Act(ends_after_bytes=0))
    rig.upstream.then(OTHER, Act(refuse=UpstreamUnreachable("no")))
    assert await take_all(await rig.read()) == BODY
    await rig.close()


async def test_nobody_waits_for_an_upstream_that_wants_to_be_left_alone_for_an_hour() -> None:
    rig = rig_of()
    rig.upstream.then(URL, Act(ends_after_bytes=5000), Act(status=503, retry_after="3600"))
    with pytest.raises(UpstreamError):
        await take_all(await rig.read())
    assert asyncio.get_running_loop().time() < 60
    await rig.close()


async def test_an_upstream_without_ranges_starts_over_and_readers_do_not_notice() -> None:
    rig = rig_of(Representation(BODY, has_ranges=False))
    rig.upstream.then(URL, Act(ends_after_bytes=9500))
    assert await take_all(await rig.read()) == BODY
    assert sum(part.length_bytes for part in rig.written["e1"]) == LENGTH
    await rig.close()


async def test_after_a_stop_the_next_request_goes_on_from_there() -> None:
    rig = rig_of()
    rig.upstream.then(URL, SLOW)
    body = await rig.read()
    await take(body, 3000)
    await rig.flights.close()
    with pytest.raises(UpstreamError):
        await take(body)
    await body.aclose()
    assert await take_all(await rig.read()) == BODY
    assert rig.upstream.ranges[-1] is not None
    assert sum(part.length_bytes for part in rig.written["e1"]) == LENGTH
    await rig.close()


# Identity.


@pytest.mark.parametrize(
    "lie",
    [
        Act(replaced=(("etag", '"v2"'),)),
        Act(replaced=(("content-range", f"bytes 9500-{LENGTH}/{LENGTH + 1}"),)),
        Act(replaced=(("content-range", f"bytes 0-{LENGTH - 1}/{LENGTH}"),)),
        Act(replaced=(("content-range", None),)),
        Act(replaced=(("content-range", f"bytes 9501-{LENGTH - 1}/{LENGTH}"),)),
        Act(replaced=(("content-encoding", "gzip"),)),
        Act(ignores_range=True, replaced=(("etag", '"v2"'),)),
        Act(ignores_range=True, replaced=(("content-length", "5"),)),
        Act(replaced=(("content-length", "5"),)),
        Act(status=404),
        Act(status=416),
    ],
)
async def test_what_cannot_be_proved_the_same_is_never_spliced(lie: Act) -> None:
    rig = rig_of(policy=replace(SMALL, max_tries=2))
    rig.upstream.then(URL, Act(ends_after_bytes=9500))
    rig.upstream.choose = lambda _: lie
    body = await rig.read()
    assert await take(body, 9500) == BODY[:9500]
    with pytest.raises(UpstreamError):
        await take(body)
    await body.aclose()
    await settled(rig)
    assert sum(part.length_bytes for part in rig.written["e1"]) == 9500
    await rig.close()


async def test_old_readers_are_cut_off_and_new_ones_get_the_new_representation() -> None:
    rig = rig_of()
    rig.upstream.then(URL, Act(ends_after_bytes=9500))
    old = await rig.read()
    rig.hold(Representation(content(LENGTH, 1), etag='"v2"'))
    with pytest.raises(UpstreamChanged):
        await take_all(old)
    assert await take_all(await rig.read()) == content(LENGTH, 1)
    await rig.close()


async def test_connections_at_work_finish_what_a_change_leaves_to_nobody_else() -> None:
    rig = rig_of()
    changed = Act(replaced=(("etag", '"v2"'),))
    rig.upstream.then(URL, SLOW, changed, changed, changed, changed)
    assert await take_all(await rig.read()) == BODY
    assert await settled(rig) is State.COMPLETE
    await rig.close()


async def test_on_its_way_to_such_bytes_a_connection_passes_what_another_has_brought() -> None:
    rig = rig_of(policy=replace(SMALL, max_segments=2))
    rig.upstream.then(URL, SLOW, Act(ends_after_bytes=5000))
    rig.upstream.choose = lambda _: Act(replaced=(("etag", '"v2"'),))
    assert await take_all(await rig.read()) == BODY
    assert await settled(rig) is State.COMPLETE
    assert rig.upstream.responses[0].given_bytes == LENGTH
    await rig.close()


async def test_a_short_part_is_taken_and_the_rest_asked_for() -> None:
    rig = rig_of()
    rig.upstream.then(URL, Act(ends_after_bytes=9500), Act(most_bytes=2500))
    assert await take_all(await rig.read()) == BODY
    assert rig.upstream.ranges[1:] == [f"bytes=9500-{LENGTH - 1}", f"bytes=12000-{LENGTH - 1}"]
    await rig.close()


# Digests.


def sha256(body: bytes) -> tuple[tuple[str, str], ...]:
    return (("sha-256", hashlib.sha256(body).hexdigest()),)


async def test_an_expected_digest_is_verified_and_kept() -> None:
    rig = rig_of(digests=sha256(BODY))
    assert await take_all(await rig.read()) == BODY
    entry = await rig.entry()
    assert entry is not None
    assert entry.digests == sha256(BODY)
    await rig.close()


async def test_a_wrong_digest_cuts_readers_short_is_not_kept_and_marks_the_mirror() -> None:
    health = RecordingMirrors()
    rig = rig_of(digests=sha256(b"else"), health=health)
    body = await rig.read()
    assert await take(body, LENGTH - 1) == BODY[:-1]
    with pytest.raises(UpstreamChanged):
        await take(body)
    await body.aclose()
    assert await settled(rig) is State.FAILED
    assert await rig.entry() is None
    assert (URL, None) in health.failures
    await rig.close()


async def test_the_last_bytes_of_a_part_do_not_wait_for_a_digest_of_the_whole() -> None:
    rig = rig_of(digests=sha256(BODY))
    tail = Interval(LENGTH - 100, LENGTH)
    assert await take_all(await rig.read(tail)) == BODY[tail.start :]
    assert await settled(rig) is State.STOPPED
    await rig.close()


async def test_a_whole_that_was_to_be_proved_is_not_claimed_before_it_is() -> None:
    rig = rig_of(digests=sha256(b"else"))
    body = await rig.read()
    await take(body, LENGTH - 1)
    await rig.flights.close()
    await body.aclose()
    entry = await rig.entry()
    assert entry is None or entry.coverage == (Interval(0, LENGTH - 1),)
    await rig.close()


# When the last reader leaves.


@pytest.mark.parametrize(
    ("policy", "ends"),
    [
        (SMALL, State.COMPLETE),
        (replace(SMALL, when_alone=WhenAlone.STOP), State.STOPPED),
        (replace(SMALL, when_alone=WhenAlone.FINISH_IF_NEAR, finish_bytes=1), State.STOPPED),
        (replace(SMALL, when_alone=WhenAlone.FINISH_IF_NEAR), State.COMPLETE),
        (
            replace(SMALL, when_alone=WhenAlone.FINISH_IF_NEAR, finish_bytes=1, finish_share=0.05),
            State.COMPLETE,
        ),
    ],
)
async def test_when_the_last_reader_leaves_the_policy_decides(
    policy: TransferPolicy, ends: State
) -> None:
    rig = rig_of(policy=policy)
    rig.upstream.choose = lambda _: SLOW
    body = await rig.read()
    await take(body, 3000)
    await body.aclose()
    assert await settled(rig) is ends
    entry = await rig.entry()
    assert entry is not None
    assert entry.complete is (ends is State.COMPLETE)
    assert entry.coverage[0].stop >= 3000
    await rig.close()


async def test_a_transfer_to_which_nobody_comes_stops_where_it_is_not_to_go_on_alone() -> None:
    rig = rig_of(policy=replace(SMALL, when_alone=WhenAlone.STOP, max_segments=1))
    rig.upstream.choose = lambda _: Act(pause_seconds=1)
    await rig.start()
    assert await settled(rig) is State.STOPPED
    await rig.close()


async def test_a_reader_that_comes_while_the_last_one_leaves_is_served() -> None:
    rig = rig_of(policy=replace(SMALL, when_alone=WhenAlone.STOP))
    rig.upstream.choose = lambda _: SLOW
    body = await rig.read()
    await take(body, 3000)
    await body.aclose()
    assert await take_all(await rig.read()) == BODY
    assert sum(part.length_bytes for part in rig.written["e1"]) == LENGTH
    await rig.close()


@pytest.mark.parametrize("digests", [(), (("sha-256", hashlib.sha256(BODY).hexdigest()),)])
async def test_what_came_while_a_part_was_noted_down_is_proved_and_kept_as_well(
    digests: tuple[tuple[str, str], ...],
) -> None:
    rig = rig_of(digests=digests)
    rig.store.faults.hold_checkpoints = asyncio.Event()
    assert await take_all(await rig.read(Interval(20_000, LENGTH))) == BODY[20_000:]
    await rig.store.faults.is_holding.wait()
    # The part is there and is being noted down. Who comes now has the rest before that is done.
    transfer = rig.transfers[-1]
    whole = await rig.read()
    got = bytearray()
    while len(got) < LENGTH - 1:
        got += await take(whole, 1)
    assert not transfer.is_over
    rig.store.faults.hold_checkpoints.set()
    assert got + await take_all(whole) == BODY
    assert await settled(rig) is State.COMPLETE
    entry = await rig.entry()
    assert entry is not None
    assert (len(rig.transfers), entry.complete, entry.digests) == (1, True, digests)
    await rig.close()


# Disk.


async def test_a_disk_that_fails_ends_the_transfer_at_once() -> None:
    rig = rig_of()
    rig.store.faults.fail_writes_after_bytes = 9000
    with pytest.raises(StoreError):
        await take_all(await rig.read())
    assert await settled(rig) is State.FAILED
    assert len(rig.upstream.asks) == 1
    await rig.close()


async def test_a_failure_of_the_very_last_write_is_not_taken_for_the_end() -> None:
    rig = rig_of()
    rig.store.faults.fail_writes_after_bytes = LENGTH - 1
    rig.upstream.then(URL, Act(pause_seconds=0.001))
    with pytest.raises(StoreError):
        await take_all(await rig.read())
    assert len(rig.upstream.asks) == 1
    await rig.close()


async def test_what_cannot_be_kept_is_read_to_the_end_all_the_same() -> None:
    rig = rig_of()
    rig.store.faults.fail_commits = rig.store.faults.fail_checkpoints = True
    assert await take_all(await rig.read()) == BODY
    await rig.close()


async def test_an_unknown_length_ends_where_the_body_does_and_a_break_is_an_error() -> None:
    rig = rig_of(Representation(BODY, declares_length=False))
    rig.upstream.then(URL, Act(ends_after_bytes=9500))
    with pytest.raises(UpstreamMisbehaved):
        await take_all(await rig.read())
    assert await take_all(await rig.read()) == BODY
    await settled(rig)
    entry = await rig.entry()
    assert entry is not None
    assert entry.length_bytes == LENGTH
    await rig.close()


# Segments that meet.


async def test_an_answer_is_measured_by_what_was_asked_not_by_what_is_left_to_bring() -> None:
    rig = rig_of()
    head, slow = Gate(), Gate()
    rig.upstream.then(URL, Act(gate=slow), Act(head_gate=head), Act())
    first = await rig.read()
    waiting = []
    for start in (8000, 16_000):
        reader = await rig.read(Interval(start, start + 500))
        waiting.append(asyncio.create_task(take_all(reader)))
        await asyncio.sleep(0.01)
    assert rig.upstream.ranges[1:] == [f"bytes={start}-{LENGTH - 1}" for start in (8000, 16_000)]
    head.open()
    assert await asyncio.gather(*waiting) == [BODY[8000:8500], BODY[16_000:16_500]]
    slow.open()
    assert await take_all(first) == BODY
    assert len(rig.upstream.asks) == 3
    assert sum(part.length_bytes for part in rig.written["e1"]) == LENGTH
    await rig.close()


async def test_a_connection_cut_short_for_another_that_is_refused_goes_on_to_its_end() -> None:
    rig = rig_of(policy=replace(SMALL, max_segments=2))
    rig.upstream.then(URL, SLOW, Act(status=429, retry_after="3"))
    assert await take_all(await rig.read()) == BODY
    assert len(rig.upstream.asks) == 2
    assert rig.upstream.responses[0].given_bytes == LENGTH
    await rig.close()


async def test_a_byte_that_nobody_can_bring_any_more_is_not_waited_for() -> None:
    rig = rig_of()
    rig.upstream.then(URL, Act(pause_seconds=60.0), Act(replaced=(("etag", '"v2"'),)))
    await rig.start(Interval(0, 10_000))
    far = await rig.read(Interval(20_000, 21_000))
    with pytest.raises(UpstreamChanged):
        await take_all(far)
    assert await settled(rig) is State.FAILED
    assert asyncio.get_running_loop().time() < 60
    await rig.close()
