"""The page at ``/-/``: what arrives, what is stored, who fails, for a person with a browser.

The page itself is the same for everybody and holds nothing, so that it needs no token; its
script asks the admin side with the token that the person types in, which it keeps in memory
only. Bytes of upstreams share our origin, so that nothing may be left where they could find it.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files

from forebay.web.asgi import RawFieldList


@cache
def dashboard() -> tuple[RawFieldList, bytes]:
    """Header fields and body. Nothing but the page's own script and style is ever run by it."""
    body = files(__package__).joinpath("dashboard.html").read_bytes()
    policy = (
        f"default-src 'none'; script-src {_digest_within(body, b'script')}; "
        f"style-src {_digest_within(body, b'style')}; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )
    fields = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-cache"),
        (b"content-security-policy", policy.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
    ]
    return fields, body


def _digest_within(page: bytes, tag: bytes) -> str:
    """The source expression for the one element of this name (Content Security Policy, hashes)."""
    inner = page.partition(b"<%s>" % tag)[2].partition(b"</%s>" % tag)[0]
    return f"'sha256-{base64.b64encode(hashlib.sha256(inner).digest()).decode()}'"
