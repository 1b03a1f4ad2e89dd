"""What a segment asks of an upstream, and what the answer's head means for it."""

from __future__ import annotations

from typing import assert_never

from forebay.errors import UpstreamChanged, UpstreamError, UpstreamMisbehaved
from forebay.model import Ask, Head, Interval
from forebay.rules.content_range import format_range
from forebay.rules.proof import Busy, Changed, Proven, Unusable, joining_validator, prove
from forebay.streaming.segment import Source
from forebay.streaming.subject import Subject


class UpstreamBusy(UpstreamError):
    """An answer that asks for fewer requests, for so long where it said so."""

    def __init__(self, retry_after_seconds: float | None) -> None:
        super().__init__("The upstream is overloaded. Try again later.")
        self.retry_after_seconds = retry_after_seconds


class RangesIgnored(UpstreamError):
    """The whole came where a part was asked for, and is of no use."""


def ask_for(subject: Subject, source: Source, asked: Interval) -> Ask:
    """The request for these bytes, under the condition that nothing has changed
    (RFC 9110 §13.1.5, §14.2)."""
    fields = subject.fields.with_field("range", format_range(asked))
    validator = joining_validator(subject.head, subject.policy.identity)
    if validator is not None:
        fields = fields.with_field("if-range", validator)
    return Ask(source.url, fields=fields, unguarded=source.unguarded)


def examine(subject: Subject, asked: Interval, answer: Head, wall_time: float) -> Proven:
    """Which of our bytes the body holds. Raises ``UpstreamError`` where it is of no use."""
    verdict = prove(
        answer, asked, subject.head, subject.identity, subject.policy.identity, wall_time
    )
    match verdict:
        case Proven():
            return verdict
        case Busy(retry_after_seconds):
            raise UpstreamBusy(retry_after_seconds)
        case Changed(why):
            raise UpstreamChanged(f"The file changed while it was fetched: {why}. Ask again.")
        case Unusable(why):
            raise UpstreamMisbehaved(f"The upstream cannot be used: {why}.")
        case unknown:
            assert_never(unknown)
