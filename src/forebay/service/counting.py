"""Counts since start: what was answered, and what upstream was spared."""

from __future__ import annotations

from collections import Counter

from forebay.model import CacheOutcome
from forebay.ports import Reply


class Counts:
    """Totals of one process since it started."""

    def __init__(self) -> None:
        self._replies: Counter[str] = Counter()
        self.served_bytes = 0

    def note(self, reply: Reply, sent_bytes: int) -> None:
        """A reply has been sent, as far as it was."""
        status = reply.cache_status
        self._replies[status.outcome] += 1
        if status.collapsed:
            self._replies["collapsed"] += 1
        self.served_bytes += sent_bytes

    def replies(self) -> dict[str, int]:
        """Replies by outcome word, every word present; ``collapsed`` ones count twice."""
        words = [outcome.value for outcome in CacheOutcome]
        return {word: self._replies[word] for word in [*words, "collapsed"]}
