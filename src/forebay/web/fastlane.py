"""The door's part of the fast lane: from the octets of a request to those of its answer.

A request whose head came in one piece is known again by its octets: the same octets are the same
request, and need not be parsed twice. A Range line is cut out first, since it alone differs from
one part of a download to the next. What is remembered is only what was asked; what is answered
is looked up each time (``service.lane``).
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace

from forebay.errors import ForebayError
from forebay.model import Interval, Request
from forebay.ports import Reply
from forebay.service.held import HeldFile
from forebay.service.hits import Ages, Answer, Hit, Question
from forebay.service.lane import UNSUITED, Lane
from forebay.web import log
from forebay.web.asgi import ResponseCutError, Scope
from forebay.web.entrance import Entrance, Visitor
from forebay.web.framing import Framing, render_head
from forebay.web.heads import RawTarget
from forebay.web.incoming import request_of, target_of
from forebay.web.metrics import Metrics
from forebay.web.responses import guarded_fields
from forebay.web.shares import Share

REMEMBERED_REQUESTS = 16384
"""With the store's look-up and the target some 6 KB each, 100 MB at most. Whoever is forgotten pays
the index and the ordinary way, a hundred times a remembered hit."""
REMEMBERED_HEAD_BYTES = 1024
"""Longer heads carry cookies or signatures, which hardly come twice."""

_HEAD_END = b"\r\n\r\n"

# A whole line between two others of one head: not behind its end, not before a folded one.
_RANGE_LINE = re.compile(rb"(?<!\n)\r\n[Rr]ange: *(bytes=[0-9]*-[0-9]*)(?=\r\n[^ \t])")
_RANGE_WORD, _RANGE_WORD_AT = b"ange:", 3

_LENGTH_PLACE = b"content-length: 0\r\n\r\n"
_PART_LINES = b"content-range: bytes %%d-%%d/%d\r\ncontent-length: %%d\r\n"

_UNSUITED = frozenset(name.encode("ascii") for name in (*UNSUITED, "repr-digest"))
"""Also what the door reads itself before it asks the service (``web.digests``)."""


def without_range(piece: bytes) -> tuple[bytes, str | None]:
    """The octets of a head without its first line that asks for one range, and what that says."""
    # To look for the word first costs a quarter of looking for the whole line everywhere.
    at = piece.find(_RANGE_WORD)
    while at >= 0:
        match = _RANGE_LINE.match(piece, max(0, at - _RANGE_WORD_AT))
        if match is not None:
            start, stop = match.span()
            if not start:
                break
            return piece[:start] + piece[stop:], match[1].decode("ascii")
        at = piece.find(_RANGE_WORD, at + 1)
    return piece, None


class Rendered:
    """The head of one hit, as far as it lasts."""

    __slots__ = ("_ages", "_head", "_lasting", "hit")

    def __init__(self, hit: Hit, method: str) -> None:
        """Raises ``ValueError`` as ``lasting_lines``."""
        self.hit = hit
        self._lasting = lasting_lines(hit, method)
        self._ages: Ages | None = None
        self._head = b""

    def head(self, answer: Answer) -> bytes:
        """The head of this answer: the lines that last, the part's, those of the time."""
        if self._ages is not answer.ages:
            self._ages = answer.ages
            self._head = self._rendered(answer.ages)
        if not self.hit.is_part:
            return self._head
        start, stop = answer.interval
        return self._head % (start, stop - 1, stop - start)

    def _rendered(self, ages: Ages) -> bytes:
        """What stands for the rest of a second; of a part with places for its numbers, which
        are those of ``Answer.part_fields``."""
        changing = _lines(ages.fields()) + b"\r\n"
        if not self.hit.is_part:
            return self._lasting + changing
        places = _PART_LINES % (self.hit.length_bytes or 0)
        return _escaped(self._lasting) + places + _escaped(changing)


class Known:
    """A request that may be answered here, and the heads that it got last."""

    __slots__ = ("_part", "_whole", "asked", "question")

    def __init__(self, question: Question, asked: Request) -> None:
        """``asked`` is the request as it came, the client's token included."""
        self.question = question
        self.asked = asked
        self._whole: Rendered | None = None
        self._part: Rendered | None = None

    def head(self, answer: Answer) -> bytes:
        """The head of this answer. Raises ``ValueError`` as ``lasting_lines``."""
        hit = answer.hit
        rendered = self._part if hit.is_part else self._whole
        if rendered is None or rendered.hit is not hit:
            rendered = Rendered(hit, self.question.request.method)
            if hit.is_part:
                self._part = rendered
            else:
                self._whole = rendered
        return rendered.head(answer)


def lasting_lines(hit: Hit, method: str) -> bytes:
    """Status line and fields of a hit but for those that change (``Answer.changing_fields``).

    Raises ``ValueError`` for a field that may not be sent, and where the end of the body would
    not be told by its length.
    """
    fields = guarded_fields(hit.reply)
    if hit.is_part:  # Its length is still to come, and stands here only for the framing.
        fields = fields.with_field("content-length", "0")
    head = render_head(
        hit.reply.status, fields.to_raw(), method=method, version="1.1", keep_alive=True
    )
    has_body = bool(hit.length_bytes)
    if head.framing is not Framing.LENGTH and (has_body or head.framing is not Framing.NONE):
        raise ValueError("a hit without a length")
    return head.octets.removesuffix(_LENGTH_PLACE if hit.is_part else b"\r\n")


def _escaped(octets: bytes) -> bytes:
    return octets.replace(b"%", b"%%")


def _lines(fields: tuple[tuple[str, str], ...]) -> bytes:
    return "".join([f"{name}: {value}\r\n" for name, value in fields]).encode("latin-1")


class FileAnswer:
    """A response whose body leaves a file: head, file and interval, counted when it is over.

    Whoever takes it calls ``end`` once, or ``decline`` and has nothing sent.
    """

    __slots__ = (
        "_begin",
        "_client_host",
        "_known",
        "_lane",
        "_reply",
        "file",
        "interval",
        "octets",
    )

    def __init__(
        self, lane: FastLane, known: Known, answer: Answer, octets: bytes, file: HeldFile,
        client_host: str, begin: float,
    ) -> None:  # fmt: skip
        self._lane = lane
        self._known = known
        self._reply = answer.hit.reply
        self._client_host = client_host
        self._begin = begin
        self.octets = octets
        self.file = file
        self.interval: Interval = answer.interval

    def decline(self) -> None:
        """Let it go: the request is answered the ordinary way."""
        self.file.release()
        self._lane.count_end(0, None)

    def end(self, left_bytes: int, error: Exception | None) -> None:
        """So much of the body was not sent; ``error`` says why where it was not the client."""
        self.file.release()
        sent_bytes = self.interval.length_bytes - min(left_bytes, self.interval.length_bytes)
        self._lane.count_end(left_bytes, error)
        note = ""
        if isinstance(error, ResponseCutError):
            note = f"cut: {error}"
        elif left_bytes:
            note = "client left"
        self._lane.note_answered(
            self._known, self._reply, sent_bytes, self._client_host, self._begin, note
        )


class FastLane:
    """Answers of one application, for requests in HTTP/1.1 after which the connection stays.

    ``is_download`` says of a method and a target whether they are for the service;
    ``mounts_asked`` names the mounts that would answer a request (``Service.mounts_asked``);
    ``note_served`` counts a reply and the bytes of its body.
    """

    def __init__(
        self,
        lane: Lane,
        metrics: Metrics,
        is_download: Callable[[str, RawTarget], bool],
        mounts_asked: Callable[[Request], Sequence[str]],
        note_served: Callable[[Reply, int], None],
        entrance: Entrance,
    ) -> None:
        self._entrance = entrance
        self._is_open = entrance.is_open
        self._lane = lane
        self._metrics = metrics
        self._is_download = is_download
        self._mounts_asked = mounts_asked
        self._note_served = note_served
        self._known: OrderedDict[bytes, Known] = OrderedDict()

    def recall(self, octets: bytes) -> Known | None:
        """The request with these octets, if it is remembered."""
        known = self._known.get(octets)
        if known is not None:
            self._known.move_to_end(octets)
        return known

    def remember(self, octets: bytes, known: Known) -> None:
        """Know these octets, the whole of a request but for its Range, again."""
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
        request = request_of(scope, target)
        bare = request
        if self._entrance.access:
            # The ordinary way hides the token from the rules; so does this one.
            try:
                bare = self._visitor(request, self._mounts_asked(request)).request
            except ForebayError:
                return None
        question = self._lane.take_up(bare)
        return None if question is None else Known(question, request)

    def answer(
        self, known: Known, range_value: str | None, client_host: str, may_send_files: bool
    ) -> bytes | FileAnswer | None:
        """The octets of the whole response, counted and logged as sent, or what is to be sent
        from a file; None if there is none at once."""
        begin = time.perf_counter()
        share: Share | None = None
        if not self._is_open:
            try:
                asked = replace(known.asked, client_host=client_host)
                visitor = self._visitor(asked, (known.question.target.mount.name,))
            except ForebayError:
                return None  # The ordinary way says why not.
            client_host, share = visitor.request.client_host, self._entrance.share_of(visitor)
            may_send_files = may_send_files and not (share is not None and share.counts_downloads)
        answer = self._lane.answer(known.question, range_value, may_send_files)
        if answer is None:
            return None
        try:
            head: bytes | None = known.head(answer)
        except ValueError:
            head = None  # The ordinary way says what is wrong with it.
        hit, _, _, content, file = answer
        size_bytes = 0 if content is None else len(content)
        if head is None or not (share is None or share.take_at_once(size_bytes)):
            if file is not None:
                file.release()
            return None
        if file is not None:
            self._metrics.running.inc()
            return FileAnswer(self, known, answer, head, file, client_host, begin)
        self.note_answered(known, hit.reply, size_bytes, client_host, begin)
        return head + content if content else head

    def _visitor(self, request: Request, mounts: Sequence[str]) -> Visitor:
        """Who asks this, at this moment. Raises ``ForebayError`` for those who may not."""
        request = self._entrance.proxies.seen_through(request)
        return self._entrance.admit(request, mounts)

    def count_end(self, left_bytes: int, error: Exception | None) -> None:
        """A file is no longer being sent from; count how it ended."""
        self._metrics.running.dec()
        if isinstance(error, ResponseCutError):
            self._metrics.responses_cut.inc()
        elif left_bytes:
            self._metrics.clients_left.inc()

    def note_answered(
        self, known: Known, reply: Reply, sent_bytes: int, client_host: str, begin: float,
        note: str = "",
    ) -> None:  # fmt: skip
        """Count and log a response as the ordinary way does."""
        self._metrics.count_response(reply.status)
        self._note_served(reply, sent_bytes)
        if log.is_written():
            log.write(
                log.AccessLine(
                    client_host,
                    known.question.request.method,
                    reply.target_name,
                    reply.status,
                    sent_bytes,
                    time.perf_counter() - begin,
                    reply.cache_status.outcome.value,
                    note,
                )
            )


class Express:
    """One connection's use of the fast lane.

    The protocol asks only where nothing is being answered or waits to be written, so that an
    answer from here never overtakes another.
    """

    def __init__(self, lane: FastLane, client_host: str, *, may_send_files: bool) -> None:
        self._lane = lane
        self._client_host = client_host
        self._may_send_files = may_send_files
        self._is_between_requests = True
        self._piece = b""
        self._range_value: str | None = None
        self._known: Known | None = None

    def answer_octets(self, piece: bytes) -> bytes | FileAnswer | None:
        """The response to these octets, if they are one whole request that is known."""
        if not self._is_between_requests:
            self._known = None
            return None
        known, range_value = self._lane.recall(piece), None
        if known is None:
            known, range_value = self._recall_part(piece)
        self._known = known
        if known is None:
            return None
        return self._lane.answer(known, range_value, self._client_host, self._may_send_files)

    def _recall_part(self, piece: bytes) -> tuple[Known | None, str | None]:
        """The request that this is but for its Range, and that."""
        base, range_value = without_range(piece)
        return (None if range_value is None else self._lane.recall(base)), range_value

    def begin(self, piece: bytes) -> None:
        """These octets are going to be parsed."""
        self._piece = b""
        if self._is_between_requests and _is_one_head(piece):
            self._piece, self._range_value = without_range(piece)

    def answer_parsed(self, scope: Scope) -> bytes | FileAnswer | None:
        """The response to a request without a body whose head has just been parsed."""
        if self._known is not None:
            return None  # It was tried a moment ago.
        known = self._lane.take_up(scope)
        if known is None:
            return None
        range_value = _range_of(scope)
        if self._piece and range_value == self._range_value:
            self._lane.remember(self._piece, known)
        return self._lane.answer(known, range_value, self._client_host, self._may_send_files)

    def end(self, *, in_message: bool) -> None:
        """They have been parsed; ``in_message`` says whether they ended within a request."""
        self._is_between_requests = not in_message
        self._known = None


def _range_of(scope: Scope) -> str | None:
    """What Range says; it comes at most once with what ``take_up`` takes."""
    return next((value.decode("latin-1") for n, value in scope["headers"] if n == b"range"), None)


def _is_one_head(piece: bytes) -> bool:
    """Whether these octets, as a whole, can be just one request without a body."""
    return piece.find(_HEAD_END) == len(piece) - len(_HEAD_END) and not piece.startswith(b"\r")
