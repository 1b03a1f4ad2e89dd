"""Every way in which Forebay says no, as one tree.

::

    ForebayError
      RequestError             the client asked for something we will not do
        InvalidTarget          400  the address cannot be read
        NotAuthorized          401  a token is missing or wrong
          ClientUnknown        401  who downloads has to say who it is
            ProxyClientUnknown 407  the same, from a client that takes us for its proxy
        ClientForbidden        403  this client may not download here
        CredentialsRefused     403  credentials for upstream are not taken here
        TargetForbidden        403  the address may not be fetched from here
        ObjectTooLarge         403  the object is larger than its mount lets anybody have
        UnknownMount           404  no mount has this prefix
        LoopDetected           508  the request has been through here already
        NotStored              504  only-if-cached, and nothing stored answers
      UpstreamError            the server we asked did not do its part
        UpstreamUnreachable    502  no connection, no name, refused, reset before a head
        UpstreamMisbehaved     502  an answer that breaks HTTP, or bytes that prove false
          UpstreamChanged      502  the representation changed while it was being fetched
        UpstreamTimeout        504  no connection or no byte within the deadline
          UpstreamTooSlow      504  bytes come, but fewer than the least that is waited for
      StoreError               the disk did not do its part; downloads go on without it
        StoreFull                   no room could be made: pass the bytes through
          ObjectOutgrown            larger than its mount keeps, as came out on the way
        EntryDamaged                stored bytes are wrong or missing: fetch them again
      Overloaded               503  a limit of ours is reached; comes with Retry-After
        TooManyRequests        429  a limit for this client is

Foreign exceptions are translated once, at the seam where they arise: ``httpx``'s in
``upstream``, ``OSError`` and ``sqlite3.Error`` in ``store``. The map from class to status
stands in ``web.problems``, and a test walks this tree to see that no class is missing there.

Every message is one sentence for the person who reads the answer: what happened, and what
to do about it. It must not name resolved addresses, tokens or queries.
"""

from __future__ import annotations


class ForebayError(Exception):
    """Base of every error that Forebay raises on purpose.

    ``str(error)`` is one sentence that may be shown to the client.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class RequestError(ForebayError):
    """The client asked for something that will not be done; asking again will not help."""


class InvalidTarget(RequestError):
    """The address in the request cannot be read as an absolute http or https URL."""


class NotAuthorized(RequestError):
    """A token is needed and is missing or wrong."""


class ClientUnknown(NotAuthorized):
    """Downloads here need a client token, and none came or a wrong one."""


class ProxyClientUnknown(ClientUnknown):
    """As ``ClientUnknown``, for a request in absolute-form (RFC 9110 §11.7)."""


class ClientForbidden(RequestError):
    """The client's address is in none of the networks that may download here."""


class CredentialsRefused(RequestError):
    """The request has credentials for upstream where the settings take none."""


class TargetForbidden(RequestError):
    """The address is well formed and may not be fetched.

    The sentence is the same for a forbidden literal, a name that resolves to one, and an
    open or closed port, so that the answer tells a stranger nothing about our network.
    """


class ObjectTooLarge(RequestError):
    """The object is larger than its mount lets anybody have."""


class UnknownMount(RequestError):
    """No mount has this prefix, and the path is not an absolute URL."""


class LoopDetected(RequestError):
    """The request came back to the service that sent it (RFC 9110 §7.6.3, RFC 5842 §7.2)."""


class NotStored(RequestError):
    """The client forbade going upstream, and nothing stored answers (RFC 9111 §5.2.1.7)."""


class UpstreamError(ForebayError):
    """The upstream did not give what was asked of it."""


class UpstreamUnreachable(UpstreamError):
    """No connection could be made, or it broke before a response head came."""


class UpstreamMisbehaved(UpstreamError):
    """The upstream's answer breaks HTTP, or its bytes are not what they claim to be."""


class UpstreamChanged(UpstreamMisbehaved):
    """The upstream's representation is no longer the one that was being fetched."""


class UpstreamTimeout(UpstreamError):
    """The upstream was silent for longer than its deadline."""


class UpstreamTooSlow(UpstreamTimeout):
    """The upstream sends, but for too long less than the least rate that is waited for."""


class StoreError(ForebayError):
    """The disk cache cannot do what was asked; a download must go on without it."""


class StoreFull(StoreError):
    """No room could be made for these bytes."""


class ObjectOutgrown(StoreFull):
    """A body without a declared length has become longer than its mount keeps or lets pass."""


class EntryDamaged(StoreError):
    """An entry's file is missing, too short or wrong; the entry must be fetched again."""


class Overloaded(ForebayError):
    """A limit of ours is reached.

    ``retry_after_seconds`` says when to try again (RFC 9110 §10.2.3).
    """

    def __init__(self, detail: str, retry_after_seconds: int = 1) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class TooManyRequests(Overloaded):
    """The client has used up its share for now (RFC 6585 §4)."""
