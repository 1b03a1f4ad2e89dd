"""From request to reply: what is asked upstream, what is kept, and who gets what."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from forebay.errors import (
    LoopDetected,
    NotStored,
    Overloaded,
    StoreError,
    UpstreamMisbehaved,
    UpstreamUnreachable,
)
from forebay.model import Mount, Policy
from tests.service.scene import BODY, FRESH, HOST, STALE, Scene, read, read_some, until

OTHER = BODY[::-1]
PRIVATE = ("cache-control", "private")


# Misses and hits.


async def test_a_miss_is_stored_and_the_next_request_is_a_hit(scene: Scene) -> None:
    scene.add()
    miss = await scene.get()
    await scene.settled()
    scene.now += 7
    hit = await scene.get()
    assert miss.body == hit.body == BODY
    assert miss.cache == "forebay; fwd=uri-miss; fwd-status=200; stored"
    assert hit.cache == "forebay; hit; ttl=593"
    assert hit.field("age") == "7"
    assert len(scene.upstream.asks) == 1


async def test_a_herd_is_one_request(scene: Scene) -> None:
    scene.add()
    told = await asyncio.gather(*(scene.get() for _ in range(20)))
    assert all(one.body == BODY for one in told)
    assert len(scene.upstream.asks) == 1
    assert sum("collapsed" in one.cache for one in told) == 19


async def test_who_joins_a_running_transfer_is_told_so(scene: Scene) -> None:
    resource = scene.add(stall_at=100_000)
    first = await scene.open()
    await read_some(first, 100_000)
    late = await scene.open()
    resource.go_on.set()
    assert (await read(late)).body == BODY
    await read(first)
    assert late.fields.get("cache-status") == "forebay; fwd=partial; collapsed; ttl=600"


async def test_a_part_that_has_arrived_is_a_hit_while_the_rest_arrives(scene: Scene) -> None:
    resource = scene.add(stall_at=100_000)
    first = await scene.open()
    await read_some(first, 100_000)
    part = await scene.get("/f", "range: bytes=10-19")
    assert (part.status, part.body) == (206, BODY[10:20])
    assert "hit" in part.cache
    resource.go_on.set()
    await read(first)


async def test_a_head_of_what_is_arriving_needs_no_upstream(scene: Scene) -> None:
    resource = scene.add(stall_at=100_000)
    first = await scene.open()
    head = await scene.get(method="HEAD")
    assert (head.body, head.field("content-length")) == (b"", str(len(BODY)))
    assert len(scene.upstream.asks) == 1
    resource.go_on.set()
    await read(first)


async def test_a_range_of_an_object_of_unknown_length_is_answered_with_the_whole(
    scene: Scene,
) -> None:
    scene.add(chunked=True, ranges=False)
    told = await scene.get("/f", "range: bytes=5-9")
    assert (told.status, told.body, told.field("content-length")) == (200, BODY, None)
    await scene.settled()
    part = await scene.get("/f", "range: bytes=5-9")
    assert (part.status, part.body) == (206, BODY[5:10])


@pytest.mark.parametrize("line", ['if-none-match: "one"', "if-none-match: *"])
async def test_a_cold_conditional_request_fills_the_cache_and_gets_304(
    scene: Scene, line: str
) -> None:
    scene.add()
    told = await scene.get("/f", line)
    assert (told.status, told.body) == (304, b"")
    await scene.settled()
    assert (await scene.get()).body == BODY
    assert len(scene.upstream.asks) == 1


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("range: bytes=300000-", 416),
        ('if-match: "two"', 412),
        ("if-unmodified-since: Thu, 01 Jan 1970 00:00:00 GMT", 200),
    ],
)
async def test_conditions_and_ranges_are_answered_from_the_entry(
    scene: Scene, line: str, status: int
) -> None:
    scene.add()
    await scene.get()
    await scene.settled()
    told = await scene.get("/f", line)
    assert told.status == status
    assert len(scene.upstream.asks) == 1
    if status == 416:
        assert told.field("content-range") == f"bytes */{len(BODY)}"


# What the client forbids.


async def test_only_if_cached_of_nothing_is_504(scene: Scene) -> None:
    scene.add()
    with pytest.raises(NotStored):
        await scene.get("/f", "cache-control: only-if-cached")
    assert not scene.upstream.asks


async def test_only_if_cached_does_not_fetch_what_a_partial_entry_lacks(scene: Scene) -> None:
    scene.add()
    await scene.get("/f", "range: bytes=0-99")
    await scene.settled()
    told = await scene.get("/f", "range: bytes=0-9", "cache-control: only-if-cached")
    assert told.body == BODY[:10]
    with pytest.raises(NotStored):
        await scene.get("/f", "cache-control: only-if-cached")
    assert len(scene.upstream.asks) == 1


async def test_only_if_cached_does_not_wait_for_what_is_arriving(scene: Scene) -> None:
    resource = scene.add(stall_at=100_000)
    first = await scene.open()
    with pytest.raises(NotStored):
        await scene.get("/f", "cache-control: only-if-cached")
    resource.go_on.set()
    await read(first)


async def test_what_a_request_with_no_store_brings_is_never_kept(scene: Scene) -> None:
    scene.add()
    assert (await scene.get("/f", "cache-control: no-store")).body == BODY
    assert await scene.entries() == 0
    await scene.get("/f", "range: bytes=0-99")
    await scene.settled()
    whole = await scene.get("/f", "cache-control: no-store")
    assert whole.body == BODY
    assert "fwd=request" in whole.cache
    await scene.settled()
    assert (await scene.service.objects()).objects[0].covered_bytes == 100


async def test_a_request_that_comes_back_is_a_loop(scene: Scene) -> None:
    with pytest.raises(LoopDetected):
        await scene.get("/f", "via: 1.1 a, 1.1 forebay-test")


# Validation.


async def test_stale_answers_are_validated_by_one_request_for_all(scene: Scene) -> None:
    scene.add(headers=[STALE])
    await scene.get()
    await scene.settled()
    told = await asyncio.gather(*(scene.get() for _ in range(10)))
    assert all(one.body == BODY for one in told)
    assert "fwd=stale; fwd-status=304" in told[0].cache
    assert [ask.fields.get("if-none-match") for ask in scene.upstream.asks] == [None, '"one"']


async def test_a_304_brings_new_times_and_fields(scene: Scene) -> None:
    scene.add(headers=[("cache-control", "max-age=10"), ("x-a", "old")])
    await scene.get()
    await scene.settled()
    scene.now += 20
    scene.add(headers=[FRESH, ("x-a", "new")])
    assert (await scene.get()).field("x-a") == "new"
    hit = await scene.get()
    assert hit.cache == "forebay; hit; ttl=600"
    assert hit.field("x-a") == "new"
    assert len(scene.upstream.asks) == 2


async def test_a_304_that_forbids_storing_is_the_end_of_the_entry(scene: Scene) -> None:
    scene.add(headers=[STALE])
    await scene.get()
    await scene.settled()
    scene.add(headers=[PRIVATE])
    told = await scene.get()
    assert told.body == BODY
    assert "stored" not in told.cache
    assert await scene.entries() == 0


async def test_a_304_about_another_representation_is_not_believed(scene: Scene) -> None:
    scene.add(headers=[STALE])
    await scene.get()
    await scene.settled()
    honest = scene.add("/honest", body=OTHER, etag='"two"')
    scene.add(status=304, etag='"two"', change_after=1, changed=honest)
    told = await scene.get()
    assert (told.status, told.body) == (200, OTHER)


async def test_a_304_to_a_request_without_conditions_is_an_upstream_that_breaks_http(
    scene: Scene,
) -> None:
    scene.add(status=304)
    with pytest.raises(UpstreamMisbehaved):
        await scene.get()


async def test_the_same_bytes_in_a_200_are_left_unread(scene: Scene) -> None:
    scene.add(headers=[STALE])
    await scene.get()
    await scene.settled()
    sent = scene.upstream.body_bytes_sent
    # A server that has tags and knows no conditions.
    resource = scene.add(headers=[FRESH, ("x-a", "new")])
    resource.handler = None
    resource.etag = None
    resource.headers.append(("etag", '"one"'))
    told = await scene.get()
    assert told.body == BODY
    assert "fwd=stale; fwd-status=200" in told.cache
    assert told.field("x-a") == "new"
    await scene.settled()
    assert scene.upstream.body_bytes_sent == sent
    assert "hit" in (await scene.get()).cache


async def test_the_same_tag_with_another_length_or_coding_is_another_representation(
    scene: Scene,
) -> None:
    scene.add(headers=[STALE])
    await scene.get()
    await scene.settled()
    scene.add(body=OTHER[:1000], etag=None, headers=[FRESH, ("etag", '"one"')])
    assert (await scene.get()).body == OTHER[:1000]
    await scene.settled()


async def test_a_changed_file_replaces_the_entry_and_its_readers_finish(scene: Scene) -> None:
    scene.add(headers=[STALE])
    await scene.get()
    await scene.settled()
    old = await scene.open()
    scene.add(body=OTHER, etag='"two"')
    new = await scene.get()
    assert new.body == OTHER
    assert (await read(old)).body == BODY
    assert "hit" in (await scene.get()).cache


@pytest.mark.parametrize(("status", "stays"), [(404, 0), (403, 0), (429, 1), (503, 1)])
async def test_another_answer_in_its_place_ends_an_entry_and_a_servers_trouble_does_not(
    scene: Scene, status: int, stays: int
) -> None:
    scene.add(headers=[("cache-control", "max-age=0, must-revalidate")])
    await scene.get()
    await scene.settled()
    scene.add(status=status, body=b"no", etag=None, headers=[], ranges=False)
    told = await scene.get()
    assert (told.status, told.body) == (status, b"no")
    assert await scene.entries() == stays


async def test_a_partial_entry_that_is_stale_is_validated_and_then_completed(scene: Scene) -> None:
    scene.add(headers=[STALE])
    await scene.get("/f", "range: bytes=0-99999")
    await scene.settled()
    told = await scene.get()
    assert told.body == BODY
    assert [ask.fields.get("range") for ask in scene.upstream.asks] == [
        "bytes=0-99999",
        None,
        "bytes=100000-299999",
    ]
    assert scene.upstream.body_bytes_sent == len(BODY)


async def test_an_entry_purged_while_it_is_validated_is_fetched_anew(scene: Scene) -> None:
    scene.add(headers=[STALE])
    await scene.get()
    await scene.settled()
    hold = scene.upstream.hold(HOST + "/f")
    waiting = asyncio.create_task(scene.get())
    await until(lambda: len(scene.upstream.asks) == 2)
    await scene.service.purge_url(HOST + "/f")
    hold.set()
    assert (await waiting).body == BODY
    assert len(scene.upstream.asks) == 3


# Serving stale.


async def test_an_upstream_out_of_reach_does_not_keep_stale_answers_from_clients(
    scene: Scene,
) -> None:
    scene.add(headers=[STALE])
    await scene.get()
    await scene.settled()
    scene.upstream.errors[HOST + "/f"] = UpstreamUnreachable("The connection failed.")
    for method in ("GET", "HEAD"):
        told = await scene.get(method=method)
        assert told.status == 200
        assert "hit" in told.cache
        assert "stale: The connection failed." in told.cache


async def test_no_free_connection_is_as_good_as_no_upstream(scene: Scene) -> None:
    scene.add(headers=[STALE])
    await scene.get()
    await scene.settled()
    scene.upstream.errors[HOST + "/f"] = Overloaded("All connections are in use.")
    assert (await scene.get()).body == BODY


async def test_must_revalidate_forbids_stale_answers(scene: Scene) -> None:
    scene.add(headers=[("cache-control", "max-age=0, must-revalidate")])
    await scene.get()
    await scene.settled()
    scene.upstream.errors[HOST + "/f"] = UpstreamUnreachable("The connection failed.")
    for method in ("GET", "HEAD"):
        with pytest.raises(UpstreamUnreachable):
            await scene.get(method=method)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_stale_if_error_stands_in_for_a_failing_server(scene: Scene, method: str) -> None:
    scene.add(headers=[("cache-control", "max-age=0, stale-if-error=60")])
    await scene.get()
    await scene.settled()
    scene.add(status=503, body=b"no", etag=None, headers=[], ranges=False)
    told = await asyncio.gather(*(scene.get(method=method) for _ in range(3)))
    assert [one.status for one in told] == [200, 200, 200]
    assert "stale: upstream answered 503" in told[0].cache
    await scene.settled()
    scene.now += 61
    assert (await scene.get(method=method)).status == 503


async def test_the_wait_for_a_slow_upstream_is_short_and_only_once() -> None:
    scene = Scene(patience_seconds=0.02)
    scene.add(headers=[STALE])
    await scene.get()
    await scene.settled()
    hold = scene.upstream.hold(HOST + "/f")
    for _ in range(3):
        told = await scene.get()
        assert told.body == BODY
        assert "stale: upstream is slow" in told.cache
    assert (await scene.get(method="HEAD")).status == 200
    gets = [ask for ask in scene.upstream.asks if ask.method == "GET"]
    assert len(gets) == 2, "all wait for one and the same validation"
    scene.add(headers=[FRESH])
    hold.set()
    await asyncio.sleep(0.01)
    await scene.settled()
    assert "hit; ttl=600" in (await scene.get()).cache, "the validation went on behind"
    await scene.close()


SWR = ("cache-control", "max-age=0, stale-while-revalidate=60")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_stale_while_revalidate_answers_at_once_and_asks_behind(
    scene: Scene, method: str
) -> None:
    scene.add(headers=[SWR])
    await scene.get()
    await scene.settled()
    scene.now += 5
    scene.add(body=OTHER, etag='"two"')
    told = await scene.get(method=method)
    assert told.field("etag") == '"one"'
    assert told.cache == "forebay; hit; ttl=-5; detail=stale"
    await asyncio.sleep(0.01)
    await scene.settled()
    assert (await scene.get()).body == OTHER
    assert len(scene.upstream.asks) == 2


async def test_credentials_of_whom_nobody_asked_upstream_do_not_end_a_shared_entry(
    scene: Scene,
) -> None:
    scene.add(headers=[SWR])
    await scene.get()
    await scene.settled()
    scene.now += 5
    scene.add(body=OTHER, etag='"two"')
    await scene.get("/f", "authorization: Basic eDp5")
    await asyncio.sleep(0.01)
    await scene.settled()
    assert "authorization" not in scene.upstream.fields_of(1)
    assert (await scene.get()).body == OTHER
    assert len(scene.upstream.asks) == 2


async def test_what_comes_behind_and_may_not_be_kept_ends_the_entry_and_is_let_go(
    scene: Scene,
) -> None:
    scene.add(headers=[SWR])
    await scene.get()
    await scene.settled()
    scene.now += 5
    scene.add(body=OTHER, etag='"two"', headers=[PRIVATE])
    assert (await scene.get()).body == BODY
    await asyncio.sleep(0.01)
    await scene.settled()
    assert await scene.entries() == 0
    assert scene.upstream.body_bytes_sent == len(BODY)


# HEAD as validation (RFC 9111 §4.3.5).


async def test_a_head_that_agrees_renews_the_entry_with_upstreams_fields_only(scene: Scene) -> None:
    scene.add(headers=[STALE])
    await scene.get()
    await scene.settled()
    scene.add(headers=[FRESH])
    assert "fwd=stale" in (await scene.get(method="HEAD")).cache
    hit = await scene.get()
    assert hit.cache == "forebay; hit; ttl=600"
    assert hit.reply.fields.get_all("cache-status") == (hit.cache,)
    assert hit.field("via") == "1.1 forebay"


@pytest.mark.parametrize(
    "script",
    [{"etag": '"two"'}, {"body": BODY[:10]}, {"headers": [("cache-control", "no-store")]}],
)
async def test_a_head_that_disagrees_ends_the_entry(scene: Scene, script: dict[str, Any]) -> None:
    scene.add(headers=[STALE])
    await scene.get()
    await scene.settled()
    scene.add(**script)
    await scene.get(method="HEAD")
    assert await scene.entries() == 0


async def test_a_head_with_credentials_says_nothing_of_the_shared_entry(scene: Scene) -> None:
    scene.add(headers=[STALE])
    await scene.get()
    await scene.settled()
    scene.add(etag='"two"')
    await scene.get("/f", "authorization: Basic eDp5", method="HEAD")
    assert await scene.entries() == 1


# What is not shared.


async def test_who_waited_for_something_private_asks_for_himself(scene: Scene) -> None:
    scene.add(headers=[PRIVATE])
    told = await asyncio.gather(*(scene.get() for _ in range(5)))
    assert all(one.body == BODY and one.error is None for one in told)
    assert len(scene.upstream.asks) == 5
    await scene.settled()
    assert (await scene.get()).cache == (
        'forebay; fwd=uri-miss; fwd-status=200; detail="not shareable"'
    )


async def test_an_error_does_not_make_a_target_unshareable(scene: Scene) -> None:
    assert (await scene.get()).status == 404
    scene.add()
    assert "stored" in (await scene.get()).cache


async def test_what_became_shareable_is_shared_again_after_a_while(scene: Scene) -> None:
    scene.add(headers=[PRIVATE])
    await scene.get()
    scene.add()
    assert "stored" not in (await scene.get()).cache
    scene.now += 31
    assert "stored" in (await scene.get()).cache


async def test_a_request_with_credentials_passes_alone(scene: Scene) -> None:
    scene.add(headers=[STALE])
    await scene.get("/f", "authorization: Basic eDp5")
    assert scene.upstream.fields_of(0).get("authorization") == "Basic eDp5"
    assert await scene.entries() == 0
    await scene.get()
    await scene.settled()
    told = await scene.get("/f", "authorization: Basic eDp5")
    assert scene.upstream.fields_of(2).get("authorization") == "Basic eDp5"
    assert "not shareable" in told.cache


async def test_conditions_of_a_client_are_not_lost_on_what_is_private(scene: Scene) -> None:
    scene.add(headers=[PRIVATE])
    told = await scene.get("/f", 'if-none-match: "one"')
    assert (told.status, told.body) == (304, b"")
    assert scene.upstream.fields_of(1).get("if-none-match") == '"one"'


async def test_several_ranges_are_not_answered_with_the_first_alone(scene: Scene) -> None:
    scene.add(headers=[PRIVATE])
    told = await scene.get("/f", "range: bytes=5-9, 20-29")
    assert scene.upstream.fields_of(0).get("range") == "bytes=5-9"
    assert scene.upstream.fields_of(1).get("range") == "bytes=5-9, 20-29"
    assert (told.status, told.body) == (200, BODY), "the origin has no multipart"


async def test_a_cold_range_of_something_private_is_asked_for_once(scene: Scene) -> None:
    scene.add(headers=[PRIVATE])
    told = await scene.get("/f", "range: bytes=5-9")
    assert (told.status, told.body) == (206, BODY[5:10])
    assert len(scene.upstream.asks) == 1


async def test_an_if_range_that_does_not_hold_gets_the_whole(scene: Scene) -> None:
    scene.add(etag='W/"weak"')
    told = await scene.get("/f", "range: bytes=5-9", 'if-range: "old"')
    assert (told.status, told.body) == (200, BODY)


async def test_the_leaders_impossible_range_is_not_the_others_answer(scene: Scene) -> None:
    scene.add()
    beyond = asyncio.create_task(scene.get("/f", "range: bytes=999999-"))
    await asyncio.sleep(0)
    whole = await scene.get()
    assert (await beyond).status == 416
    assert whole.body == BODY
    assert "stored" in whole.cache


# Variants.


async def test_who_joined_a_flight_that_brought_another_variant_gets_his_own(scene: Scene) -> None:
    scene.add(headers=[FRESH, ("vary", "x-kind")])
    told = await asyncio.gather(
        scene.get("/f", "x-kind: a"), scene.get("/f", "x-kind: b"), scene.get("/f", "x-kind: a")
    )
    assert all(one.body == BODY for one in told)
    assert len(scene.upstream.asks) == 2
    await scene.settled()
    assert await scene.entries() == 2
    assert "vary-miss" in (await scene.get("/f", "x-kind: c")).cache


async def test_different_accept_fields_are_different_entries(scene: Scene) -> None:
    scene.add()
    await scene.get("/f", "accept: text/html")
    await scene.settled()
    other = await scene.get("/f", "accept: application/json")
    assert "hit" not in other.cache
    await scene.settled()
    assert "hit" in (await scene.get("/f", "accept: text/html")).cache


async def test_a_moving_target_is_passed_straight_through(scene: Scene) -> None:
    class Forgetful(type(scene.store)):  # type: ignore[misc]
        """Confirms nothing: every refresh finds the entry gone, and every look-up finds it."""

        async def refresh(self, entry: object) -> bool:
            return False

    scene.store.__class__ = Forgetful
    scene.add(headers=[STALE])
    await scene.get()
    await scene.settled()
    told = await scene.get()
    assert told.body == BODY
    assert told.cache.startswith("forebay; fwd=bypass; fwd-status=200; detail=")
    assert "changed at every look" in told.cache


# Errors and negative answers.


async def test_a_404_is_kept_for_as_long_as_the_mount_says() -> None:
    scene = Scene(Mount(name="url", prefix="/", policy=Policy(negative_ttl_seconds=10)))
    scene.add(status=404, body=b"none", etag=None, headers=[], ranges=False)
    await scene.get()
    await scene.settled()
    assert "hit" in (await scene.get()).cache
    scene.now += 11
    scene.add()
    assert (await scene.get()).body == BODY
    await scene.close()


async def test_an_error_reaches_everybody_who_waits(scene: Scene) -> None:
    scene.upstream.errors[HOST + "/f"] = UpstreamUnreachable("The connection failed.")
    told = await asyncio.gather(*(scene.get() for _ in range(3)), return_exceptions=True)
    assert all(isinstance(one, UpstreamUnreachable) for one in told)
    assert len(scene.upstream.asks) == 1


async def test_the_rest_of_a_partial_entry_that_is_gone_upstream_is_upstreams_answer(
    scene: Scene,
) -> None:
    scene.add()
    await scene.get("/f", "range: bytes=0-99")
    await scene.settled()
    scene.add(status=404, body=b"gone", etag=None, headers=[], ranges=False)
    told = await scene.get()
    assert (told.status, told.body) == (404, b"gone")
    assert await scene.entries() == 0


async def test_a_partial_entry_outlives_an_upstream_that_is_busy(scene: Scene) -> None:
    scene.add()
    await scene.get("/f", "range: bytes=0-99")
    await scene.settled()
    scene.add(status=503, body=b"busy", etag=None, headers=[], ranges=False)
    told = await scene.get()
    assert (told.status, told.body) == (503, b"busy")
    assert await scene.entries() == 1
    assert (await scene.get("/f", "range: bytes=0-9")).body == BODY[:10]


@pytest.mark.parametrize("script", [{"etag": '"two"'}, {"etag": '"two"', "ranges": False}])
async def test_a_partial_entry_of_what_has_changed_is_replaced(
    scene: Scene, script: dict[str, Any]
) -> None:
    scene.add()
    await scene.get("/f", "range: bytes=0-99")
    await scene.settled()
    scene.add(body=OTHER, **script)
    told = await scene.get()
    assert (told.status, told.body) == (200, OTHER)
    await scene.settled()
    assert await scene.entries() == 1


async def test_a_part_that_turns_out_private_ends_the_entry(scene: Scene) -> None:
    scene.add()
    await scene.get("/f", "range: bytes=0-99")
    await scene.settled()
    scene.add(headers=[PRIVATE])
    assert (await scene.get()).body == BODY
    await scene.settled()
    assert await scene.entries() == 0


async def test_a_rest_that_nothing_can_be_joined_to_is_replaced(scene: Scene) -> None:
    scene.add(etag='W/"weak"', stall_at=1000)
    first = await scene.open()
    await read_some(first, 1000)
    await scene.service.close()
    assert isinstance((await read(first)).error, UpstreamMisbehaved | UpstreamUnreachable)
    scene.add(etag='W/"weak"')
    assert (await scene.get()).body == BODY
    await scene.settled()
    assert await scene.entries() == 1


async def test_who_comes_as_a_transfer_ends_looks_at_what_it_left(scene: Scene) -> None:
    resource = scene.add(stall_at=1000)
    first = await scene.open()
    await read_some(first, 1000)
    [transfer] = scene.service._fetcher.transfers.values()
    resource.go_on.set()
    await until(lambda: transfer.is_over)
    assert (await scene.get()).body == BODY
    await read(first)


async def test_trouble_with_the_index_is_no_trouble_for_who_validates(scene: Scene) -> None:
    class Sick(type(scene.store)):  # type: ignore[misc]
        async def refresh(self, entry: object) -> bool:
            raise StoreError("The index refuses.")

    scene.add(headers=[STALE])
    await scene.get()
    await scene.settled()
    scene.store.__class__ = Sick
    told = await scene.get()
    assert told.body == BODY
    assert "fwd-status=304" in told.cache


async def test_a_look_up_that_the_commit_has_overtaken_is_made_again(scene: Scene) -> None:
    scene.add(etag=None)
    scene.store.faults.hold_commits = asyncio.Event()
    first = await read(await scene.open())
    scene.store.faults.hold_finds = asyncio.Event()
    asking = asyncio.create_task(scene.get())
    for _ in range(20):
        await asyncio.sleep(0)
    scene.store.faults.hold_commits.set()
    await scene.settled()
    scene.store.faults.hold_finds.set()
    second = await asking
    assert first.body == second.body == BODY
    assert second.cache.startswith("forebay; hit")
    assert len(scene.upstream.asks) == 1
