"""The main job over real sockets: stream, tee, hit, range, revalidate, purge."""

from __future__ import annotations

import asyncio
import random

from tests.fakes.origin import Origin
from tests.live.running import Running
from tests.patience import PATIENCE_SECONDS

BODY = random.Random(1).randbytes(3_000_000)
MAX_AGE = ("cache-control", "max-age=600")


async def test_the_second_request_comes_from_disk(forebay: Running, origin: Origin) -> None:
    origin.add("/f", body=BODY, etag='"one"', headers=[MAX_AGE])
    first = await forebay.fetch("/f")
    second = await forebay.fetch("/f")
    assert first.body == second.body == BODY
    assert first.fields["content-length"] == second.fields["content-length"] == str(len(BODY))
    assert "fwd=uri-miss" in first.cache_status
    assert "stored" in first.cache_status
    assert "hit" in second.cache_status
    assert second.fields["etag"] == '"one"'
    assert int(second.fields["age"]) >= 0
    assert len(origin.requests) == 1


async def test_an_entry_is_found_before_its_last_byte_has_left(
    forebay: Running, origin: Origin
) -> None:
    origin.add("/f", body=BODY, etag='"one"', headers=[MAX_AGE])
    for _ in range(5):
        await forebay.fetch("/f")
    assert len(origin.requests) == 1


async def test_the_first_byte_comes_before_the_last_is_sent(
    forebay: Running, origin: Origin
) -> None:
    resource = origin.add("/f", body=BODY, etag='"one"', stall_at=100_000, headers=[MAX_AGE])
    download = await forebay.start(forebay.path("/f"))
    assert await download.read_until(100_000) == BODY[:100_000]
    resource.go_on.set()
    assert await download.read_until(len(BODY)) == BODY


async def test_many_clients_cause_one_upstream_body(forebay: Running, origin: Origin) -> None:
    origin.add("/f", body=BODY, etag='"one"', pace_bytes_per_second=20e6, headers=[MAX_AGE])
    answers = await asyncio.gather(*(forebay.fetch("/f") for _ in range(20)))
    assert all(answer.body == BODY for answer in answers)
    assert origin.body_bytes_sent == len(BODY)


async def test_who_comes_late_reads_the_growing_file_from_its_beginning(
    forebay: Running, origin: Origin
) -> None:
    resource = origin.add("/f", body=BODY, etag='"one"', stall_at=1_000_000, headers=[MAX_AGE])
    first = await forebay.start(forebay.path("/f"))
    await first.read_until(900_000)
    late = await forebay.start(forebay.path("/f"))
    assert await late.read_until(1_000_000) == BODY[:1_000_000]
    assert "collapsed" in late.fields["cache-status"]
    resource.go_on.set()
    assert await late.read_until(len(BODY)) == BODY
    assert await first.read_until(len(BODY)) == BODY
    assert len(origin.requests) == 1


async def test_a_client_that_leaves_or_stands_still_harms_nobody(
    forebay: Running, origin: Origin
) -> None:
    resource = origin.add("/f", body=BODY, etag='"one"', stall_at=200_000, headers=[MAX_AGE])
    leaving = await forebay.start(forebay.path("/f"))
    standing = await forebay.start(forebay.path("/f"))
    await leaving.read_until(1000)
    leaving.leave()
    resource.go_on.set()
    assert (await forebay.fetch("/f")).body == BODY
    assert len(origin.requests) == 1
    assert await standing.read_until(len(BODY)) == BODY
    standing.leave()


async def test_the_fill_goes_on_when_the_only_client_leaves(
    forebay: Running, origin: Origin
) -> None:
    resource = origin.add("/f", body=BODY, etag='"one"', stall_at=200_000, headers=[MAX_AGE])
    client = await forebay.start(forebay.path("/f"))
    client.leave()
    resource.go_on.set()
    await origin.wait_for_body_bytes(len(BODY))
    assert (await forebay.fetch("/f")).body == BODY
    assert len(origin.requests) == 1


async def test_a_range_of_a_complete_entry_and_one_beyond_its_end(
    forebay: Running, origin: Origin
) -> None:
    origin.add("/f", body=BODY, etag='"one"', headers=[MAX_AGE])
    await forebay.fetch("/f")
    part = await forebay.fetch("/f", "Range: bytes=1000-1999")
    assert (part.status, part.body) == (206, BODY[1000:2000])
    assert part.fields["content-range"] == f"bytes 1000-1999/{len(BODY)}"
    tail = await forebay.fetch("/f", "Range: bytes=-500")
    assert (tail.status, tail.body) == (206, BODY[-500:])
    beyond = await forebay.fetch("/f", f"Range: bytes={len(BODY)}-")
    assert beyond.status == 416
    assert beyond.fields["content-range"] == f"bytes */{len(BODY)}"
    assert len(origin.requests) == 1


async def test_several_ranges_come_as_multipart(forebay: Running, origin: Origin) -> None:
    origin.add("/f", body=BODY, etag='"one"', headers=[MAX_AGE])
    await forebay.fetch("/f")
    answer = await forebay.fetch("/f", "Range: bytes=0-9,1000-1009")
    assert answer.status == 206
    assert answer.whole
    assert answer.fields["content-type"].startswith("multipart/byteranges; boundary=")
    assert BODY[:10] in answer.body
    assert BODY[1000:1010] in answer.body


async def test_a_range_of_what_is_still_arriving(forebay: Running, origin: Origin) -> None:
    resource = origin.add(
        "/f", body=BODY, etag='"one"', stall_at=500_000, ranges=False, headers=[MAX_AGE]
    )
    first = await forebay.start(forebay.path("/f"))
    part = await forebay.fetch("/f", "Range: bytes=100-199")
    assert (part.status, part.body) == (206, BODY[100:200])
    waiting = asyncio.create_task(forebay.fetch("/f", "Range: bytes=2000000-2000099"))
    resource.go_on.set()
    assert (await waiting).body == BODY[2_000_000:2_000_100]
    assert await first.read_until(len(BODY)) == BODY
    assert len(origin.requests) == 1


async def test_a_cold_range_costs_what_it_brings_and_stays(
    forebay: Running, origin: Origin
) -> None:
    origin.add("/f", body=BODY, etag='"one"', headers=[MAX_AGE])
    part = await forebay.fetch("/f", "Range: bytes=2000000-2000999")
    assert (part.status, part.body) == (206, BODY[2_000_000:2_001_000])
    assert origin.body_bytes_sent == 1000
    again = await forebay.fetch("/f", "Range: bytes=2000100-2000199")
    assert again.body == BODY[2_000_100:2_000_200]
    assert "hit" in again.cache_status
    whole = await forebay.fetch("/f")
    assert whole.body == BODY
    assert origin.body_bytes_sent == len(BODY)


async def test_a_stale_entry_is_revalidated_by_one_conditional_request(
    forebay: Running, origin: Origin
) -> None:
    origin.add("/f", body=BODY, etag='"one"', headers=[("cache-control", "max-age=0")])
    await forebay.fetch("/f")
    answers = await asyncio.gather(*(forebay.fetch("/f") for _ in range(5)))
    assert all(answer.body == BODY for answer in answers)
    assert origin.body_bytes_sent == len(BODY)
    assert all(r.fields.get("if-none-match") == '"one"' for r in origin.requests[1:])
    assert "fwd=stale" in answers[0].cache_status
    assert "fwd-status=304" in answers[0].cache_status


async def test_a_changed_file_replaces_the_stale_one(forebay: Running, origin: Origin) -> None:
    origin.add("/f", body=BODY, etag='"one"', headers=[("cache-control", "max-age=0")])
    await forebay.fetch("/f")
    origin.add("/f", body=BODY[::-1], etag='"two"', headers=[("cache-control", "max-age=60")])
    assert (await forebay.fetch("/f")).body == BODY[::-1]
    hit = await forebay.fetch("/f")
    assert hit.body == BODY[::-1]
    assert "hit" in hit.cache_status


async def test_a_client_that_has_it_gets_304(forebay: Running, origin: Origin) -> None:
    origin.add("/f", body=BODY, etag='"one"', headers=[MAX_AGE])
    await forebay.fetch("/f")
    answer = await forebay.fetch("/f", 'If-None-Match: "one"')
    assert answer.status == 304
    assert answer.fields["etag"] == '"one"'


async def test_what_is_private_is_passed_on_and_never_shared(
    forebay: Running, origin: Origin
) -> None:
    origin.add("/f", body=b"mine", headers=[("cache-control", "private")])
    origin.add("/c", body=b"cookie", headers=[("set-cookie", "a=b"), MAX_AGE])
    origin.add("/n", body=b"no-store", headers=[("cache-control", "no-store")])
    for path, body in (("/f", b"mine"), ("/c", b"cookie"), ("/n", b"no-store")):
        for _ in range(2):
            answer = await forebay.fetch(path)
            assert answer.body == body
            assert "stored" not in answer.cache_status
            assert "hit" not in answer.cache_status
        assert len(origin.requests_for(path)) == 2


async def test_a_herd_on_something_private_is_served_and_not_mixed_up(
    forebay: Running, origin: Origin
) -> None:
    origin.add("/f", body=BODY, head_delay_seconds=0.05, headers=[("cache-control", "private")])
    answers = await asyncio.gather(*(forebay.fetch("/f") for _ in range(8)))
    assert all(answer.body == BODY and answer.whole for answer in answers)
    assert len(origin.requests) == 8


async def test_an_answer_to_credentials_is_not_given_to_others(
    forebay: Running, origin: Origin
) -> None:
    origin.add("/f", body=b"secret", headers=[MAX_AGE])
    await forebay.fetch("/f", "Authorization: Basic eDp5")
    await forebay.fetch("/f")
    assert len(origin.requests) == 2


async def test_head_is_answered_without_a_body_from_upstream_or_disk(
    forebay: Running, origin: Origin
) -> None:
    origin.add("/f", body=BODY, etag='"one"', headers=[MAX_AGE])
    cold = await forebay.fetch("/f", method="HEAD")
    assert cold.fields["content-length"] == str(len(BODY))
    assert origin.body_bytes_sent == 0
    await forebay.fetch("/f")
    warm = await forebay.fetch("/f", method="HEAD")
    assert warm.fields["content-length"] == str(len(BODY))
    assert "hit" in warm.cache_status
    assert len(origin.requests) == 2


async def test_a_body_cut_short_breaks_for_the_client_and_is_no_entry(
    forebay: Running, origin: Origin
) -> None:
    origin.add("/f", body=BODY, ranges=False, truncate_at=1000, headers=[MAX_AGE])
    answer = await forebay.fetch("/f")
    assert not answer.whole
    assert answer.body == BODY[:1000]
    origin.add("/f", body=BODY, headers=[MAX_AGE])
    assert (await forebay.fetch("/f")).body == BODY


async def test_a_chunked_body_without_its_end_is_no_entry(forebay: Running, origin: Origin) -> None:
    origin.add("/f", body=BODY, chunked=True, truncate_at=1000, headers=[MAX_AGE])
    assert not (await forebay.fetch("/f")).whole
    origin.add("/f", body=BODY, chunked=True, headers=[MAX_AGE])
    first = await forebay.fetch("/f")
    assert (first.body, first.whole) == (BODY, True)
    hit = await forebay.fetch("/f")
    assert hit.body == BODY
    assert hit.fields["content-length"] == str(len(BODY))
    assert "hit" in hit.cache_status


async def test_a_body_that_ends_with_the_connection_is_never_kept(
    forebay: Running, origin: Origin
) -> None:
    origin.add("/f", body=BODY, content_length=False, headers=[MAX_AGE])
    for _ in range(2):
        assert (await forebay.fetch("/f")).body == BODY
    assert len(origin.requests) == 2


async def test_an_upstream_that_breaks_off_costs_only_what_is_missing(
    forebay: Running, origin: Origin
) -> None:
    origin.add(
        "/f", body=BODY, etag='"one"', truncate_at=1_000_000, fault_times=2, headers=[MAX_AGE]
    )
    answer = await forebay.fetch("/f")
    assert (answer.body, answer.whole) == (BODY, True)
    assert origin.body_bytes_sent == len(BODY)
    assert [r.fields.get("if-range") for r in origin.requests] == [None, '"one"', '"one"']


async def test_a_file_that_changes_in_mid_body_is_cut_never_spliced(
    forebay: Running, origin: Origin
) -> None:
    resource = origin.add(
        "/f", body=BODY, etag='"one"', truncate_at=1_000_000, headers=[MAX_AGE], change_after=1
    )
    other = random.Random(2).randbytes(len(BODY))
    resource.changed = origin.add("/other", body=other, etag='"two"', headers=[MAX_AGE])
    old = await forebay.fetch("/f")
    assert not old.whole
    assert old.body == BODY[: len(old.body)]
    new = await forebay.fetch("/f")
    assert (new.body, new.whole) == (other, True)


async def test_redirects_are_followed_inside(forebay: Running, origin: Origin) -> None:
    origin.add("/a", redirect_to="/b")
    origin.add("/b", body=BODY, etag='"one"', headers=[MAX_AGE])
    assert (await forebay.fetch("/a")).body == BODY
    assert "hit" in (await forebay.fetch("/a")).cache_status
    assert len(origin.requests) == 2


async def test_a_404_passes_with_its_body(forebay: Running, origin: Origin) -> None:
    answer = await forebay.fetch("/nothing")
    assert answer.status == 404


async def test_an_unsafe_method_passes_with_its_body_and_makes_the_entry_invalid(
    forebay: Running, origin: Origin
) -> None:
    origin.add("/f", body=BODY, etag='"one"', headers=[MAX_AGE])
    await forebay.fetch("/f")
    posted = await forebay.get(forebay.path("/f"), method="POST", body=b"change it")
    assert posted.status == 200
    assert origin.requests[-1].method == "POST"
    again = await forebay.fetch("/f")
    assert "hit" not in again.cache_status


async def test_upstream_connections_are_released_on_every_way_out(
    forebay: Running, origin: Origin
) -> None:
    origin.add("/ok", body=BODY, headers=[MAX_AGE])
    origin.add("/cut", body=BODY, ranges=False, truncate_at=1000)
    slow = origin.add("/slow", body=BODY, stall_at=1000, headers=[("cache-control", "no-store")])
    await forebay.fetch("/ok")
    await forebay.fetch("/cut")
    client = await forebay.start(forebay.path("/slow"))
    await client.read_until(500)
    client.leave()
    slow.go_on.set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        # One may be kept for the next request.
        while origin.open_connections > 1:  # noqa: ASYNC110 - counted, not told
            await asyncio.sleep(0.01)
