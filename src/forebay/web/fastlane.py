"""The door's part of the fast lane: from the octets of a request to the octets of its answer.

A request whose head came in one piece is known again by its octets: the same octets are the same
request, and need not be parsed twice. What is remembered is only what was asked; what is answered
is looked up each time (``service.lane``).
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from forebay.ports import Reply
from forebay.service.lane import UNSUITED, Answer, Hit, Lane, Question
from forebay.web import log
from forebay.web.asgi import Scope
from forebay.web.framing import Framing, render_head
from forebay.web.heads import RawTarget
from forebay.web.incoming import request_of, target_of
from forebay.web.metrics import Metrics
from forebay.web.responses import guarded_fields

REMEMBERED_REQUESTS = 4096
"""With its target and its rendered head a request takes some 4 KB: a dozen MB at most."""
REMEMBERED_HEAD_BYTES = 1024
"""Longer heads carry cookies or signatures, which hardly come twice."""

_HEAD_END = b"\r\n\r\n"

_UNSUITED = frozenset(name.encode("ascii") for name in (*UNSUITED, "repr-digest"))
"""Also what the door reads itself before it asks the service (``web.digests``)."""


class Known:
    """A request that may be answered here, and the head that it got last."""

    __slots__ = ("_ages", "_head", "_hit", "_lasting", "question")

    def __init__(self, question: Question) -> None:
        self.question = question
        self._hit: Hit | None = None
        self._lasting = b""
        self._ages = (-1, -1)
        self._head = b""

    def head(self, answer: Answer) -> bytes:
        """The head of this answer: the lines that last, Age, Cache-Status, the empty line."""
        hit, age, ttl, _ = answer
        if hit is not self._hit:
            self._lasting = lasting_lines(hit, self.question.request.method)
            self._hit, self._ages = hit, (-1, -1)
        if self._ages != (age, ttl):
            lines = [self._lasting]
            lines += [f"{n}: {v}\r\n".encode("latin-1") for n, v in answer.changing_fields()]
            self._head = b"".join([*lines, b"\r\n"])
            self._ages = (age, ttl)
        return self._head


def lasting_lines(hit: Hit, method: str) -> bytes:
    """Status line and fields of a hit but for those that change with time.

    Raises ``ValueError`` for a field that may not be sent, and where the end of the body would
    not be told by its length.
    """
    head = render_head(
        hit.reply.status,
        guarded_fields(hit.reply).to_raw(),
        method=method,
        version="1.1",
        keep_alive=True,
    )
    if head.framing is not (Framing.LENGTH if hit.has_body else Framing.NONE):
        raise ValueError("a hit without a length")
    return head.octets.removesuffix(b"\r\n")


class FastLane:
    """Answers of one application, for requests in HTTP/1.1 after which the connection stays.

    ``is_download`` says of a method and a target whether they are for the service;
    ``note_served`` counts a reply and the bytes of its body.
    """

    def __init__(
        self,
        lane: Lane,
        metrics: Metrics,
        is_download: Callable[[str, RawTarget], bool],
        note_served: Callable[[Reply, int], None],
    ) -> None:
        self._lane = lane
        self._metrics = metrics
        self._is_download = is_download
        self._note_served = note_served
        self._known: OrderedDict[bytes, Known] = OrderedDict()

    def recall(self, octets: bytes) -> Known | None:
        """The request with these octets, if it is remembered."""
        known = self._known.get(octets)
        if known is not None:
            self._known.move_to_end(octets)
        return known

    def remember(self, octets: bytes, known: Known) -> None:
        """Know these octets, the whole of a request, again."""
        if len(octets) <= REMEMBERED_HEAD_BYTES:
            self._known[octets] = known
            if len(self._known) > REMEMBERED_REQUESTS:
                self._known.popitem(last=False)

    def take_up(self, scope: Scope) -> Known | None:
        """What is to be known of this request; None if it is never answered here."""
        if any(name in _UNSUITED for name, _ in scope["headers"]):
            return None
        target = target_of(scope)
        if not self._is_download(scope["method"], target):
            return None
        question = self._lane.take_up(request_of(scope, target))
        return Known(question) if question is not None else None

    def answer(self, known: Known, client_host: str) -> bytes | None:
        """The octets of the whole response, counted and logged as sent; None if there is none
        at once."""
        begin = time.perf_counter()
        answer = self._lane.answer(known.question)
        if answer is None:
            return None
        try:
            head = known.head(answer)
        except ValueError:
            return None  # The ordinary way says what is wrong with it.
        hit, content = answer.hit, answer.content
        sent_bytes = len(content)
        self._metrics.count_response(hit.reply.status)
        self._note_served(hit.reply, sent_bytes)
        if log.is_written():
            log.write(
                log.AccessLine(
                    client_host,
                    known.question.request.method,
                    hit.reply.target_name,
                    hit.reply.status,
                    sent_bytes,
                    time.perf_counter() - begin,
                    hit.reply.cache_status.outcome.value,
                )
            )
        return head + content


class Express:
    """One connection's use of the fast lane.

    The protocol asks only where nothing is being answered or waits to be written, so that an
    answer from here never overtakes another.
    """

    def __init__(self, lane: FastLane, client_host: str) -> None:
        self._lane = lane
        self._client_host = client_host
        self._is_between_requests = True
        self._piece = b""
        self._known: Known | None = None

    def answer_octets(self, piece: bytes) -> bytes | None:
        """The response to these octets, if they are one whole request that is known."""
        self._known = self._lane.recall(piece) if self._is_between_requests else None
        if self._known is None:
            return None
        return self._lane.answer(self._known, self._client_host)

    def begin(self, piece: bytes) -> None:
        """These octets are going to be parsed."""
        self._piece = piece if self._is_between_requests and _is_one_head(piece) else b""

    def answer_parsed(self, scope: Scope) -> bytes | None:
        """The response to a request without a body whose head has just been parsed."""
        if self._known is not None:
            return None  # It was tried a moment ago.
        known = self._lane.take_up(scope)
        if known is None:
            return None
        if self._piece:
            self._lane.remember(self._piece, known)
        return self._lane.answer(known, self._client_host)

    def end(self, *, in_message: bool) -> None:
        """They have been parsed; ``in_message`` says whether they ended within a request."""
        self._is_between_requests = not in_message
        self._known = None


def _is_one_head(piece: bytes) -> bool:
    """Whether these octets, as a whole, can be just one request without a body."""
    return piece.find(_HEAD_END) == len(piece) - len(_HEAD_END)
