"""Who may download, as whom, and out of whose share: the checks at the way in for downloads.

Both ways ask here: the ordinary one (``door``) and the fast lane, which remembers what was asked
but never that it was allowed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from forebay.errors import (
    ClientForbidden,
    ClientUnknown,
    ForebayError,
    ProxyClientUnknown,
    RequestError,
)
from forebay.model import Request
from forebay.web.credentials import TokenBook, client_token, shown_tokens
from forebay.web.proxies import Network, Proxies, client_network, is_within
from forebay.web.shares import ClientLimits, Share, Shares


@dataclass(frozen=True, slots=True)
class Access:
    """Who may download by one way in: holders of these tokens, from these networks. None and
    nothing mean that it does not matter."""

    tokens: TokenBook | None = None
    networks: Sequence[Network] = ()

    @property
    def is_open(self) -> bool:
        return self.tokens is None and not self.networks


@dataclass(frozen=True, slots=True)
class Visitor:
    """A client that may download: its request without the token that was ours, and its name."""

    request: Request
    client: str


@dataclass(frozen=True, slots=True)
class Entrance:
    """The rules of one application. ``access`` has an entry for each mount that is not open;
    ``ours`` are the tokens that no upstream is to see, whatever they were shown for."""

    access: Mapping[str, Access] = field(default_factory=dict)
    proxies: Proxies = field(default_factory=Proxies)
    shares: Shares = field(default_factory=lambda: Shares(ClientLimits()))
    ours: TokenBook | None = None

    @property
    def is_open(self) -> bool:
        """Whether everybody may have everything, so that there is nothing to look at."""
        return not (self.access or self.proxies or self.shares.are_bounded)

    def share_of(self, visitor: Visitor) -> Share | None:
        """What this visitor draws on; None where nothing is bounded."""
        return self.shares.of(visitor.client)

    def admit(self, request: Request, mounts: Sequence[str]) -> Visitor:
        """The visitor, if one of these mounts lets it in; without a token of ours, which an open
        mount has not asked for.

        Raises ``ClientForbidden`` for the wrong network, ``ClientUnknown`` for no or a wrong
        token.
        """
        visitor = self._admit(request, mounts)
        if self.ours is None or "authorization" not in visitor.request.fields:
            return visitor
        shown = shown_tokens(visitor.request.fields)
        if all(self.ours.holder_of(token) is None for token in shown):
            return visitor
        fields = visitor.request.fields.without("authorization")
        return replace(visitor, request=replace(visitor.request, fields=fields))

    def _admit(self, request: Request, mounts: Sequence[str]) -> Visitor:
        refusal: ForebayError | None = None
        for mount in mounts:
            access = self.access.get(mount)
            if access is None:
                return Visitor(request, client_network(request.client_host))
            try:
                return _let_in(request, access)
            except RequestError as error:
                refusal = refusal or error
        if refusal is not None:
            raise refusal
        return Visitor(request, client_network(request.client_host))

    def admit_and_count(self, request: Request, mounts: Sequence[str]) -> Visitor:
        """The same, with a refusal counted against the client. Raises ``TooManyRequests``, too."""
        try:
            return self.admit(request, mounts)
        except ForebayError:
            self.note_refusal(request)
            raise

    def note_refusal(self, request: Request) -> None:
        """Count a refusal as a request of the client's address, so that guesses are bounded where
        requests are. Raises ``TooManyRequests``."""
        share = self.shares.of(client_network(request.client_host))
        if share is not None:
            share.take_request()


def _let_in(request: Request, access: Access) -> Visitor:
    if access.networks and not is_within(request.client_host, access.networks):
        raise ClientForbidden("Downloads here are not for clients at this address.")
    if access.tokens is None:
        return Visitor(request, client_network(request.client_host))
    # A client that takes us for its proxy has Authorization for the server it means (RFC 9110
    # §11.7): that is none of our business, and goes on.
    name = "proxy-authorization" if request.absolute else "authorization"
    token = client_token(request.fields, name)
    holder = access.tokens.holder_of(token) if token else None
    if holder is None:
        kind = ProxyClientUnknown if request.absolute else ClientUnknown
        raise kind("Downloads here need a client token, as Bearer or as the password of Basic.")
    bare = replace(request, fields=request.fields.without(name))
    return Visitor(bare, f"token {holder}")
