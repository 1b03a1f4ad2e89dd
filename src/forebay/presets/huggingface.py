"""Model hubs that speak as the ``huggingface_hub`` client expects.

A file's address answers with a redirect to a store of blobs, and the fields that the client
relies on (commit, size, entity tag) stand on the redirect. They are merged into the answer,
so that the client gets one 200 with all of them and never learns of the store; its entity tag is
the hub's, so that what is stored can be told apart and joined whatever the store's tags are.
What would lead the client to another service (Xet) is hidden.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from typing import Any

from forebay.model import Fields, Head
from forebay.presets.contract import Context, Preset, Rewrite
from forebay.presets.documents import JSON_TYPES, write
from forebay.presets.link_fields import links_through, without_relation

_MERGED = ("x-repo-commit", "x-linked-size", "x-linked-etag", "x-error-code", "x-error-message")
_XET_KEYS = frozenset({"xetHash", "xetEnabled"})
_SHA256_TAG = re.compile(r'"([0-9a-f]{64})"')
_COMMIT = "[0-9a-f]{40}"


def shape_head(head: Head, redirects: Sequence[Head]) -> Head:
    """One head from the final one and the redirects that led to it; Xet left out.

    The first redirect that has a field speaks: later ones are the store's.
    """
    fields = head.fields
    for name in _MERGED:
        said = next((r.fields.get(name) for r in redirects if name in r.fields), None)
        if said is not None:
            fields = fields.with_field(name, said)
    tag = fields.get("x-linked-etag")
    if tag is not None and head.status in {200, 206, 304}:
        fields = fields.with_field("etag", tag)
        fields = _with_digest(fields, tag)
    fields = Fields((n, v) for n, v in fields if n != "x-xet-hash" and not n.startswith("x-xet-"))
    return Head(head.status, without_relation(fields, "xet-auth"), head.reason)


def _with_digest(fields: Fields, tag: str) -> Fields:
    """The fields with a Repr-Digest (RFC 9530 §3), by which the body is then checked: the hub's tag
    of a large file is the SHA-256 of its content, that of a small one Git's own hash of it."""
    match = _SHA256_TAG.fullmatch(tag)
    if match is None or "content-encoding" in fields or "repr-digest" in fields:
        return fields
    digest = base64.b64encode(bytes.fromhex(match[1])).decode("ascii")
    return fields.with_field("repr-digest", f"sha-256=:{digest}:")


def shape_request(fields: Fields) -> Fields:
    """What is asked, without If-Range: the store knows other tags than the hub's and would send
    everything. The tag that comes merged with the answer proves what was asked for."""
    return fields.without("if-range")


def shape_reply(fields: Fields, context: Context) -> Fields:
    """The next page of a listing is asked through the mount."""
    return links_through(fields, context)


def hide_xet(body: bytes, context: Context) -> bytes:  # noqa: ARG001 - a transform's shape
    """A listing without Xet's keys. Raises ``ValueError`` where it is no JSON."""
    try:
        return write(_without_xet(json.loads(body)))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _without_xet(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_xet(v) for k, v in value.items() if k not in _XET_KEYS}
    if isinstance(value, list):
        return [_without_xet(member) for member in value]
    return value


HUGGINGFACE = Preset(
    name="huggingface",
    settings={
        "immutable": (rf"/(?!api/)[^?]*/resolve/{_COMMIT}/[^?]*(?:\?.*)?",),
        "heuristic_fraction": 0.0,
        "stale_if_error": 86_400.0,
        "max_segments": 8,
        # The blob store's addresses are signed anew each time, and its dates are its own.
        "identity": frozenset({"etag", "length"}),
    },
    rewrites=(
        Rewrite(
            re.compile(r"/api/.*", re.S),
            JSON_TYPES,
            hide_xet,
            methods=frozenset({"GET", "HEAD", "POST"}),
            for_links=False,
        ),
    ),
    shape_head=shape_head,
    shape_request=shape_request,
    shape_reply=shape_reply,
)
