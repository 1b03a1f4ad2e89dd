"""Digests that upstream tells are proved before the end, and told to clients (RFC 9530)."""

from __future__ import annotations

import base64
import hashlib

from tests.fakes.origin import Origin
from tests.live.running import Running

BODY = b"the very bytes " * 10_000
MAX_AGE = ("cache-control", "max-age=600")
TRUE = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
FALSE = base64.b64encode(hashlib.sha256(b"others").digest()).decode()


async def test_what_does_not_match_upstreams_own_digest_ends_short_and_is_not_kept(
    forebay: Running, origin: Origin
) -> None:
    origin.add("/f", body=BODY, etag='"1"', headers=[MAX_AGE, ("digest", f"sha-256={FALSE}")])
    answer = await forebay.fetch("/f")
    assert not answer.whole
    origin.add("/f", body=BODY, etag='"1"', headers=[MAX_AGE, ("digest", f"sha-256={TRUE}")])
    answer = await forebay.fetch("/f")
    assert (answer.whole, answer.body) == (True, BODY)
    assert "hit" not in answer.cache_status


async def test_a_hit_tells_the_digest_that_was_proved(forebay: Running, origin: Origin) -> None:
    origin.add("/f", body=BODY, etag='"1"', headers=[MAX_AGE, ("digest", f"SHA-256={TRUE}")])
    await forebay.fetch("/f")
    for lines in ((), ("Range: bytes=0-9",)):
        hit = await forebay.fetch("/f", *lines)
        assert "hit" in hit.cache_status
        assert hit.fields["repr-digest"] == f"sha-256=:{TRUE}:"
