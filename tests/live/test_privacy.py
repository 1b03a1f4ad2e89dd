"""Marked secrets go in by every way in; none of them comes to rest anywhere, or out elsewhere."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.fakes.origin import Origin
from tests.live.running import TOKEN, Running, running

FRESH = ("cache-control", "max-age=600")
MARK = "5eCr3t"
CLIENT_TOKEN = f"{MARK}ClientToken"
MOUNT_TOKENS = [{"name": "bob", "token": CLIENT_TOKEN}]
SIGNED = (
    f"X-Amz-Algorithm=A&X-Amz-Credential={MARK}Cred&X-Amz-Signature={MARK}Sig"
    f"&X-Amz-Security-Token={MARK}Sts"
)
QUERIES = (
    SIGNED,
    f"Signature={MARK}a&Key-Pair-Id={MARK}b&Policy={MARK}c",
    f"sv=1&sig={MARK}d",
    f"X-Goog-Signature={MARK}e",
    f"access_token={MARK}f",
    f"x%2damz%2dsignature={MARK}g",
    f"refresh-token={MARK}h",
    f"__token__={MARK}i",
    f"verify={MARK}j",
)
LINES = (
    f"Authorization: Bearer {MARK}Authorization",
    f"Cookie: session={MARK}Cookie",
    f"X-Api-Key: {MARK}ApiKey",
    f"Proxy-Authorization: Basic {MARK}Proxy",
)


def texts_of(directory: Path) -> dict[str, bytes]:
    """What is in every file below; of the index also what is in its pages that are in use."""
    found = {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    for name in [name for name in found if name.endswith(".db")]:
        with closing(sqlite3.connect(name)) as database:
            found[name + " as SQL"] = "\n".join(database.iterdump()).encode("utf-8", "replace")
    return found


async def push(service: Running, origin: Origin) -> list[bytes]:
    """Secrets through every route; what came back as errors and as answers of the admin side."""
    told: list[bytes] = []

    async def ask(path: str, *lines: str, method: str = "GET") -> None:
        answer = await service.get(path, *lines, method=method)
        told.append(repr(answer.fields).encode())
        if answer.status >= 400:
            told.append(answer.body)

    url = origin.url
    for query in QUERIES:
        await ask(f"/{url('/f?' + query)}", *LINES)
        for path in ("/f", "/vary", "/to-signed"):
            for _ in range(3):  # what is shared: stored, then hot
                await ask(f"/{url(path + '?' + query)}", *LINES[1:])
        await ask(f"/-/fetch?url={url('/f%3F' + query.replace('&', '%26'))}", *LINES)
        await ask(url("/g?" + query), *LINES)  # a client that takes us for its proxy
        await ask(f"/m/f?{query}", f"Authorization: Bearer {CLIENT_TOKEN}", *LINES[1:])
        await ask(f"/m/f?{query}", f"Authorization: Bearer {MARK}Wrong", *LINES[1:])
        for path in ("/missing", "/broken", "/private", "/to-signed", "/vary", "/cookies"):
            await ask(f"/{url(path + '?' + query)}", *LINES)
        await ask(f"/{url('/f?' + query)}", *LINES, method="POST")
        await ask(f"/http://127.0.0.1:1/closed?{query}", *LINES)
        await ask(f"/http://unresolvable.invalid/?{query}", *LINES)
        await ask(f"/-/nothing?{query}", f"Authorization: Bearer {TOKEN}")
        await ask(f"/nowhere/at/all?{query}", *LINES)
    host = url("/f").removeprefix("http://")
    await ask(f"/http://user:{MARK}Password@{host}", *LINES)
    await ask(f"/-/fetch?url=http://user:{MARK}Password@{host}", *LINES)
    await ask(f"/-/fetch?url=http://{host}&{MARK}=Parameter", *LINES)
    await ask(f"/http://user:{MARK}Password@[::bad/f", *LINES)
    await ask("/-/stats", f"Authorization: Bearer {MARK}WrongAdminToken")
    await ask(f"/{url('/f?' + SIGNED)}", f"Authorization: Bearer {TOKEN}", method="PURGE")
    for order in (
        {"url": url("/f?" + SIGNED)},
        {"url": f"http://user:{MARK}Password@{host}"},
        {"prefix": url("/nothing?" + SIGNED)},
        {"tag": "x", "url": f"http://u:{MARK}Password@h/"},
        {"nobody-knows-this": MARK},
    ):
        answer = await service.admin("/-/purge", order)
        told.append(answer.body)
    return told


async def test_no_secret_is_in_logs_metrics_admin_answers_errors_or_on_disk(
    tmp_path: Path, origin: Origin, caplog: pytest.LogCaptureFixture, no_leaks: None
) -> None:
    body = b"content" * 1000
    for query in ("", *("?" + query for query in QUERIES)):
        origin.add("/f" + query, body=body, etag='"1"', headers=[FRESH])
        origin.add("/g" + query, body=body, etag='"1"', headers=[FRESH])
        origin.add("/private" + query, body=body, headers=[("cache-control", "private")])
        origin.add("/broken" + query, body=body, truncate_at=10)
        origin.add("/to-signed" + query, redirect_to=f"/signed?{SIGNED}")
        vary = ("vary", "authorization, cookie, x-api-key")
        origin.add("/vary" + query, body=body, headers=[FRESH, vary])
        cookies = ("set-cookie", f"session={MARK}SetCookie")
        origin.add("/cookies" + query, body=body, headers=[FRESH, cookies])
    origin.add("/slow?" + SIGNED, body=body, etag='"1"', headers=[FRESH], stall_at=100)
    origin.add("/signed?" + SIGNED, body=body, etag='"1"', headers=[FRESH])
    mounts = [{"name": "m", "upstream": origin.url("/"), "client_tokens": MOUNT_TOKENS}]
    told: list[bytes] = []
    with caplog.at_level(logging.DEBUG, logger="forebay"):
        async with running(tmp_path / "cache", origin, mounts=mounts) as service:
            await service.start(service.path("/slow?" + SIGNED), *LINES[1:])
            transfers = await service.admin("/-/transfers")
            assert len(transfers.json()["transfers"][0]["segments"]) == 1
            told.append(transfers.body)
            told += await push(service, origin)
            objects = await service.admin("/-/objects")
            assert len(objects.json()["objects"]) > 10
            told.append(objects.body)
            for path in ("/-/transfers", "/-/stats", "/-/scrub", "/-/openapi.json", "/metrics"):
                told.append((await service.admin(path)).body)
        files = await asyncio.to_thread(texts_of, tmp_path / "cache")
    secrets = [MARK.lower().encode(), TOKEN.encode(), CLIENT_TOKEN.lower().encode()]
    for what in told:
        assert not [s for s in secrets if s in what.lower()], what
    assert any(record.name == "forebay.audit" for record in caplog.records)
    lines = "\n".join(logging.Formatter().format(record) for record in caplog.records)
    assert not [
        line for line in lines.splitlines() if any(s in line.lower().encode() for s in secrets)
    ]
    assert any(name.endswith("as SQL") for name in files)
    for name, content in files.items():
        if not name.endswith("admin-token"):
            found = [content.lower().find(s) for s in secrets if s in content.lower()]
            context = [content[max(0, at - 200) : at + 50] for at in found]
            assert not context, (name, context)
