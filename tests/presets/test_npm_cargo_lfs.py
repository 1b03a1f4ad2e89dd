# ruff: noqa: E501 - tables read better unbroken
"""Packuments, cargo's ``config.json`` and batch answers of Git LFS."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from forebay.model import Share
from forebay.presets import PRESETS
from forebay.presets.cargo import rewrite_config
from forebay.presets.contract import Promise
from forebay.presets.git_lfs import promise, rewrite_batch
from forebay.presets.npm import rewrite_packument, sri_digest
from tests.presets.making import BASE, INDEX, SHA256, SHA512, context, mount


def packument(tarball: Any, integrity: Any = None) -> dict[str, Any]:
    dist = {"tarball": tarball, "shasum": "1"}
    if integrity is not None:
        dist["integrity"] = integrity
    return {"name": "a", "versions": {"1.0.0": {"name": "a", "dist": dist}}, "time": {"1.0.0": "é"}}


SRI = "sha512-" + base64.b64encode(bytes.fromhex(SHA512)).decode()


@pytest.mark.parametrize(
    ("tarball", "integrity", "expected"),
    [
        (INDEX + "a/-/a-1.0.0.tgz", SRI, BASE + "a/-/a-1.0.0.tgz"),
        (INDEX + "@s/a/-/a-1.0.0.tgz", None, BASE + "@s/a/-/a-1.0.0.tgz"),
        ("https://cdn.example/a.tgz", None, BASE + "~f/https/cdn.example/a.tgz"),
        ("https://cdn.example/a.tgz", SRI, BASE + f"~f/sha512-{SHA512}/https/cdn.example/a.tgz"),
        ("git+ssh://cdn.example/a.tgz", None, "git+ssh://cdn.example/a.tgz"),
        ("https://us er@cdn.example/", None, "https://us er@cdn.example/"),
        (None, None, None),
        (7, None, 7),
    ],
)
def test_tarballs_are_led_through(tarball: Any, integrity: Any, expected: Any) -> None:
    page = packument(tarball, integrity)
    found = json.loads(rewrite_packument(json.dumps(page).encode(), context("npm", "a")))
    assert found["versions"]["1.0.0"]["dist"].pop("tarball") == expected
    page["versions"]["1.0.0"]["dist"].pop("tarball")
    assert found == page


def test_one_version_alone_is_rewritten_too() -> None:
    page = {"name": "a", "version": "1.0.0", "dist": {"tarball": INDEX + "a/-/a.tgz"}}
    found = json.loads(rewrite_packument(json.dumps(page).encode(), context("npm", "a/1.0.0")))
    assert found["dist"]["tarball"] == BASE + "a/-/a.tgz"


@pytest.mark.parametrize(
    "page", [{"versions": 1}, {"versions": {"1": None}}, {"dist": []}, {"versions": []}]
)
def test_a_packument_of_another_shape_is_left_alone(page: Any) -> None:
    assert json.loads(rewrite_packument(json.dumps(page).encode(), context("npm"))) == page


@pytest.mark.parametrize(
    ("integrity", "digest"),
    [
        (SRI, ("sha512", SHA512)), (f"sha1-abc {SRI}?opt", ("sha512", SHA512)), ("sha1-abc", None),
        ("sha512-!!", None), ("", None), (None, None), (3, None),
    ],
)  # fmt: skip
def test_an_integrity_text_is_read(integrity: Any, digest: tuple[str, str] | None) -> None:
    assert sri_digest(integrity) == digest


@pytest.mark.parametrize(
    ("path", "is_packument"),
    [
        ("/a", True), ("/@s%2fa", True), ("/@s%2Fa", True), ("/@s/a", True), ("/a/1.0.0", True),
        ("/a/-/a-1.0.0.tgz", False), ("/-/npm/v1/security/audits", False), ("/-/ping", False),
        ("/@s/a/-/a-1.0.0.tgz", False),
    ],
)  # fmt: skip
def test_packuments_are_told_by_their_path(path: str, is_packument: bool) -> None:
    made = mount("npm", rewrite_links=True)
    assert (PRESETS["npm"].rewrite_for("GET", path, made) is not None) is is_packument


def test_npm_is_rewritten_only_where_the_mount_asks_for_it() -> None:
    assert PRESETS["npm"].rewrite_for("GET", "/a", mount("npm")) is None


@pytest.mark.parametrize(
    ("dl", "expected"),
    [
        ("https://dl.example/crates", BASE + "~f/sha256-{sha256-checksum}/https/dl.example/crates/{crate}/{version}/download"),
        ("https://dl.example/crates/", BASE + "~f/sha256-{sha256-checksum}/https/dl.example/crates/{crate}/{version}/download"),
        ("https://dl.example/{prefix}/{crate}-{version}.crate", BASE + "~f/sha256-{sha256-checksum}/https/dl.example/{prefix}/{crate}-{version}.crate"),
        ("http://dl.example:81", BASE + "~f/sha256-{sha256-checksum}/http/dl.example:81/{crate}/{version}/download"),
        ("https://{crate}.dl.example/", "https://{crate}.dl.example/"),
        ("ftp://dl.example/", "ftp://dl.example/"),
        ("https://u@dl.example/", "https://u@dl.example/"),
    ],
)  # fmt: skip
def test_crates_are_led_through_with_their_checksum(dl: str, expected: str) -> None:
    body = json.dumps({"dl": dl, "api": "https://api.example", "auth-required": False}).encode()
    found = json.loads(rewrite_config(body, context("cargo", "config.json")))
    assert found == {"dl": expected, "api": "https://api.example", "auth-required": False}


def test_crates_of_other_hosts_stay_where_the_mount_does_not_lead_there() -> None:
    body = b'{"dl":"https://dl.example/crates"}'
    assert rewrite_config(body, context("cargo", link_hosts=())) == body


def batch(href: Any, header: Any = None, oid: Any = SHA256) -> dict[str, Any]:
    download = {"href": href, "expires_in": 60}
    if header is not None:
        download["header"] = header
    upload = {"href": "https://store.example/up"}
    return {
        "transfer": "basic",
        "objects": [{"oid": oid, "size": 3, "actions": {"download": download, "upload": upload}}],
    }


STORE = "https://store.example/x?sig=1"


@pytest.mark.parametrize(
    ("given", "href"),
    [
        (batch(STORE), BASE + f"~f/sha256-{SHA256}/https/store.example/x?sig=1"),
        (batch(STORE, {}), BASE + f"~f/sha256-{SHA256}/https/store.example/x?sig=1"),
        (batch(STORE, {"Authorization": "x"}), STORE),
        (batch(STORE, oid="short"), STORE),
        (batch(STORE, oid=None), STORE),
        ({**batch(STORE), "hash_algo": "sha3"}, STORE),
        (batch(INDEX + "o"), BASE + f"~f/sha256-{SHA256}/https/index.example/o"),
    ],
)
def test_downloads_of_a_batch_are_led_through_and_uploads_are_not(given: Any, href: str) -> None:
    found = json.loads(
        rewrite_batch(json.dumps(given).encode(), context("git-lfs", "r/info/lfs/objects/batch"))
    )
    assert found["objects"][0]["actions"]["download"].pop("href") == href
    given["objects"][0]["actions"]["download"].pop("href")
    assert found == given


@pytest.mark.parametrize(
    ("href", "header", "share", "led"),
    [
        (INDEX + "o", {"Authorization": "Basic x"}, Share.PRIVATE, True),
        (INDEX + "o", {"Authorization": "Basic x"}, Share.PASS, False),
        (INDEX + "o", {"Authorization": "Basic x"}, Share.REFUSE, False),
        (INDEX + "o", {"X-Upload-Ticket": "x"}, Share.PRIVATE, False),
        (STORE, {"Authorization": "Basic x"}, Share.PRIVATE, False),
        ("ftp://a.example/o", {"Authorization": "Basic x"}, Share.PRIVATE, False),
    ],
)
def test_a_download_with_fields_is_led_through_where_they_would_reach_the_store(
    href: str, header: dict[str, str], share: Share, led: bool
) -> None:
    at = context("git-lfs", "r/info/lfs/objects/batch", share=share)
    found = json.loads(rewrite_batch(json.dumps(batch(href, header)).encode(), at))
    download = found["objects"][0]["actions"]["download"]
    assert download["href"].startswith(BASE) == led
    assert download["header"] == header


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"objects": 1},
        {"objects": [None, {}, {"oid": SHA256}]},
        {"objects": [{"oid": SHA256, "actions": []}]},
    ],
)
def test_a_batch_of_another_shape_is_left_alone(given: Any) -> None:
    assert json.loads(rewrite_batch(json.dumps(given).encode(), context("git-lfs"))) == given


def test_only_the_answer_to_a_post_is_rewritten() -> None:
    preset, made = PRESETS["git-lfs"], mount("git-lfs")
    assert preset.rewrite_for("POST", "/r.git/info/lfs/objects/batch", made)
    assert not preset.rewrite_for("GET", "/r.git/info/lfs/objects/batch", made)
    assert not preset.rewrite_for("POST", "/r.git/git-upload-pack", made)


def test_an_object_is_known_by_its_id() -> None:
    assert promise(f"/~f/sha256-{SHA256}/https/a.example/x?sig=1") == Promise(
        ("sha-256", SHA256), content=True
    )
    assert promise("/~f/https/a.example/x") is None
    assert promise("/r.git/info/refs") is None
