"""The dashboard in a real browser: its policy lets its own script run, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.clients.chromium import Chromium, chromium
from tests.fakes.origin import Origin
from tests.live.running import TOKEN, running

BODY = b"x" * 100_000


async def _open(browser: Chromium, token: str) -> None:
    await browser.evaluate(
        f"document.getElementById('token').value = {json.dumps(token)};"
        "document.querySelector('#door button').click()"
    )


async def _until(browser: Chromium, condition: str) -> Any:
    """The value of this expression in the page, once it holds."""
    return await browser.evaluate(
        "new Promise((done) => { const look = () => { let found = null;"
        f"try {{ found = {condition}; }} catch {{}}"
        "found ? done(found) : setTimeout(look, 20); }; look(); })"
    )


async def test_the_dashboard_shows_what_is_stored_and_purges_it_for_who_has_the_token(
    tmp_path: Path, origin: Origin
) -> None:
    origin.add("/file", body=BODY, etag='"1"', headers=[("cache-control", "max-age=60")])
    mounts = [{"name": "files", "upstream": origin.url("/")}]
    async with (
        running(tmp_path / "cache", origin, mounts=mounts) as service,
        chromium(tmp_path) as browser,
    ):
        await service.get("/files/file")
        await browser.call("Page.enable")
        await browser.call("Page.navigate", url=f"http://127.0.0.1:{service.port}/-/")
        await browser.wait_for("Page.loadEventFired")
        await _open(browser, "a-wrong-one")
        assert await _until(browser, "document.getElementById('refusal').textContent")
        assert await browser.evaluate("document.getElementById('inside').hidden")
        await _open(browser, TOKEN)
        assert "1 object" in await _until(browser, "document.getElementById('room').textContent")
        kept = "localStorage.length + sessionStorage.length + document.cookie.length"
        assert await browser.evaluate(kept) == 0
        await browser.evaluate(
            "window.confirm = () => true; document.querySelector('#objects button').click()"
        )
        await _until(browser, "document.getElementById('told').textContent.includes('1 object')")
        listed = await service.admin("/-/objects")
        assert listed.json()["objects"] == []
