"""From a request to its target, with what the mount's preset knows of paths (step 1).

``rules.targets`` finds the mount; here link paths become the addresses they name, digests that
a path promises are expected, and objects that are known by their digest get one key under all
their names.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import unquote

from forebay.model import Fields, Mount, Request, Target
from forebay.presets import Promise, preset_of
from forebay.presets.contract import Context
from forebay.presets.links import Link, below_upstream, check_link, parse_link
from forebay.presets.plain import GENERIC
from forebay.rules import targets, urls
from forebay.rules.fields import is_secret
from forebay.rules.urls import Url

_ROOT = "/v2/"
_NAMESPACE = re.compile(r"(?:^|(?<=&))ns=([^&]*)(?:&|$)")


def resolve(
    request: Request,
    mounts: Sequence[Mount],
    *,
    url: str | None = None,
    expected_digests: Sequence[tuple[str, str]] = (),
) -> Target:
    """As ``rules.targets.resolve``. Raises ``TargetForbidden`` for a link that is not ours."""
    expected = tuple(expected_digests)
    request = _below_root(_without_namespace(request, mounts), mounts)
    target = targets.resolve(request, mounts, url=url, expected_digests=expected)
    if not target.mount.upstreams:
        return target
    preset = preset_of(target.mount)
    promise = preset.promise(target.path)
    link = parse_link(target.path) if preset.rewrites else None
    if link is not None:
        # A digest in a link path counts, unless the client itself names another.
        digests = _joined(expected, () if link.digest is None else (link.digest,))
        target = _linked(request, target.mount, link, digests)
        if link.digest is not None:
            target = _unchanging(target)
    if promise is None:
        return target
    return _promised(target, promise, expected)


def context_of(request: Request, target: Target) -> Context:
    """Where a response to this request stands, as this client sees us."""
    mount = target.mount
    prefix = mount.prefix
    if targets.claims(mount, request):
        prefix = _ROOT if mount.preset == "oci" else "/"
    return Context(mount, target.urls[0], f"{request.scheme}://{request.authority}{prefix}")


def linked_key(mount: Mount, url: str) -> str | None:
    """The key of an address that the mount leads to by a link path without a digest; None
    where it leads there by a path of its own, or not at all."""
    if not preset_of(mount).rewrites or not mount.upstreams:
        return None
    read = urls.from_text(url)
    if below_upstream(mount, read) is not None:
        return None
    return _linked(Request("GET", "/"), mount, Link(read, None), (), check=False).key


def _linked(
    request: Request,
    mount: Mount,
    link: Link,
    expected: tuple[tuple[str, str], ...],
    *,
    check: bool = True,
) -> Target:
    """The target that a link names: an object of the mount, or a guest from another host."""
    below = below_upstream(mount, link.url)
    if below is not None:
        path, bare = mount.prefix + below, replace(mount, hosts=(), port=None)
        asked = replace(
            request, raw_path=path, raw_query=link.url.query, authority="", absolute=False
        )
        return targets.resolve(asked, (bare,), expected_digests=expected)
    if check:
        check_link(mount, link.url)
    return _guest(request, mount, link.url, expected)


def _guest(
    request: Request, mount: Mount, url: Url, expected: tuple[tuple[str, str], ...]
) -> Target:
    """An object elsewhere, under a key that is the mount's own and not that of the bare address.

    A host that the operator has named, and not only by a pattern, is as open as an upstream. For
    any other the guest's mount has no upstreams, so that the guard checks every hop, and no
    credentials or cookies go there.
    """
    named = (f"{url.origin}/",) if url.host in mount.link_hosts else ()
    if not named:
        plain = tuple(name for name in mount.forward if not is_secret(name))
        mount = replace(mount, forward=plain)
    bare = replace(mount, name=targets.URL_MOUNT, prefix="/", upstreams=(), hosts=(), port=None)
    target = targets.resolve(request, (bare,), url=str(url), expected_digests=expected)
    # What stands beside objects of the mount need not stand beside those of others.
    guest = replace(mount, upstreams=named, hosts=(), port=None, preset=GENERIC.name, checksums=())
    return replace(target, key=_digest_of(mount.name, "link", target.key), mount=guest)


def _promised(target: Target, promise: Promise, expected: tuple[tuple[str, str], ...]) -> Target:
    digests = _joined(expected, (promise.digest,))
    if not promise.content:
        return targets.with_digests(target, digests)
    algorithm, value = promise.digest
    key = _digest_of(target.mount.name, "content", f"{algorithm}:{value}")
    # The digest says which bytes these are: no field that a client sends can select others.
    others = tuple(pair for pair in digests if pair != promise.digest)
    selected = targets.with_digests(replace(target, key=key, forwarded=Fields()), others)
    selected = replace(selected, expected_digests=digests, forwarded=target.forwarded)
    return _unchanging(selected)


def _unchanging(target: Target) -> Target:
    """The target, never to be asked about again: its address says which bytes these are."""
    policy = replace(target.mount.policy, immutable_patterns=(".*",))
    return replace(target, mount=replace(target.mount, policy=policy))


def _joined(
    expected: tuple[tuple[str, str], ...], more: tuple[tuple[str, str], ...]
) -> tuple[tuple[str, str], ...]:
    """Digests to expect, each algorithm once, the client's own first."""
    named = {algorithm for algorithm, _ in expected}
    return (*expected, *(pair for pair in more if pair[0] not in named))


def _without_namespace(request: Request, mounts: Sequence[Mount]) -> Request:
    """Containerd names the registry it means in ``?ns=``: that chooses the mount of a path at
    the root, and is no part of the target."""
    query, registries = request.raw_query, [m for m in mounts if m.preset == "oci"]
    if query is None or not registries or not request.raw_path.startswith(_ROOT):
        return request
    match = _NAMESPACE.search(query)
    if match is None:
        return request
    rest = (query[: match.start()] + query[match.end() :]).rstrip("&")
    request = replace(request, raw_query=rest or None)
    if any(m.prefix != _ROOT and request.raw_path.startswith(m.prefix) for m in registries):
        return request
    meant = unquote(match[1]).lower()
    for mount in registries:
        if any(urls.from_text(base).authority == meant for base in mount.upstreams):
            return replace(request, raw_path=mount.prefix + request.raw_path[len(_ROOT) :])
    return request


def _below_root(request: Request, mounts: Sequence[Mount]) -> Request:
    """A registry that has an origin to itself: its upstream's base has the ``/v2/`` with which
    every path of a client begins."""
    if not request.raw_path.startswith(_ROOT):
        return request
    mount = targets.claiming(request, mounts)
    if mount is None or mount.preset != "oci":
        return request
    return replace(request, raw_path=request.raw_path[len(_ROOT) - 1 :])


def _digest_of(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
