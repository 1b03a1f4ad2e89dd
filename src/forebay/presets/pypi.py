"""Python package indexes: the simple API in HTML and JSON (PEP 503, 629, 658, 691, 714).

Links to files are led through the mount, their ``#sha256=`` in the path so that the bytes are
checked before they are kept. Pages are rewritten with paths (not full addresses), which hold
under every name that the service has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from forebay.presets.anchors import change_anchors
from forebay.presets.contract import Context, Preset, Rewrite
from forebay.presets.documents import read_object, replace_text, write
from forebay.presets.links import LINK_DIGESTS, local_link
from forebay.rules import urls
from forebay.rules.urls import Url

_FILES = r"\.(?:whl|egg|tar\.(?:gz|bz2|xz|Z)|tgz|zip|exe|msi|rpm|deb)"
_NOT_FILES = re.compile(rf"(?!.*{_FILES}(?:\.metadata|\.asc|\.provenance)?(?:\?.*)?$).*", re.S)


HTML_TYPES = frozenset({"text/html", "application/vnd.pypi.simple.v1+html"})
JSON_TYPES = frozenset({"application/vnd.pypi.simple.v1+json"})


def rewrite_page(body: bytes, context: Context) -> bytes:
    """A simple page in either form. Raises ``ValueError`` for JSON that is none."""
    is_json = context.media_type in JSON_TYPES
    return rewrite_json(body, context) if is_json else rewrite_html(body, context)


def rewrite_html(body: bytes, context: Context) -> bytes:
    """A simple page in HTML with every link through the mount."""

    def change(reference: str, base: Url) -> str | None:
        digest = _digest_in(reference.partition("#")[2])
        local = local_link(context, reference, base, digest)
        return None if local is None else context.base_path + local

    return change_anchors(body, _page(context), change)


def rewrite_json(body: bytes, context: Context) -> bytes:
    """A simple page in JSON with the address of every file through the mount."""
    document = read_object(body)
    files = document.get("files")
    page = _page(context)
    for file in files if isinstance(files, list) else ():

        def change(reference: str, file: Any = file) -> str | None:
            hashes = file.get("hashes")
            local = local_link(context, reference, page, _digest_among(hashes))
            return None if local is None else context.base_path + local

        replace_text(file, "url", change)
        # An attestation is fetched by address, too (PEP 740).
        replace_text(file, "provenance", lambda r: _plain(context, r, page))
    return write(document)


def _plain(context: Context, reference: str, page: Url) -> str | None:
    local = local_link(context, reference, page)
    return None if local is None else context.base_url + local


def _page(context: Context) -> Url:
    """Where links are relative to. A project's page ends with a slash, whether it was asked for
    so or was redirected there."""
    url = urls.parse(context.page_url)
    return url if url.path.endswith(("/", ".html")) else urls.parse(url.origin + url.path + "/")


def _digest_in(fragment: str) -> tuple[str, str] | None:
    """The digest in a link's fragment, such as ``sha256=9f…`` or ``egg=a&sha256=9f…``."""
    found = {name: values[0] for name, values in parse_qs(fragment).items()}
    return _digest_among(found)


def _digest_among(found: Any) -> tuple[str, str] | None:
    if not isinstance(found, Mapping):
        return None
    return next(
        ((kind, found[kind]) for kind in LINK_DIGESTS if isinstance(found.get(kind), str)), None
    )


PYPI = Preset(
    name="pypi",
    settings={
        "immutable": (rf".*{_FILES}(?:\.metadata|\.asc)?(?:\?.*)?",),
        "heuristic_fraction": 0.0,
        "ttl": 60.0,
        "negative_ttl": 10.0,
        "stale_if_error": 86_400.0,
    },
    rewrites=(Rewrite(_NOT_FILES, HTML_TYPES | JSON_TYPES, rewrite_page),),
)
