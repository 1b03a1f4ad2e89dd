"""Git LFS: batch answers name where objects are; an object's id is the SHA-256 of its bytes.

Downloads are led through the mount, so that the store's addresses, signed anew for each
answer, become one entry by object id. Uploads and verifications go where they went.
"""

from __future__ import annotations

import re
from typing import Any

from forebay.errors import InvalidTarget
from forebay.model import Share
from forebay.presets.contract import Context, Preset, Promise, Rewrite
from forebay.presets.documents import JSON_TYPES, child, read_object, replace_text, write
from forebay.presets.links import local_link, parse_link
from forebay.rules import urls

LFS_TYPE = "application/vnd.git-lfs+json"
_OID = re.compile(r"[0-9a-f]{64}")


def rewrite_batch(body: bytes, context: Context) -> bytes:
    """A batch answer with downloads through the mount, each with its object id."""
    document = read_object(body)
    if document.get("hash_algo", "sha256") != "sha256":
        return body
    page = urls.parse(context.page_url)
    objects = document.get("objects")
    for item in objects if isinstance(objects, list) else ():
        oid = child(item, "oid")
        if isinstance(oid, str) and _OID.fullmatch(oid):
            _lead(context, page, oid, child(child(item, "actions"), "download"))
    return write(document)


def _lead(context: Context, page: urls.Url, oid: str, action: Any) -> None:
    header = child(action, "header")
    if header and not _comes_through(context, page, header, child(action, "href")):
        return

    def change(reference: str) -> str | None:
        local = local_link(context, reference, page, ("sha256", oid))
        return None if local is None else context.base_url + local

    replace_text(action, "href", change)


def _comes_through(context: Context, page: urls.Url, header: Any, href: Any) -> bool:
    """Whether the fields that a client is to send with a download reach its store through us.

    Only Authorization is sent on, to hosts of the mount's upstreams, and by the mount's leave;
    without its fields the store would refuse.
    """
    if context.mount.share in {Share.PASS, Share.REFUSE}:
        return False
    if not isinstance(header, dict) or not isinstance(href, str):
        return False
    if any(name.lower() not in {"authorization", "accept"} for name in header):
        return False
    try:
        origin = urls.join(page, href).origin
    except InvalidTarget:
        return False
    return any(origin == urls.from_text(base).origin for base in context.mount.upstreams)


def promise(path: str) -> Promise | None:
    """An object in a link path is known by its id alone, whatever address is signed for it."""
    link = parse_link(path)
    return None if link is None or link.digest is None else Promise(link.digest, content=True)


GIT_LFS = Preset(
    name="git-lfs",
    settings={
        "immutable": (r"(?:/[^?]*)?/[0-9a-f]{64}(?:\?.*)?",),
        "heuristic_fraction": 0.0,
    },
    rewrites=(
        Rewrite(
            re.compile(r".*/objects/batch(?:\?.*)?", re.S),
            JSON_TYPES | {LFS_TYPE},
            rewrite_batch,
            methods=frozenset({"POST"}),
        ),
    ),
    promise=promise,
)
