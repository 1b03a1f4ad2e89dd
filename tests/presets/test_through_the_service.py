"""Presets at work in the whole service, over real sockets: what clients and upstreams see."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import registries
from tests.fakes.origin import Origin, Resource
from tests.live.running import Answer, Running, running
from tests.patience import PATIENCE_SECONDS

SIMPLE = f"Accept: {registries.SIMPLE_JSON}"


@pytest.fixture
async def files() -> AsyncIterator[Origin]:
    async with Origin() as server:
        yield server


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as server:
        yield server


@asynccontextmanager
async def mounted(
    directory: Path, origin: Origin, preset: str, path: str = "/", **more: Any
) -> AsyncIterator[Running]:
    mount = {"name": "m", "preset": preset, "upstream": origin.url(path), **more}
    async with running(directory / "cache", origin, mounts=[mount]) as service:
        yield service


def bodies(*origins: Origin) -> int:
    return sum(origin.body_bytes_sent for origin in origins)


async def test_a_file_is_found_through_the_page_and_comes_once(
    tmp_path: Path, origin: Origin, files: Origin
) -> None:
    file = registries.pypi(origin, files)
    async with mounted(tmp_path, origin, "pypi") as service:
        page = await service.get("/m/simple/waterwheel/", SIMPLE)
        link = page.json()["files"][0]["url"]
        assert link.startswith(f"/m/~f/sha256-{file.sha256}/http/127.0.0.1:")
        assert page.fields["content-length"] == str(len(page.body))
        cold = await service.get(link)
        before = bodies(origin, files)
        hot = await service.get(link)
        again = await service.get("/m/simple/waterwheel/", SIMPLE)
        assert (cold.body, hot.body) == (file.body, file.body)
        assert hot.cache_status.startswith("forebay; hit")
        assert "hit" in again.cache_status
        assert bodies(origin, files) == before
        about = await service.get(link + ".metadata")
        assert about.body.startswith(b"Metadata-Version")


async def test_a_file_that_is_not_what_the_page_promised_is_never_kept(
    tmp_path: Path, origin: Origin, files: Origin
) -> None:
    file = registries.pypi(origin, files)
    files.add(file.path, body=b"x" * len(file.body), etag='"evil"')
    async with mounted(tmp_path, origin, "pypi") as service:
        link = (await service.get("/m/simple/waterwheel/", SIMPLE)).json()["files"][0]["url"]
        for _ in range(2):
            assert not (await service.get(link)).whole
        assert len(files.requests_for(file.path)) >= 2


async def test_a_page_has_a_validator_of_its_own(
    tmp_path: Path, origin: Origin, files: Origin
) -> None:
    registries.pypi(origin, files)
    async with mounted(tmp_path, origin, "pypi") as service:
        page = await service.get("/m/simple/waterwheel/")
        tag = page.fields["etag"]
        assert tag != f'"{len(page.body)}"'
        same = await service.get("/m/simple/waterwheel/", f"If-None-Match: {tag}")
        assert (same.status, same.body, same.fields["etag"]) == (304, b"", tag)
        head = await service.get("/m/simple/waterwheel/", method="HEAD")
        assert (head.status, head.fields["content-length"]) == (200, str(len(page.body)))
        part = await service.get("/m/simple/waterwheel/", "Range: bytes=2-5", f"If-Range: {tag}")
        assert (part.status, part.body) == (206, page.body[2:6])
        beyond = await service.get("/m/simple/waterwheel/", "Range: bytes=99999-")
        assert beyond.status == 416
        parts = await service.get("/m/simple/waterwheel/", "Range: bytes=0-1, 300-301")
        assert parts.fields["content-type"].startswith("multipart/byteranges")
        assert int(parts.fields["content-length"]) == len(parts.body)


async def test_pages_that_are_asked_for_at_once_are_one_question(
    tmp_path: Path, origin: Origin, files: Origin
) -> None:
    registries.pypi(origin, files)
    async with mounted(tmp_path, origin, "pypi") as service:
        pages = await asyncio.gather(*(service.get("/m/simple/waterwheel/") for _ in range(8)))
        assert len({page.body for page in pages}) == 1
        assert len(origin.requests) == 1


@pytest.mark.parametrize("coding", [True, False])
async def test_a_page_that_comes_compressed_is_rewritten_all_the_same(
    tmp_path: Path, origin: Origin, coding: bool
) -> None:
    origin.add(
        "/simple/a/",
        body=b'<a href="../../b.whl">',
        gzip=coding,
        headers=[
            ("content-type", "text/html"),
            *([("content-encoding", "gzip")] if coding else []),
        ],
    )
    async with mounted(tmp_path, origin, "pypi") as service:
        page = await service.get("/m/simple/a/")
        assert page.body == b'<a href="/m/b.whl">'
        assert "content-encoding" not in page.fields


@pytest.mark.parametrize("lines", [(), ("Range: bytes=0-3",), ('If-None-Match: "x"',)])
async def test_what_is_not_what_its_type_says_is_passed_on_as_it_is(
    tmp_path: Path, origin: Origin, lines: tuple[str, ...]
) -> None:
    kind = [("content-type", registries.SIMPLE_JSON)]
    origin.add("/simple/a/", body=b"no json at all", etag='"x"', headers=kind)
    async with mounted(tmp_path, origin, "pypi") as service:
        page = await service.get("/m/simple/a/", *lines)
        expected: dict[tuple[str, ...], tuple[int, bytes]] = {
            (): (200, b"no json at all"),
            ("Range: bytes=0-3",): (206, b"no j"),
        }
        assert (page.status, page.body) == expected.get(lines, (304, b""))


async def test_what_is_no_page_keeps_its_ranges(tmp_path: Path, origin: Origin) -> None:
    origin.add("/data/blob", body=b"0123456789", etag='"x"')
    async with mounted(tmp_path, origin, "pypi") as service:
        part = await service.get("/m/data/blob", "Range: bytes=2-4")
        assert (part.status, part.body, part.fields["etag"]) == (206, b"234", '"x"')
        head = await service.get("/m/data/blob", method="HEAD")
        assert (head.status, head.fields["content-length"]) == (200, "10")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_page_that_is_not_there_is_told_as_upstream_tells_it(
    tmp_path: Path, origin: Origin, method: str
) -> None:
    async with mounted(tmp_path, origin, "pypi") as service:
        assert (await service.get("/m/simple/none/", method=method)).status == 404


async def test_a_link_to_a_host_that_the_mount_does_not_lead_to_is_refused(
    tmp_path: Path, origin: Origin, files: Origin
) -> None:
    registries.pypi(origin, files)
    async with mounted(tmp_path, origin, "pypi", link_hosts=["files.example"]) as service:
        page = await service.get("/m/simple/waterwheel/", SIMPLE)
        # Both origins are one host here, so the upstream's own port is the only one that counts.
        assert page.json()["files"][0]["url"].startswith(files.url())
        refused = await service.get("/m/~f/" + files.url("/x").replace("://", "/"))
        assert refused.status == 403
    assert not files.requests


async def test_links_pass_the_guard_like_any_address_that_a_client_names(
    tmp_path: Path, origin: Origin, files: Origin
) -> None:
    files.add("/x", body=b"secret")
    path = "/m/~f/" + files.url("/x").replace("://", "/")
    closed: dict[str, dict[str, Any]] = {"upstream": {"allow_networks": []}}
    mount = {"name": "m", "preset": "pypi", "upstream": origin.url()}
    async with running(tmp_path / "a", origin, tables=closed, mounts=[mount]) as service:
        assert (await service.get(path)).status == 403
    assert not files.requests
    named = {**mount, "link_hosts": ["127.0.0.1"]}
    async with running(tmp_path / "b", origin, tables=closed, mounts=[named]) as service:
        assert (await service.get(path)).body == b"secret"


async def test_a_file_behind_a_link_is_purged_by_its_address(
    tmp_path: Path, origin: Origin, files: Origin
) -> None:
    file = registries.pypi(origin, files)
    async with mounted(tmp_path, origin, "pypi") as service:
        link = (await service.get("/m/simple/waterwheel/", SIMPLE)).json()["files"][0]["url"]
        await service.get(link)
        purged = await service.admin("/-/purge", {"url": files.url(file.path)})
        assert purged.json()["objects"] == 1


async def test_a_hub_answers_with_200_and_the_fields_of_its_redirect(
    tmp_path: Path, origin: Origin, files: Origin
) -> None:
    large, _ = registries.hub(origin, files)
    path = f"/m/org/model/resolve/{registries.COMMIT}/large.bin"
    async with mounted(tmp_path, origin, "huggingface") as service:
        for method in ("HEAD", "GET", "HEAD"):
            answer = await service.get(path, method=method)
            assert answer.status == 200
            assert answer.fields["x-repo-commit"] == registries.COMMIT
            assert answer.fields["etag"] == answer.fields["x-linked-etag"] == f'"{large.sha256}"'
            assert answer.fields["content-length"] == str(len(large.body))
            assert not any("xet" in n or "xet" in v for n, v in answer.fields.items())
        before = bodies(origin, files)
        assert (await service.get(path)).body == large.body
        assert bodies(origin, files) == before


async def test_a_hubs_file_under_a_branch_is_asked_about_and_not_sent_again(
    tmp_path: Path, origin: Origin, files: Origin
) -> None:
    large, _ = registries.hub(origin, files)
    async with mounted(tmp_path, origin, "huggingface") as service:
        await service.get("/m/org/model/resolve/main/large.bin")
        asked = len(origin.requests)
        again = await service.get("/m/org/model/resolve/main/large.bin")
        assert again.body == large.body
        assert "fwd=stale" in again.cache_status
        assert len(origin.requests) == asked + 1


async def test_a_hubs_file_is_continued_although_its_store_has_other_tags(
    tmp_path: Path, origin: Origin, files: Origin
) -> None:
    large, _ = registries.hub(origin, files)
    path = f"/m/org/model/resolve/{registries.COMMIT}/large.bin"
    async with mounted(tmp_path, origin, "huggingface") as service:
        tail = await service.get(path, "Range: bytes=500000-")
        assert (tail.status, tail.body) == (206, large.body[500_000:])
        assert (await service.get(path)).body == large.body
        assert files.body_bytes_sent <= len(large.body)


async def test_a_listing_says_nothing_of_xet_and_goes_on_through_us(
    tmp_path: Path, origin: Origin
) -> None:
    kind = [("content-type", "application/json")]
    link = ("link", f'<{origin.url("/api/models/a/tree/main?cursor=2")}>; rel="next"')
    origin.add(
        "/api/models/a/tree/main", body=b'[{"path":"a","xetHash":"h"}]', headers=[*kind, link]
    )
    async with mounted(tmp_path, origin, "huggingface") as service:
        listing = await service.get("/m/api/models/a/tree/main")
        assert listing.json() == [{"path": "a"}]
        next_page = f"http://127.0.0.1:{service.port}/m/api/models/a/tree/main?cursor=2"
        assert listing.fields["link"] == f'<{next_page}>; rel="next"'


async def test_a_registrys_tokens_are_fetched_for_the_client(
    tmp_path: Path, origin: Origin
) -> None:
    image = registries.registry(origin, token="let-me-in")
    async with mounted(tmp_path, origin, "oci") as service:
        root = await service.get("/v2/")
        assert (root.status, root.body) == (200, b"{}")
        head = await service.get("/v2/m/library/mill/manifests/latest", method="HEAD")
        assert head.fields["docker-content-digest"] == image.digest
        manifest = await service.get(f"/v2/m/library/mill/manifests/{image.digest}")
        assert manifest.body == image.manifest.body
        layer = f"blobs/sha256:{image.layer.sha256}"
        assert (await service.get(f"/v2/m/library/mill/{layer}")).body == image.layer.body
        assert len(origin.requests_for("/token")) == 1
        # The same layer of another repository, and as containerd asks, is the same bytes.
        before = len(origin.requests)
        assert (
            await service.get(f"/v2/m/other/mill/{layer}?ns=a.example")
        ).body == image.layer.body
        assert len(origin.requests) == before


async def test_a_registry_that_grants_nothing_is_told_without_its_challenge(
    tmp_path: Path, origin: Origin
) -> None:
    registries.registry(origin, token="let-me-in")
    origin.add("/token", status=403, body=b"{}")
    async with mounted(tmp_path, origin, "oci") as service:
        refused = await service.get("/v2/m/library/mill/manifests/latest")
        assert refused.status == 401
        assert "www-authenticate" not in refused.fields


async def test_a_token_that_has_ended_is_fetched_anew(tmp_path: Path, origin: Origin) -> None:
    registries.registry(origin, token="first")
    async with mounted(tmp_path, origin, "oci") as service:
        path = "/v2/m/library/mill/manifests/latest"
        assert (await service.get(path)).status == 200
        registries.registry(origin, token="second")
        assert (await service.get(path)).status == 200
        assert len(origin.requests_for("/token")) == 2


async def test_a_layer_that_is_not_its_digest_is_never_kept(tmp_path: Path, origin: Origin) -> None:
    image = registries.registry(origin)
    path = f"{image.layer.path}sha256:{image.layer.sha256}"
    origin.put(path, Resource(body=b"x" * 5000, etag='"x"'))
    async with mounted(tmp_path, origin, "oci") as service:
        mine = path.replace("/v2/", "/v2/m/")
        assert not (await service.get(mine)).whole
        registries.registry(origin)
        assert (await service.get(mine)).body == image.layer.body


async def test_an_object_of_lfs_is_known_by_its_id_whatever_address_is_signed(
    tmp_path: Path, origin: Origin, files: Origin
) -> None:
    file = registries.lfs(origin, files)
    async with mounted(tmp_path, origin, "git-lfs") as service:

        async def download() -> Answer:
            batch = await service.get(
                "/m/mill.git/info/lfs/objects/batch",
                "Content-Type: application/vnd.git-lfs+json",
                method="POST",
                body=b'{"operation":"download"}',
            )
            href = json.loads(batch.body)["objects"][0]["actions"]["download"]["href"]
            base = f"http://127.0.0.1:{service.port}"
            assert href.startswith(f"{base}/m/~f/sha256-{file.sha256}/http/")
            return await service.get(href.removeprefix(base))

        assert (await download()).body == file.body
        again = await download()
        assert again.body == file.body
        assert again.cache_status.startswith("forebay; hit")
        assert len(files.requests) == 1


async def test_a_crate_is_checked_by_the_checksum_in_its_address(
    tmp_path: Path, origin: Origin, files: Origin
) -> None:
    file = registries.crates(origin, files)
    async with mounted(tmp_path, origin, "cargo") as service:
        dl = (await service.get("/m/config.json")).json()["dl"]
        values = {"{crate}": "waterwheel", "{version}": "1.0.0", "{sha256-checksum}": file.sha256}
        for marker, value in values.items():
            dl = dl.replace(marker, value)
        path = dl.removeprefix(f"http://127.0.0.1:{service.port}")
        assert (await service.get(path)).body == file.body
        wrong = path.replace(file.sha256, hashlib.sha256(b"").hexdigest())
        assert not (await service.get(wrong)).whole


async def test_a_mount_at_a_host_of_its_own_links_from_the_root(
    tmp_path: Path, origin: Origin, files: Origin
) -> None:
    file = registries.npm(origin, files)
    more: dict[str, Any] = {"hosts": ["npm.lan"], "rewrite_links": True}
    async with mounted(tmp_path, origin, "npm", **more) as service:
        assert (await service.get("/waterwheel")).status == 404  # by its address it is none
        page = await _as_host(service, "npm.lan", "/waterwheel")
        tarball = page["versions"]["1.0.0"]["dist"]["tarball"]
        assert tarball.startswith("http://npm.lan/~f/sha512-")
        assert tarball.endswith(file.path)


async def _as_host(service: Running, host: str, path: str) -> Any:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    raw = await asyncio.wait_for(reader.read(), PATIENCE_SECONDS)
    writer.close()
    return json.loads(raw.partition(b"\r\n\r\n")[2])


async def test_a_large_file_of_a_hub_that_is_not_what_its_tag_says_is_never_kept(
    tmp_path: Path, origin: Origin, files: Origin
) -> None:
    large, _ = registries.hub(origin, files)
    files.add(large.path, body=b"x" * len(large.body), etag='"store-multipart-1"')
    path = f"/m/org/model/resolve/{registries.COMMIT}/large.bin"
    async with mounted(tmp_path, origin, "huggingface") as service:
        for _ in range(2):
            assert not (await service.get(path)).whole
        files.add(large.path, body=large.body, etag='"store-multipart-2"')
        assert (await service.get(path)).body == large.body
