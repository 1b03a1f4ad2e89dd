"""What is remembered of mirrors, as a plain record of what was said about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class RecordingMirrors:
    """``ports.MirrorHealth`` that keeps the order given, but for ``last`` ones, and notes all."""

    def __init__(self) -> None:
        self.last: set[str] = set()
        """URLs to be asked after all others."""
        self.successes: list[tuple[str, float | None]] = []
        self.failures: list[tuple[str, float | None]] = []
        self.in_use: dict[str, int] = {}

    def order(self, urls: Sequence[str]) -> tuple[str, ...]:
        return tuple(sorted(urls, key=lambda url: url in self.last))

    def note_success(self, url: str, rate_bytes_per_second: float | None = None) -> None:
        self.successes.append((url, rate_bytes_per_second))

    def note_failure(
        self, url: str, retry_after_seconds: float | None = None, *, why: str = ""
    ) -> None:
        self.failures.append((url, retry_after_seconds))

    @contextmanager
    def using(self, url: str) -> Iterator[None]:
        self.in_use[url] = self.in_use.get(url, 0) + 1
        try:
            yield
        finally:
            self.in_use[url] -= 1
