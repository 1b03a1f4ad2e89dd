"""Credentials on their way upstream, and to whom goes what they brought (``model.Share``).

A client's ``Authorization`` goes to its mount's own upstreams and nowhere else: not to a host
that an index links to, and not behind a redirect to another one. What tells credentials apart in
keys and in memory is a keyed digest; the key lies in the cache directory, for its owner only.

``verify`` gives stored bytes to a client only where a HEAD with that client's credential is
answered by the representation that is stored: an answer alone would not do, since many services
send a page to log in, with 200, to whom they do not know. Where that cannot be seen the request
goes straight through, with the client's credential, so that whatever upstream says is what this
client gets.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from forebay.credentials import OwnCredential
from forebay.errors import CredentialsRefused
from forebay.model import Entry, Head, Mount, Request, Share, Target
from forebay.rules import urls
from forebay.rules.heads import as_complete_head
from forebay.rules.validation import identity_of
from forebay.service.landings import flight_key
from forebay.service.passing import Passage
from forebay.service.remembering import Remembered
from forebay.streaming.flight import Flight, Flights

KEY_BYTES = 32
_CREDENTIAL = "authorization"
_NO_HEAD = frozenset({403, 405, 501})
"""Answers after which one byte is asked for by GET: from servers that have no HEAD, and stores of
blobs whose addresses are signed for GET alone."""
_OF_ONE_REQUEST = (
    "cache-control", "if-match", "if-modified-since", "if-none-match", "if-range",
    "if-unmodified-since", "pragma", "range",
)  # fmt: skip


class Sharing:
    """What the mounts' rules for credentials make of a request and its target.

    ``key`` is the secret of the keyed digests; ``own`` holds the mounts' own credentials by the
    mount's name.
    """

    def __init__(
        self, mounts: Sequence[Mount], key: bytes, own: Mapping[str, OwnCredential]
    ) -> None:
        self._key = key
        self._own = own
        self._origins = {
            mount.name: frozenset(urls.from_text(base).origin for base in mount.upstreams)
            for mount in mounts
            if mount.upstreams
        }

    def placed(self, request: Request, target: Target) -> Target:
        """The target as this request's credential selects it. Waits for nothing.

        Raises ``CredentialsRefused`` where the mount takes none.
        """
        share = target.mount.share
        if share is Share.REFUSE:
            _refuse_credentials(request, target.mount)
        if share not in {Share.PRIVATE, Share.VERIFY} or request.method not in {"GET", "HEAD"}:
            return target
        if not self._is_at_home(target):
            # No credential goes there, and nothing that one brought comes from there: content that
            # is known by its digest has one key, wherever it is asked for.
            is_verified = share is Share.VERIFY
            return replace(target, variant=f"{target.variant}:guest") if is_verified else target
        given = request.fields.combined(_CREDENTIAL)
        if share is Share.VERIFY:
            return replace(target, admission=self._digest(given or ""))
        if given is None:
            return target
        return replace(target, variant=f"{target.variant}:{self._digest(given)}")

    async def equipped(self, request: Request, target: Target) -> tuple[Request, Target]:
        """The request without a credential that is not for this upstream, and the target with
        the one that is to go there."""
        if target.mount.share is Share.PASS and _CREDENTIAL not in request.fields:
            return request, target
        if not self._is_at_home(target):
            return replace(request, fields=request.fields.without(_CREDENTIAL)), target
        # Own credentials only read: a client that may write has credentials that say so.
        if target.mount.share is Share.PASS or request.method not in {"GET", "HEAD"}:
            return request, target
        value = request.fields.combined(_CREDENTIAL)
        own = self._own.get(target.mount.name)
        if own is not None and (value is None or target.mount.share is Share.PUBLIC):
            # A guest has upstreams where the operator has named its host, and none otherwise: any
            # path of the host may be named by a link, and the login is for what is below the base.
            value = await own.value() if target.mount.upstreams else None
            request = replace(request, fields=request.fields.without(_CREDENTIAL))
        if value is None:
            return request, target
        return request, replace(target, forwarded=target.forwarded.with_field(_CREDENTIAL, value))

    def _is_at_home(self, target: Target) -> bool:
        """Whether the target is at one of the upstreams of its mount, and no guest from
        elsewhere. An address that a client names in full is at home with that client."""
        origins = self._origins.get(target.mount.name)
        return origins is None or urls.from_text(target.urls[0]).origin in origins

    def _digest(self, credential: str) -> str:
        return hmac.digest(self._key, credential.encode("latin-1"), "sha256").hex()[:32]


def _refuse_credentials(request: Request, mount: Mount) -> None:
    """Raise ``CredentialsRefused`` for a request that shows any which would go upstream.

    Taking them out is no choice: a proxy may not modify Authorization (RFC 9110 §11.6.2), and
    the client would get another answer than the one it means.
    """
    for name in ("authorization", "cookie") if mount.passes_cookies else ("authorization",):
        if name in request.fields:
            setting = f"the mount {mount.name}'s share" if mount.upstreams else "defaults.share"
            raise CredentialsRefused(
                f"{name.capitalize()} is not taken here: {setting} is 'refuse'; ask without it, "
                "or have that setting changed."
            )


class Admission:
    """Asks upstream whether a client may have what is stored, once for a while."""

    def __init__(
        self, passage: Passage, clock: Callable[[], float], mounts: Sequence[Mount] = ()
    ) -> None:
        self._passage = passage
        self._asking: Flights[bool] = Flights()
        self._admitted = {
            mount.name: Remembered(clock, mount.verify_seconds)
            for mount in mounts
            if mount.share is Share.VERIFY
        }

    async def admits(self, request: Request, target: Target, entry: Entry) -> bool:
        """Whether this client may have bytes of this entry. Raises ``ForebayError`` where
        upstream does not answer."""
        if not target.admission:
            return True
        shown = f"{flight_key(target)}/{entry.identity}"
        admitted = self._admitted.get(target.mount.name)
        if admitted is not None and shown in admitted:
            return True

        async def ask(flight: Flight[bool]) -> None:
            answer = await self._would_give(request, target, entry)
            if answer and admitted is not None:
                admitted.note(shown)
            flight.land(answer)

        flight, _ = self._asking.join(shown, ask)
        return await flight.wait()

    async def close(self) -> None:
        """Stop asking."""
        await self._asking.close()

    async def _would_give(self, request: Request, target: Target, entry: Entry) -> bool:
        plain = replace(request, method="HEAD", fields=request.fields.without(*_OF_ONE_REQUEST))
        head = await self._head(plain, target)
        if head.status in _NO_HEAD:
            fields = plain.fields.with_field("range", "bytes=0-0")
            head = await self._head(replace(plain, method="GET", fields=fields), target)
            if head.status == 206:
                head = as_complete_head(head)
        return head.status == entry.head.status and _is_of(entry, head)

    async def _head(self, request: Request, target: Target) -> Head:
        relay = await self._passage.open(request, target)
        try:
            return relay.head
        finally:
            await relay.aclose()


def _is_of(entry: Entry, head: Head) -> bool:
    """Whether the head shows the representation that is stored: by its entity tag where the entry
    has one, by its length where it has none."""
    stored = entry.head.fields.get("etag")
    if stored is not None:
        shown = head.fields.get("etag")
        return shown is not None and shown.removeprefix("W/") == stored.removeprefix("W/")
    shown_identity, identity = identity_of(head), entry.identity
    if identity.length_bytes is None or shown_identity.length_bytes != identity.length_bytes:
        return False
    return identity.last_modified in {None, shown_identity.last_modified}
