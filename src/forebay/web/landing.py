"""The page at ``/``: what this is, for a person who came with a browser or with curl."""

from __future__ import annotations

import re

from forebay.model import Fields
from forebay.web.asgi import RawFieldList

_AUTHORITY = re.compile(r"[A-Za-z0-9.\[\]:-]{1,255}")

_TEXT = """\
Forebay, a caching download accelerator.

Put this address in front of any http or https URL:

    curl -LO {base}/https://example.org/file

The first request streams the file through and keeps it; later ones come from disk.
Ranges and resumed downloads work in both cases.

    {base}/-/fetch?url=...   the same for URLs that need percent-encoding
    {base}/healthz           is it alive
{admin}"""

_TEXT_ADMIN = """\
    {base}/-/                the dashboard, for who has the admin token
    {base}/metrics           numbers for Prometheus
"""

_HTML = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Forebay</title>
<style>body{{font:1rem/1.5 sans-serif;max-width:44rem;margin:3rem auto;padding:0 1rem}}
pre{{background:#8881;padding:.8rem;overflow:auto}}</style>
<h1>Forebay</h1>
<p>A caching download accelerator. Put this address in front of any http or https URL:
<pre>curl -LO {base}/https://example.org/file</pre>
<p>The first request streams the file through and keeps it; later ones come from disk. Ranges
and resumed downloads work in both cases.
<ul>
<li><code>{base}/-/fetch?url=…</code>: the same for URLs that need percent-encoding
<li><a href="/healthz">/healthz</a>: is it alive
{admin}</ul>
</html>
"""

_HTML_ADMIN = """\
<li><a href="/-/">/-/</a>: the dashboard, for who has the admin token
<li><a href="/metrics">/metrics</a>: numbers for Prometheus
"""


def landing_page(
    fields: Fields, scheme: str, *, with_admin: bool = True
) -> tuple[RawFieldList, bytes]:
    """Header fields and body; HTML where Accept names it, plain text for all others.

    The client's own Host is shown only if nothing in it could be markup.
    """
    host = fields.get("host") or ""
    base = f"{scheme}://{host if _AUTHORITY.fullmatch(host) else '127.0.0.1:8000'}"
    wants_html = "text/html" in (fields.combined("accept") or "").lower()
    page, admin = (_HTML, _HTML_ADMIN) if wants_html else (_TEXT, _TEXT_ADMIN)
    admin = admin.format(base=base) if with_admin else ""
    body = page.format(base=base, admin=admin).encode()
    kind = b"text/html; charset=utf-8" if wants_html else b"text/plain; charset=utf-8"
    return [
        (b"content-type", kind),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        (b"vary", b"Accept, Host"),
        (b"x-content-type-options", b"nosniff"),
        (
            b"content-security-policy",
            b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
        ),
    ], body
