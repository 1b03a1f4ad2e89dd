"""What an order to the admin side calls an object: by its upstream, or as clients ask for it here.

People have the address that they downloaded from at hand, which names this service as often as
it names the upstream.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from forebay.model import Fields, Request
from forebay.service import Service


def asked_here(text: str, authority: str, service: Service) -> Request | None:
    """The download from us that a path or an absolute URL stands for; None for another's URL.

    ``authority`` is the Host field with which the order came: what the one who orders calls us.
    Names that mounts claim for their own (``Mount.hosts``) are ours as well.
    """
    if text.startswith("/"):
        return _download(text, authority)
    try:
        named = urlsplit(text).netloc
    except ValueError:
        return None
    if not named:
        return None
    target = text[text.index(named) + len(named) :]
    request = _download(target or "/", named)
    is_ours = named.lower() == authority.lower() or service.is_claimed(request)
    return request if is_ours else None


def _download(target: str, authority: str) -> Request:
    path, mark, query = target.partition("#")[0].partition("?")
    fields = Fields([("host", authority)])
    return Request("GET", path, query if mark else None, fields, authority=authority)
