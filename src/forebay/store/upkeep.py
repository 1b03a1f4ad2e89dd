"""What the store does behind its callers' backs: uses, syncs, limits, recovery, sweeps."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from forebay.errors import StoreError
from forebay.store.engine import Engine
from forebay.store.rows import Row, Use
from forebay.store.sweep import Sweep, Swept
from forebay.store.trouble import log

TICK_SECONDS = 1.0
"""How often uses are written down and the index is synced: what a power cut may cost."""
_MOST_PENDING_USES = 65_536
_RECLAIM_ROWS = 64
_SWEEP_RETRY_SECONDS = 60.0


class Upkeep:
    """The work of one open store that nobody asks for."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._uses: dict[str, Use] = {}
        self._sweep: Sweep | None = None
        self._sweeping: asyncio.Task[Swept] | None = None
        self._next_sweep_time = 0.0
        self._ticking: asyncio.Task[None] | None = None
        self._reclaiming: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Sweep once, and tick from now on."""
        self._start_sweep()
        self.start_reclaiming()
        self._ticking = asyncio.create_task(self._tick_for_ever())

    def stop(self) -> None:
        """Begin nothing more; what runs is waited for by ``Engine.settle``."""
        if self._ticking is not None:
            self._ticking.cancel()
        if self._sweep is not None:
            self._sweep.stop()

    async def swept(self) -> Swept:
        """Wait for the last sweep that was begun, and say what it did."""
        if self._sweeping is None:
            return Swept()
        return await asyncio.shield(self._sweeping)

    def note_use(self, entry_id: str, now: float) -> None:
        """Remember a use until the next tick. Beyond a bound, uses of further entries are lost."""
        use = self._uses.get(entry_id)
        if use is not None:
            use.count += 1
            use.last_time = now
        elif len(self._uses) < _MOST_PENDING_USES:
            self._uses[entry_id] = Use(1, now)

    async def write_pending_uses(self) -> None:
        """Write uses down if there are any. Raises ``StoreError``."""
        if self._uses:
            await self._write_uses()

    async def flush(self) -> None:
        """Write uses down and make the index durable. Raises ``StoreError``."""
        await self._write_uses()
        if self._engine.index.is_dirty:
            await self._engine.as_chore(self._engine.index.sync)

    async def trim(self) -> None:
        """Evict what the limits no longer allow. Raises ``StoreError``."""
        engine, room = self._engine, self._engine.room

        def trim_some() -> list[Row]:
            with engine.index.transaction():
                return room.trim()

        while await engine.from_index(room.has_shortfall):
            evicted = await engine.in_index(trim_some)
            if not evicted:
                return
            room.count_evicted(evicted)
            engine.unlink(evicted)

    def start_reclaiming(self) -> None:
        """Delete behind everybody's back what was purged with its mount."""
        if self._reclaiming is None:
            self._reclaiming = self._engine.spawn(self._reclaim())

    async def _reclaim(self) -> None:
        engine, index = self._engine, self._engine.index

        def delete_some() -> list[Row]:
            with index.transaction(silent=True):
                rows = index.dead(_RECLAIM_ROWS)
                index.delete(rows)
            return rows

        try:
            while await engine.from_index(lambda: index.dead(1)):
                # One page at a time, and a rest as long as it took: whoever waits for the index,
                # the disk or a core gets in between. Room that is needed is made without this.
                began = time.monotonic()
                unlinking = engine.unlink(await engine.in_index(delete_some))
                if unlinking is not None:
                    await unlinking
                await asyncio.sleep(time.monotonic() - began)
        except StoreError as error:
            log.info("Purged entries keep their files for now: %s", error.detail)
        finally:
            self._reclaiming = None

    async def _write_uses(self) -> None:
        """Also with no uses: it notices that the directory was deleted, or works again."""
        uses, self._uses = self._uses, {}
        index = self._engine.index
        must_write = bool(uses) or self._engine.health.is_ill("index")

        def job() -> None:
            if must_write:
                with index.transaction(silent=True):
                    index.touch(uses)

        try:
            await self._engine.in_index(job, heals=must_write)
        except StoreError:
            self._uses = uses | self._uses
            raise

    async def _tick_for_ever(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            await self._engine.whole(self._tick())

    async def _tick(self) -> None:
        with suppress(StoreError):
            await self.flush()
            if self._engine.health.is_ill("blobs"):
                await self._engine.probe()
            await self.trim()
            if await self._engine.from_index(lambda: self._engine.index.dead(1)):
                self.start_reclaiming()
        is_time = asyncio.get_running_loop().time() >= self._next_sweep_time
        if self._engine.needs_sweep and is_time and self._sweep is None:
            self._start_sweep()

    def _start_sweep(self) -> None:
        engine = self._engine
        engine.needs_sweep = False
        self._sweep = Sweep(engine.layout, engine.index, engine.blobs, shared=engine.shared)
        self._sweeping = engine.spawn(self._run_sweep(self._sweep))

    async def _run_sweep(self, sweep: Sweep) -> Swept:
        engine = self._engine
        try:
            swept = await engine.as_chore(sweep.run)
        except StoreError as error:
            log.warning("Leftovers could not be swept, and will be later: %s", error.detail)
            self._next_sweep_time = asyncio.get_running_loop().time() + _SWEEP_RETRY_SECONDS
            engine.needs_sweep = True
            return Swept()
        finally:
            self._sweep = None
        if swept.dropped_rows:
            engine.lookups.clear()
        if swept.found_anything:
            log.info(
                "Swept %d files (%d bytes) and %d entries that a crash had left behind.",
                swept.orphan_blobs,
                swept.orphan_bytes,
                swept.dropped_rows,
            )
        return swept
