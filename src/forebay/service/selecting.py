"""Which of the stored responses under one key answers a request (RFC 9111 §4.1), by Vary, by the
fields that go upstream, and by the digests that are expected."""

from __future__ import annotations

from collections.abc import Iterable

from forebay.model import Entry, Head, Request, Target
from forebay.rules.digest_fields import Digests, claimed_by
from forebay.rules.targets import variant_without_digests
from forebay.rules.vary import select_variant
from forebay.service.landings import VARIANT


def selected(request: Request, target: Target, entries: Iterable[Entry]) -> Entry | None:
    """The entry that this request selects among those under its target's key.

    What was asked for with the same expected digests, or like it without any, goes first. Where
    there is none, a whole entry serves that was asked for with others, if its bytes, by digests
    that we have computed, are what this target is held to.
    """
    found = tuple(entries)
    own = [one for one in found if _variant(one) == target.variant]
    entry = select_variant(request, own, target.mount.policy)
    if entry is not None or len(own) == len(found):
        return entry
    others = [one for one in found if _variant(one) != target.variant and _serves(one, target)]
    return select_variant(request, others, target.mount.policy)


def expected_digests(target: Target, head: Head) -> Digests:
    """What the whole must come to, by the client's word and by upstream's own (RFC 9530 §3)."""
    claimed = claimed_by(head, target.mount.transfer.upstream_digests)
    return tuple(sorted({**dict(claimed), **dict(target.expected_digests)}.items()))


def _serves(entry: Entry, target: Target) -> bool:
    """Whether the entry, stored for who expects other digests, has passed every check that this
    target asks for. A checksum file is asked only where no digest is expected."""
    if not entry.complete or entry.head.status != 200:
        return False
    if variant_without_digests(_variant(entry)) != variant_without_digests(target.variant):
        return False
    if target.mount.checksums and not target.expected_digests:
        return False
    return set(expected_digests(target, entry.head)) <= set(entry.digests)


def _variant(entry: Entry) -> str:
    return dict(entry.vary).get(VARIANT, "")
