"""Another process on a cache directory, told what to do by lines of JSON on its input.

``python -m tests.store.worker DIRECTORY shared|alone [MAX_SIZE]``; every line is answered by one.
The word ``churn`` is answered first and then goes on until the process is killed.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from pathlib import Path
from typing import Any

from forebay.errors import ForebayError, StoreFull
from forebay.model import Interval
from forebay.ports import Draft, Selection
from forebay.store.disk import DiskStore
from tests.store.support import completed, new_entry, pattern, put, read

CHURN_KEYS = 12


def churn_body(key: str, length: int) -> bytes:
    """What an object of this key and length has to contain."""
    return pattern(length, seed=int(key.removeprefix("churn")) * 1_000_000 + length)


async def churn(store: DiskStore, seed: int) -> None:
    """Write, checkpoint, commit, give up, resume and purge for ever."""
    choice = random.Random(seed)
    while True:
        key = f"churn{choice.randrange(CHURN_KEYS)}"
        length = choice.randrange(1, 300_000)
        body = churn_body(key, length)
        try:
            draft = await store.begin(new_entry(key, length=length), length)
        except StoreFull:
            continue
        await _fill(draft, body, choice)
        if choice.random() < 0.2:
            await store.remove(Selection(key=f"churn{choice.randrange(CHURN_KEYS)}"))


async def _fill(draft: Draft, body: bytes, choice: random.Random) -> None:
    stops = sorted(choice.randrange(len(body)) for _ in range(3))
    position = 0
    for stop in stops:
        await draft.write(position, [body[position:stop]])
        position = stop
        if position:
            await draft.checkpoint((Interval(0, position),))
    if choice.random() < 0.7:
        await draft.write(position, [body[position:]])
        await draft.commit(completed(draft.entry, len(body)))
    await draft.close()


class Worker:
    def __init__(self, store: DiskStore) -> None:
        self._store = store
        self._draft: Draft | None = None

    async def put(self, key: str, length: int) -> str:
        return (await put(self._store, pattern(length), key=key)).entry_id

    async def find(self, key: str) -> list[tuple[str, bool]]:
        return [(entry.entry_id, entry.complete) for entry in await self._store.find(key)]

    async def purge(self, key: str) -> int:
        return (await self._store.remove(Selection(key=key))).objects

    async def begin(self, key: str, length: int, written: int) -> str:
        draft = await self._store.begin(new_entry(key, length=length), length)
        self._draft = draft
        if written:
            await draft.write(0, [pattern(length)[:written]])
            await draft.checkpoint((Interval(0, written),))
        return draft.entry.entry_id

    async def write(self, position: int, count: int) -> None:
        assert self._draft is not None
        body = pattern(self._draft.entry.length_bytes or 0)
        await self._draft.write(position, [body[position : position + count]])

    async def finish(self) -> bool:
        assert self._draft is not None
        entry = self._draft.entry
        assert entry.length_bytes is not None
        await self._draft.write(0, [pattern(entry.length_bytes)])
        done = await self._draft.commit(completed(entry, entry.length_bytes))
        await self._draft.close()
        return done

    async def read(self, key: str) -> str:
        (entry,) = await self._store.find(key)
        return read(self._store.open_reader(entry)).decode()

    async def holds(self, key: str, length: int) -> bool:
        """Whether the object has the bytes that ``put`` gives one of this length."""
        (entry,) = await self._store.find(key)
        return read(self._store.open_reader(entry)) == pattern(length)

    async def fill(self, count: int, length: int) -> list[str]:
        """Store objects one after another; gives the trouble each one met, if any."""
        troubles = []
        for number in range(count):
            try:
                await put(self._store, pattern(length), key=f"fill{number}")
            except ForebayError as error:
                troubles.append(f"{type(error).__name__}: {error}")
        return troubles

    async def usage(self) -> dict[str, Any]:
        usage = await self._store.usage()
        return {
            "objects": usage.objects,
            "size": usage.size_bytes,
            "healthy": usage.healthy,
            "trouble": usage.trouble,
        }

    async def flush(self) -> None:
        await self._store.flush()

    async def churn(self, seed: int) -> None:
        self._churning = asyncio.create_task(churn(self._store, seed))


async def serve(directory: Path, shared: bool, max_size: int | None) -> None:
    store = DiskStore(directory, max_size_bytes=max_size, min_free_bytes=0, shared=shared)
    try:
        await store.open()
    except ForebayError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return
    await store.swept()
    print(json.dumps({"ready": True}), flush=True)
    worker = Worker(store)
    while line := await asyncio.to_thread(sys.stdin.readline):
        word, *values = json.loads(line)
        try:
            answer = {"answer": await getattr(worker, word)(*values)}
        except ForebayError as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
    await store.close()


if __name__ == "__main__":
    size = int(sys.argv[3]) if len(sys.argv) > 3 else None
    asyncio.run(serve(Path(sys.argv[1]), sys.argv[2] == "shared", size))
