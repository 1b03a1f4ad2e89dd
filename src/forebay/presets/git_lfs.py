"""Git LFS: batch answers name where objects are; an object's id is the SHA-256 of its bytes.

Downloads are led through the mount, so that the store's addresses, signed anew for each
answer, become one entry by object id. Uploads and verifications go where they went.
"""

from __future__ import annotations

import re
from typing import Any

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
    # What comes with fields of its own is for one client: they are not sent on, and without
    # them the store would refuse.
    if child(action, "header"):
        return

    def change(reference: str) -> str | None:
        local = local_link(context, reference, page, ("sha256", oid))
        return None if local is None else context.base_url + local

    replace_text(action, "href", change)


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
