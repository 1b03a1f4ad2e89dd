# ruff: noqa: E501 - tables read better unbroken
"""What is immutable, what is asked again, and that settings and presets name the same things."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from forebay.model import Mount, Policy
from forebay.presets import PRESETS, preset_of, preset_settings
from forebay.presets.contract import Promise
from forebay.presets.plain import by_hash
from forebay.rules.lifetimes import is_immutable_path
from forebay.settings import Defaults, MountTable
from forebay.settings.mounts import Preset
from tests.presets.making import SHA256

H = SHA256


def built(preset: str, **keys: object) -> Mount:
    table = MountTable.model_validate(
        {"name": "m", "upstream": "https://index.example/", "preset": preset, **keys}
    )
    return table.build(Defaults(), preset_settings())


def policy_of(preset: str) -> Policy:
    return built(preset).policy


def test_settings_and_presets_name_the_same_presets() -> None:
    assert set(get_args(Preset)) == set(PRESETS)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_makes_a_mount_and_compiles(name: str) -> None:
    policy = policy_of(name)
    for pattern in (*policy.immutable_patterns, *(pattern for pattern, _ in policy.ttl_patterns)):
        re.compile(pattern)


def test_an_unknown_preset_is_generic() -> None:
    assert preset_of(Mount(name="m", prefix="/m/", preset="of-tomorrow")).name == "generic"


@pytest.mark.parametrize(
    ("preset", "path"),
    [
        ("apt", "/pool/main/a/a_1%2bb1_amd64.deb"),
        ("apt", f"/dists/stable/main/binary-amd64/by-hash/SHA256/{H}"),
        ("pypi", "/packages/ab/a-1-py3-none-any.whl"),
        ("pypi", "/packages/ab/a-1-py3-none-any.whl.metadata"),
        ("pypi", "/packages/ab/a-1.tar.gz?sig=1"),
        ("npm", "/a/-/a-1.0.0.tgz"),
        ("npm", "/@s/a/-/a-1.0.0.tgz"),
        ("huggingface", f"/org/model/resolve/{'0' * 40}/a/b.bin"),
        ("huggingface", f"/datasets/org/d/resolve/{'0' * 40}/a.bin?download=true"),
        ("conda", "/main/linux-64/a-1-0.conda"),
        ("conda", "/main/linux-64/a-1-0.tar.bz2"),
        ("maven", "/org/a/a/1.0/a-1.0.jar"),
        ("maven", "/org/a/a/1.0/a-1.0.pom.sha1"),
        ("go", "/mill.example/!a/b/@v/v1.0.0.zip"),
        ("go", "/mill.example/a/b/@v/v1.0.0+incompatible.mod"),
        ("go", "/sumdb/sum.example/tile/8/0/001"),
        ("cargo", "/crates/a/1.0.0/download"),
        ("cargo", "/a/a-1.0.0.crate"),
        ("dnf", f"/repodata/{H}-primary.xml.zst"),
        ("dnf", "/Packages/a/a-1.rpm"),
        ("git-lfs", f"/o/{H}"),
        ("oci", f"/library/a/blobs/sha256:{H}"),
        ("oci", f"/library/a/manifests/sha256%3a{H}"),
        ("immutable", "/anything"),
    ],
)
def test_what_cannot_change_is_never_asked_again(preset: str, path: str) -> None:
    assert is_immutable_path(policy_of(preset), path)


@pytest.mark.parametrize(
    ("preset", "path"),
    [
        ("apt", "/dists/stable/InRelease"),
        ("apt", "/dists/stable/main/binary-amd64/Packages.xz"),
        ("pypi", "/simple/a/"),
        ("npm", "/a"),
        ("huggingface", "/org/model/resolve/main/a.bin"),
        ("huggingface", "/api/models/org/model"),
        ("conda", "/main/linux-64/repodata.json.zst"),
        ("maven", "/org/a/a/maven-metadata.xml"),
        ("maven", "/org/a/a/maven-metadata.xml.sha1"),
        ("maven", "/org/a/a/1-SNAPSHOT/a-1-20200101.1-1.jar"),
        ("go", "/mill.example/a/b/@v/list"),
        ("go", "/mill.example/a/b/@latest"),
        ("go", "/sumdb/sum.example/latest"),
        ("cargo", "/config.json"),
        ("cargo", "/it/oa/itoa"),
        ("dnf", "/repodata/repomd.xml"),
        ("git-lfs", "/r.git/info/refs?service=git-upload-pack"),
        ("oci", "/library/a/manifests/latest"),
        ("oci", "/library/a/tags/list"),
        ("generic", "/a.whl"),
    ],
)
def test_what_may_change_is_not_immutable(preset: str, path: str) -> None:
    assert not is_immutable_path(policy_of(preset), path)


@pytest.mark.parametrize(
    ("path", "digest"),
    [
        (f"/dists/a/by-hash/SHA256/{H}", ("sha-256", H)),
        (f"/dists/a/by-hash/SHA512/{H}{H}", ("sha-512", H + H)),
        (f"/dists/a/by-hash/MD5Sum/{H[:32]}", ("md5", H[:32])),
        (f"/dists/a/by-hash/SHA1/{H[:40]}", ("sha", H[:40])),
        (f"/dists/a/by-hash/SHA256/{H[:40]}", None),
        ("/dists/a/InRelease", None),
    ],
)
def test_by_hash_is_a_promise(path: str, digest: tuple[str, str] | None) -> None:
    assert by_hash(path) == (None if digest is None else Promise(digest))


def test_a_mount_adds_to_its_presets_patterns_and_sets_its_keys() -> None:
    made = built(
        "apt", immutable=[".*/x"], ttl_patterns=[[".*/dists/.*", "5m"]], stale_if_error="2d"
    )
    assert made.policy.immutable_patterns[0] == ".*/x"
    assert is_immutable_path(made.policy, "/a.deb")
    assert made.policy.ttl_patterns[0] == (".*/dists/.*", 300.0)
    assert made.policy.stale_if_error_seconds == 172_800.0


def test_a_preset_goes_before_the_defaults() -> None:
    table = MountTable.model_validate(
        {"name": "m", "upstream": "https://i.example", "preset": "apt"}
    )
    defaults = Defaults.model_validate(
        {"heuristic_fraction": 0.5, "negative_ttl": "1h", "max_tries": 9}
    )
    made = table.build(defaults, preset_settings())
    assert made.policy.heuristic_fraction == 0.0
    assert made.policy.negative_ttl_seconds == 10.0
    assert made.transfer.max_tries == 9


@pytest.mark.parametrize(
    ("given", "url_in_path", "link_hosts"),
    [
        ({}, True, ("*",)), ({}, False, ()), ({"link_hosts": []}, True, ()),
        ({"link_hosts": "F.example"}, False, ("f.example",)),
        ({"link_hosts": ["*"]}, False, ("*",)), ({"link_hosts": ["*.f.example"]}, True, ("*.f.example",)),
    ],
)  # fmt: skip
def test_a_mount_leads_where_clients_may_go_anyway_unless_it_says(
    given: dict[str, object], url_in_path: bool, link_hosts: tuple[str, ...]
) -> None:
    table = MountTable.model_validate({"name": "m", "upstream": "https://i.example", **given})
    assert table.build(Defaults(url_in_path=url_in_path), {}).link_hosts == link_hosts


def test_a_container_registry_stands_under_v2() -> None:
    made = built("oci")
    assert (made.prefix, made.upstreams) == ("/v2/m/", ("https://index.example/v2/",))
    assert built("oci", prefix="/v2/").prefix == "/v2/"
    assert built("oci", upstream="https://i.example/v2").upstreams == ("https://i.example/v2/",)
