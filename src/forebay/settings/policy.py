"""``[defaults]``, and the keys that it and every mount may set: what is kept, how long, for whom.

A key that a mount sets goes before ``[defaults]``, which goes before what ``forebay.model``
says; each key is one attribute of ``model.Policy``, ``model.TransferPolicy`` or ``model.Mount``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field, PlainSerializer, model_validator

from forebay.model import Policy, Share, TransferPolicy, UpstreamDigests, WhenAlone
from forebay.settings.access import ClientKeys
from forebay.settings.kinds import (
    ChecksumPattern,
    Duration,
    FieldName,
    ForwardedField,
    Listed,
    OptionalDuration,
    OptionalSize,
    Pattern,
    Size,
)

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


_POLICY_KEYS = {
    "ttl": "default_ttl_seconds",
    "force_ttl": "force_ttl_seconds",
    "immutable": "immutable_patterns",
    "ttl_patterns": "ttl_patterns",
    "heuristic_fraction": "heuristic_fraction",
    "heuristic_max": "heuristic_max_seconds",
    "negative_ttl": "negative_ttl_seconds",
    "stale_if_error": "stale_if_error_seconds",
    "stale_while_revalidate": "stale_while_revalidate_seconds",
    "ignore_vary": "ignore_vary",
    "ignore_cache_control": "ignore_cache_control",
    "obey_targeted": "obey_targeted",
    "drop_query": "drop_query",
}
_TRANSFER_KEYS = {
    "max_segments": "max_segments",
    "min_segment": "min_segment_bytes",
    "read_ahead": "read_ahead_bytes",
    "complete_ranges": "complete_ranges",
    "when_alone": "when_alone",
    "finish_share": "finish_share",
    "finish_bytes": "finish_bytes",
    "max_tries": "max_tries",
    "max_object_size": "max_object_bytes",
    "refuse_larger": "refuse_larger",
    "identity": "identity",
    "upstream_digests": "upstream_digests",
}
_MOUNT_KEYS = {
    "forward": "forward",
    "checksums": "checksums",
    "share": "share",
    "verify_ttl": "verify_seconds",
}
_MODEL_POLICY = Policy()
_MODEL_TRANSFER = TransferPolicy()


class PolicyKeys(ClientKeys):
    """Keys that `[defaults]` and each mount may set; a mount's own go first."""

    ttl: OptionalDuration = _MODEL_POLICY.default_ttl_seconds
    """How long an answer is fresh when its upstream does not say. `none` leaves it to a tenth
    of its age, as RFC 9111 suggests."""

    force_ttl: OptionalDuration = _MODEL_POLICY.force_ttl_seconds
    """How long an answer is fresh whatever its upstream says; its `no-store`, `private` and
    `Set-Cookie` still count. `none` follows the upstream."""

    immutable: Annotated[tuple[Pattern, ...], Listed] = _MODEL_POLICY.immutable_patterns
    """Regular expressions over path and query below the mount; what one of them matches in full
    never goes stale."""

    ttl_patterns: tuple[tuple[Pattern, Duration], ...] = _MODEL_POLICY.ttl_patterns
    """Pairs of a regular expression and a duration; the first that matches path and query in
    full says how long the answer is fresh."""

    heuristic_fraction: Fraction = _MODEL_POLICY.heuristic_fraction
    """The share of an answer's age since Last-Modified for which it counts as fresh when nobody
    says. (RFC 9111 §4.2.2 names 10 %, Squid uses 20 %.)"""

    heuristic_max: Duration = _MODEL_POLICY.heuristic_max_seconds
    """The most that the guess above may come to. (Squid 3 days, Varnish 2 minutes for all.)"""

    negative_ttl: Duration = _MODEL_POLICY.negative_ttl_seconds
    """How long a 404 or 410 without a lifetime of its own is kept; `0s` keeps none. (Squid 0,
    nginx none unless told.)"""

    stale_if_error: Duration = _MODEL_POLICY.stale_if_error_seconds
    """For how long after its time an answer may still be given while the upstream is broken."""

    stale_while_revalidate: Duration = _MODEL_POLICY.stale_while_revalidate_seconds
    """For how long after its time an answer may be given at once, and checked behind it.
    (Varnish calls it grace: 10s.)"""

    ignore_vary: Annotated[tuple[FieldName, ...], Listed] = _MODEL_POLICY.ignore_vary
    """Fields in the upstream's Vary that are not to make a difference."""

    ignore_cache_control: bool = _MODEL_POLICY.ignore_cache_control
    """Whether the upstream's Cache-Control and Expires are taken as absent."""

    obey_targeted: bool = _MODEL_POLICY.obey_targeted
    """Whether CDN-Cache-Control goes before Cache-Control (RFC 9213)."""

    drop_query: Annotated[tuple[str, ...], Listed] = _MODEL_POLICY.drop_query
    """Query parameters that do not tell objects apart; `*` means all of them. They are still
    sent upstream. Never name a signature here where signed addresses protect something."""

    max_segments: int = Field(default=_MODEL_TRANSFER.max_segments, ge=1, le=64)
    """Upstream connections that may work on one object at once; `1` turns parallel ranges off.
    (aria2 5, at most 16 to a server.)"""

    min_segment: Size = Field(default=_MODEL_TRANSFER.min_segment_bytes, ge=1)
    """What is missing is not split into pieces smaller than this. (aria2 20 MiB.)"""

    read_ahead: Size = _MODEL_TRANSFER.read_ahead_bytes
    """What a range request brings beyond what it asked for."""

    complete_ranges: bool = _MODEL_TRANSFER.complete_ranges
    """Whether the rest of an object is fetched behind a range request."""

    when_alone: WhenAlone = _MODEL_TRANSFER.when_alone
    """What becomes of a download when its last client leaves: `finish`, `stop`, or
    `finish-if-near`. (nginx stops unless told, Varnish finishes, Squid finishes if near.)"""

    finish_share: Fraction = _MODEL_TRANSFER.finish_share
    """The share from which `finish-if-near` finishes. (Squid 95 %.)"""

    finish_bytes: Size = _MODEL_TRANSFER.finish_bytes
    """The rest below which `finish-if-near` finishes. (Squid 16 KB.)"""

    max_tries: int = Field(default=_MODEL_TRANSFER.max_tries, ge=1, le=100)
    """Tries without one byte of progress before a download fails. (curl 1, aria2 5, wget 20.)"""

    max_object_size: OptionalSize = _MODEL_TRANSFER.max_object_bytes
    """The largest object that is kept. A larger one is passed on to each client by itself; one
    whose length nobody told is broken off where it grows too large, and passed on when it is
    asked for again. (Squid 4 MB, nginx and Varnish no limit.)"""

    refuse_larger: bool = _MODEL_TRANSFER.refuse_larger
    """Whether objects above `max_object_size` are refused with 403, or broken off there where
    their length was not told, instead of passed on."""

    identity: Annotated[
        frozenset[Literal["etag", "last-modified", "length"]],
        PlainSerializer(sorted, when_used="json"),
    ] = Field(default=frozenset({"etag", "last-modified", "length"}), min_length=1)
    """What must agree between two responses for their bytes to be joined. Leave out `etag` for
    mirrors whose entity tags differ."""

    upstream_digests: UpstreamDigests = _MODEL_TRANSFER.upstream_digests
    """Whether what an upstream sends must come to the digests that its own fields tell of it
    (Repr-Digest, Digest, Content-MD5, x-goog-hash and others): `check`, or `ignore` for an upstream
    that tells wrong ones. What clients, presets and checksum files expect is checked with
    either. (docs/digests.md.)"""

    forward: Annotated[tuple[ForwardedField, ...], Listed] = ("accept",)
    """Request fields that go to the upstream, and so tell objects apart. With `cookie` among them,
    cookies pass both ways; without it, neither way."""

    checksums: Annotated[tuple[ChecksumPattern, ...], Listed] = ()
    """Files in which an upstream tells the checksums of what it serves, as paths from the
    directory of each object; `{name}` stands for the object's own name. The first that tells one
    counts, such as `["{name}.sha256", "SHA256SUMS", "../SHA256SUMS"]`: lists of `sha256sum` and its
    kin, in GNU's form or BSD's, or one bare digest. What does not come to that digest is never kept
    and ends short for whoever reads it. (docs/digests.md.)"""

    share: Share = Share.PASS
    """What becomes of a client's `Authorization`, and who gets what it brought. `pass`: it goes to
    the server that the request names (of a mount the upstreams' hosts), and the answer to this
    client alone, unless the server itself says that it may be shared. `refuse`: a request with it,
    or with `Cookie` where `forward` names that, is answered with 403. The others keep what it
    brought: `private`, for who shows the same credential; `verify`, for who shows one that the
    server accepts for that object, asked with a HEAD; `public`, for everybody who reaches the
    mount, and for mounts only. With credentials of the mount's own it is `public` unless the mount
    sets it, or `[defaults]` says `refuse`. It is `pass` because whoever puts Authorization into a
    request names in the same request the server that it is for, a proxy may not take the field out
    (RFC 9110 §11.6.2), and a download that works without a cache is to work through one. (Squid,
    nginx and Varnish pass it on.)"""

    verify_ttl: Duration = 60.0
    """With `share = "verify"`: for how long a client need not be verified again for an object
    that has not changed. Who loses a right keeps what is stored for so long."""


class Defaults(PolicyKeys):
    """Policy of every mount that does not say otherwise, of URL-in-path, and of what clients ask
    that have Forebay as their proxy."""

    url_in_path: bool = True
    """Whether `/https://host/path` and `/-/fetch?url=` are ways in."""

    @model_validator(mode="after")
    def _nothing_private_is_for_everybody(self) -> Defaults:
        if self.share is Share.PUBLIC:
            raise ValueError(
                "share = 'public' would give what one client's credentials brought, from any "
                "server, to every other; set it in a mount"
            )
        return self


def explicit_policy(keys: PolicyKeys) -> dict[str, Any]:
    """The policy keys that were written down, with their values."""
    written = keys.model_fields_set & PolicyKeys.model_fields.keys()
    return {key: getattr(keys, key) for key in PolicyKeys.model_fields if key in written}


def client_keys(mount: PolicyKeys | None, defaults: Defaults) -> ClientKeys:
    """Who may download by this mount (None is URL-in-path)."""
    keys = {**explicit_policy(defaults), **(explicit_policy(mount) if mount is not None else {})}
    return ClientKeys.model_construct(**{k: keys[k] for k in ClientKeys.model_fields if k in keys})


def policies_of(keys: Mapping[str, Any], *, has_own: bool = False) -> dict[str, Any]:
    """What a way in with these keys has of ``model.Mount``; ``has_own`` says whether it has
    credentials of its own."""
    share = keys.get("share", Share.PASS)
    policy = Policy(**{a: keys[k] for k, a in _POLICY_KEYS.items() if k in keys})
    return {
        "policy": _shared(policy, share, has_own=has_own),
        "transfer": TransferPolicy(**{a: keys[k] for k, a in _TRANSFER_KEYS.items() if k in keys}),
        **{a: keys[k] for k, a in _MOUNT_KEYS.items() if k in keys},
    }


def _shared(policy: Policy, share: Share, *, has_own: bool) -> Policy:
    """The policy of a way in that shares what credentials brought: the rule that it has for them
    takes the place of Vary and of RFC 9111 §3.5."""
    if share is Share.PASS or (share is Share.REFUSE and not has_own):
        return policy
    if share is Share.PUBLIC and not has_own:
        # Who may not see an object is often told 404, and that is nobody else's answer.
        policy = replace(policy, negative_ttl_seconds=0.0)
    ignored = (*policy.ignore_vary, "authorization")
    return replace(policy, share_authorized=True, ignore_vary=ignored)
