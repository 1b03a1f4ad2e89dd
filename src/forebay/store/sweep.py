"""After a start: remove what a crash has left behind, and count anew what is there.

Runs in a thread of its own, shard by shard, beside the working store and beside other workers:
what somebody is writing is locked, and every verdict is checked again where it is carried out.
"""

from __future__ import annotations

import shutil
import threading
from dataclasses import dataclass

from forebay.rules import coverage as cov
from forebay.store.blobs import Blobs, Measure
from forebay.store.codec import claims_complete
from forebay.store.index import Index
from forebay.store.layout import Layout
from forebay.store.progress import noted, remove_leftovers
from forebay.store.rows import Row

_HEX = "0123456789abcdef"


@dataclass(slots=True)
class Swept:
    """What a sweep did."""

    orphan_blobs: int = 0
    orphan_bytes: int = 0
    dropped_rows: int = 0
    """Rows without a blob, or incomplete without anything that could be continued."""
    resized_rows: int = 0
    is_finished: bool = False

    @property
    def found_anything(self) -> bool:
        return bool(self.orphan_blobs or self.dropped_rows)


class Sweep:
    """One pass over all shards. ``stop`` makes it end early, at the next shard."""

    def __init__(self, layout: Layout, index: Index, blobs: Blobs, *, shared: bool) -> None:
        self._shared = shared
        self._layout = layout
        self._index = index
        self._blobs = blobs
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End at the next shard. May be called from any thread."""
        self._stopped.set()

    def run(self) -> Swept:
        """Sweep everything. Raises ``OSError`` and ``sqlite3.Error``."""
        swept = Swept()
        try:
            self._index.check()
            swept.dropped_rows += self._index.delete_foreign_rows()
            with self._index.transaction(silent=True):
                self._index.mounts.recount()
            for aside in self._layout.old_damaged_indexes():
                shutil.rmtree(aside, ignore_errors=True)
            remove_leftovers(self._layout.progress, self._blobs, self._may_be_resumed)
            usual = {first + second for first in _HEX for second in _HEX}
            for shard in sorted(usual.union(self._blobs.shards())):
                if self._stopped.is_set():
                    return swept
                self._sweep_shard(shard, swept)
            swept.is_finished = True
        finally:
            self._index.release()
        return swept

    def _sweep_shard(self, shard: str, swept: Swept) -> None:
        # Rows first: a blob without a row may then have got one meanwhile, which is looked up
        # again; a row without a blob has lost it, because blobs come before their rows.
        rows = self._index.blobs_of(shard)
        files = self._blobs.in_shard(shard)
        for name, measured in files.items():
            if name not in rows and self._blobs.remove_leftover(name, self._index.has_blob):
                swept.orphan_blobs += 1
                swept.orphan_bytes += measured.size_bytes
        hopeless: list[Row] = []
        resized: list[tuple[Row, int]] = []
        for row in rows.values():
            measured_now = files.get(row.entry_id)
            if claims_complete(row.text) and measured_now is not None:
                if measured_now.size_bytes != row.size_bytes:
                    resized.append((row, measured_now.size_bytes))
            elif not self._blobs.is_being_written(row.entry_id):
                self._judge_partial(row, measured_now, hopeless, resized)
        self._carry_out(hopeless, resized, swept)

    def _judge_partial(
        self,
        row: Row,
        measured: Measure | None,
        hopeless: list[Row],
        resized: list[tuple[Row, int]],
    ) -> None:
        """Keep what can be continued: of known length, and with its covered bytes there."""
        try:
            entry = row.entry()
        except ValueError:
            hopeless.append(row)
            return
        coverage = entry.coverage
        if self._shared:
            coverage = cov.union(coverage, noted(self._layout.progress / entry.entry_id))
        last_stop = coverage[-1].stop if coverage else 0
        if (
            measured is None
            or entry.length_bytes is None
            or last_stop == 0
            or measured.length_bytes < last_stop
        ):
            hopeless.append(row)
        elif measured.size_bytes != row.size_bytes:
            resized.append((row, measured.size_bytes))

    def _may_be_resumed(self, entry_id: str) -> bool:
        """Whether the note of a writer that died is worth keeping: another worker is about to
        take over, or whoever asks next."""
        return self._shared and self._index.has_blob(entry_id)

    def _carry_out(self, hopeless: list[Row], resized: list[tuple[Row, int]], swept: Swept) -> None:
        if not hopeless and not resized:
            return
        with self._index.transaction():
            removed = [row for row in hopeless if self._is_unchanged(row)]
            self._index.delete(removed)
            for row, size_bytes in resized:
                if self._is_unchanged(row):
                    self._index.resize(row.entry_id, size_bytes)
                    swept.resized_rows += 1
        for row in removed:
            self._blobs.remove(row.entry_id)
        swept.dropped_rows += len(removed)

    def _is_unchanged(self, row: Row) -> bool:
        """Whether the row is still as it was judged, and nobody has begun to write its blob."""
        now = self._index.get(row.key, row.entry_id)
        if now is None or (now.text, now.size_bytes) != (row.text, row.size_bytes):
            return False
        return claims_complete(row.text) or not self._blobs.is_being_written(row.entry_id)
