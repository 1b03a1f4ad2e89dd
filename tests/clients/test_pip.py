"""pip through a mount: from a small honest index here, and from the one this machine uses."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
import tomli_w

from tests.clients.conftest import run
from tests.fakes.origin import Origin
from tests.live.children import child

pytestmark = pytest.mark.clients

MAX_AGE = ("cache-control", "max-age=600")
WHEEL = "tiny_thing-1.0-py3-none-any.whl"
_LINK = re.compile(r'<a\s[^>]*href="([^"]+\.whl[^"]*)"', re.I)


def make_wheel() -> bytes:
    """The smallest wheel that pip takes, with a payload that compresses badly."""
    files = {
        "tiny_thing.py": b"DATA = " + repr(os.urandom(200_000)).encode(),
        "tiny_thing-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny-thing\n"
        b"Version: 1.0\n",
        "tiny_thing-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\n"
        b"Root-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},{_digest(data)},{len(data)}\n" for name, data in files.items())
    record += "tiny_thing-1.0.dist-info/RECORD,,\n"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in {**files, "tiny_thing-1.0.dist-info/RECORD": record.encode()}.items():
            archive.writestr(name, data)
    return packed.getvalue()


def _digest(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


async def pip_download(index: str, name: str, tmp_path: Path, into: str) -> bytes:
    ran = await run(
        sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir",
        "--disable-pip-version-check", "--index-url", index, "-d", str(tmp_path / into), name,
        cwd=tmp_path, PIP_CONFIG_FILE=os.devnull,
    )  # fmt: skip
    assert ran.status == 0, ran.output
    [file] = await asyncio.to_thread(lambda: list((tmp_path / into).iterdir()))
    return await asyncio.to_thread(file.read_bytes)


async def test_pip_downloads_a_wheel_through_a_mount_and_once_only(
    tmp_path: Path, origin: Origin
) -> None:
    wheel = make_wheel()
    digest = hashlib.sha256(wheel).hexdigest()
    page = f'<!DOCTYPE html><a href="../../files/{WHEEL}#sha256={digest}">{WHEEL}</a>'
    html = ("content-type", "text/html")
    origin.add("/simple/tiny-thing/", body=page.encode(), etag='"p"', headers=[html, MAX_AGE])
    origin.add(f"/files/{WHEEL}", body=wheel, etag='"w"', headers=[MAX_AGE])
    config = tmp_path / "forebay.toml"
    mounts = {"mounts": [{"name": "py", "upstream": origin.url("/")}]}
    await asyncio.to_thread(config.write_text, tomli_w.dumps(mounts))
    async with child(tmp_path / "cache", origin, config=config) as service:
        index = f"http://127.0.0.1:{service.port}/py/simple/"
        for number in range(2):
            assert await pip_download(index, "tiny-thing", tmp_path, str(number)) == wheel
    assert len(origin.requests_for(f"/files/{WHEEL}")) == 1
    pages = origin.requests_for("/simple/tiny-thing/")
    assert [page.status for page in pages] == [200, 304], "pip wants a page that is up to date"


def machines_index() -> str:
    """The index that pip uses here by its own configuration, or by its own default."""
    told = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"],
        capture_output=True,
        text=True,
        check=False,
    )
    configured = os.environ.get("PIP_INDEX_URL") or told.stdout.strip()
    if not configured:
        from pip._internal.models.index import PyPI

        configured = PyPI.simple_url
    return configured.rstrip("/") + "/"


async def test_a_real_index_page_and_a_real_wheel_come_from_disk_the_second_time(
    tmp_path: Path, origin: Origin
) -> None:
    index = await asyncio.to_thread(machines_index)
    config = tmp_path / "forebay.toml"
    mounts = [{"name": "index", "upstream": index}]
    await asyncio.to_thread(config.write_text, tomli_w.dumps({"mounts": mounts}))
    async with child(tmp_path / "cache", origin, config=config) as service:
        lines = ("Accept: text/html",)
        page = await service.get("/index/six/", *lines)
        if page.status != 200:
            pytest.skip(f"the machine's index is out of reach ({page.status} through us)")
        link = _LINK.findall(page.body.decode())[-1].partition("#")[0]
        wheel_url = urljoin(index + "six/", link)
    target = urlsplit(wheel_url)
    files = f"{target.scheme}://{target.netloc}/"
    mounts.append({"name": "files", "upstream": files, "preset": "immutable"})
    await asyncio.to_thread(config.write_text, tomli_w.dumps({"mounts": mounts}))
    async with child(tmp_path / "cache", origin, config=config) as service:
        path = "/files" + target.path + (f"?{target.query}" if target.query else "")
        first = await service.get(path)
        assert (first.status, first.whole) == (200, True), first.fields
        again = await service.get(path)
        assert again.body == first.body
        assert "hit" in again.cache_status
        assert zipfile.is_zipfile(io.BytesIO(again.body))
        page_again = await service.get("/index/six/", *lines)
        assert page_again.status == 200
