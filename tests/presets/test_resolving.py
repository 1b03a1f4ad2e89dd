"""From request to target with presets: links, promises, registries at the root, keys."""

from __future__ import annotations

from dataclasses import replace

import pytest

from forebay.errors import TargetForbidden, UnknownMount
from forebay.model import Fields, Mount, Request
from forebay.presets.resolving import context_of, linked_key, resolve
from forebay.rules.lifetimes import is_immutable_path
from tests.presets.making import SHA256, mount

URL = Mount(name="url", prefix="/")
PYPI = mount("pypi", "https://a.example/", "https://b.example/")
BLOB = f"blobs/sha256:{SHA256}"


def registry(name: str, upstream: str, prefix: str = "") -> Mount:
    return Mount(name=name, prefix=prefix or f"/v2/{name}/", upstreams=(upstream,), preset="oci")


ONE = registry("one", "https://one.example/v2/")
TWO = registry("two", "https://two.example:5000/v2/")
ROOT = registry("root", "https://root.example/v2/", "/v2/")


def test_a_link_to_an_upstream_has_all_mirrors_and_the_key_of_its_own_path() -> None:
    linked = resolve(Request("GET", "/m/~f/https/b.example/x.whl"), (PYPI, URL))
    plain = resolve(Request("GET", "/m/x.whl"), (PYPI, URL))
    assert linked == plain
    assert linked.urls == ("https://a.example/x.whl", "https://b.example/x.whl")


def test_a_link_elsewhere_is_guarded_and_no_other_requests_key() -> None:
    linked = resolve(Request("GET", "/m/~f/https/c.example/x.whl", "q=1"), (PYPI, URL))
    by_url = resolve(Request("GET", "/https://c.example/x.whl", "q=1"), (PYPI, URL))
    assert linked.urls == by_url.urls == ("https://c.example/x.whl?q=1",)
    assert linked.key != by_url.key
    assert (linked.mount.name, linked.mount.upstreams) == ("m", ())
    assert linked_key(PYPI, "https://c.example/x.whl?q=1") == linked.key


def test_a_host_that_is_named_in_full_is_as_open_as_an_upstream() -> None:
    named = replace(PYPI, link_hosts=("c.example",))
    linked = resolve(Request("GET", "/m/~f/https/c.example/x"), (named, URL))
    assert linked.mount.upstreams == ("https://c.example/",)
    pattern = replace(PYPI, link_hosts=("*.example",))
    assert resolve(Request("GET", "/m/~f/https/c.example/x"), (pattern,)).mount.upstreams == ()


@pytest.mark.parametrize(
    ("link_hosts", "sent"),
    [(("*",), {"accept"}), (("c.example",), {"accept", "cookie", "x-api-key"})],
)
def test_secrets_that_a_mount_forwards_go_to_hosts_it_names_and_no_further(
    link_hosts: tuple[str, ...], sent: set[str]
) -> None:
    given = Fields([("accept", "text/html"), ("cookie", "a=b"), ("x-api-key", "k")])
    made = replace(PYPI, link_hosts=link_hosts, forward=("accept", "cookie", "x-api-key"))
    linked = resolve(Request("GET", "/m/~f/https/c.example/x", fields=given), (made, URL))
    assert {name for name, _ in linked.forwarded} == sent


@pytest.mark.parametrize("preset", ["generic", "immutable", "apt", "maven", "oci"])
def test_a_preset_without_links_has_no_link_paths(preset: str) -> None:
    made = mount(preset)
    target = resolve(Request("GET", "/m/~f/https/c.example/x"), (made,))
    assert target.urls == ("https://index.example/~f/https/c.example/x",)


def test_a_link_to_a_host_that_is_not_led_to_is_refused() -> None:
    with pytest.raises(TargetForbidden):
        resolve(Request("GET", "/m/~f/https/c.example/x"), (replace(PYPI, link_hosts=()),))


def test_a_digest_in_a_link_is_expected_and_makes_it_immutable() -> None:
    path = f"/m/~f/sha256-{SHA256}/https/c.example/any"
    target = resolve(Request("GET", path), (PYPI,))
    assert target.expected_digests == (("sha-256", SHA256),)
    assert is_immutable_path(target.mount.policy, target.path)


def test_what_the_client_expects_goes_before_what_a_link_says() -> None:
    path, other = f"/m/~f/sha256-{SHA256}/https/c.example/any", "00" * 32
    target = resolve(Request("GET", path), (PYPI,), expected_digests=[("sha-256", other)])
    assert target.expected_digests == (("sha-256", other),)
    assert target.variant != resolve(Request("GET", path), (PYPI,)).variant


def test_a_blob_is_one_object_for_all_repositories_and_clients() -> None:
    accepts = Fields([("accept", "application/vnd.oci.image.manifest.v1+json")])
    targets = [
        resolve(Request("GET", f"/v2/one/{repository}/{BLOB}", None, fields), (ONE, TWO))
        for repository in ("a", "b/c")
        for fields in (Fields(), accepts)
    ]
    assert len({(target.key, target.variant) for target in targets}) == 1
    other = resolve(Request("GET", f"/v2/two/a/{BLOB}"), (ONE, TWO))
    assert other.key != targets[0].key, "another mount is another trust"


def test_a_by_hash_path_keeps_its_own_key() -> None:
    apt = mount("apt")
    target = resolve(Request("GET", f"/m/dists/s/by-hash/SHA256/{SHA256}"), (apt,))
    assert target.expected_digests == (("sha-256", SHA256),)
    other = resolve(Request("GET", f"/m/dists/t/by-hash/SHA256/{SHA256}"), (apt,))
    assert other.key != target.key


@pytest.mark.parametrize(
    ("path", "query", "url"),
    [
        ("/v2/a/manifests/l", "ns=one.example", "https://one.example/v2/a/manifests/l"),
        ("/v2/a/manifests/l", "ns=two.example%3A5000", "https://two.example:5000/v2/a/manifests/l"),
        ("/v2/a/manifests/l", "ns=unknown.example", "https://root.example/v2/a/manifests/l"),
        ("/v2/two/a/tags/list", "ns=one.example", "https://two.example:5000/v2/a/tags/list"),
        ("/v2/two/a/tags/list", "n=5&ns=x&last=b", "https://two.example:5000/v2/a/tags/list?n=5&last=b"),
        ("/v2/a/tags/list", "n=5", "https://root.example/v2/a/tags/list?n=5"),
    ],
)  # fmt: skip
def test_a_namespace_chooses_among_registries_and_is_not_sent(
    path: str, query: str, url: str
) -> None:
    assert resolve(Request("GET", path, query), (ONE, TWO, ROOT)).urls == (url,)


def test_without_a_mount_at_the_root_an_unknown_namespace_is_nothing() -> None:
    with pytest.raises(UnknownMount):
        resolve(Request("GET", "/v2/a/tags/list", "ns=unknown.example"), (ONE, TWO))


def test_a_query_that_only_looks_like_a_namespace_stays_elsewhere() -> None:
    target = resolve(Request("GET", "/m/x", "ns=1"), (mount("generic"), ONE))
    assert target.urls == ("https://index.example/x?ns=1",)


@pytest.mark.parametrize(
    ("authority", "base"),
    [("cache:8000", "http://cache:8000/m/"), ("PyPI.lan:80", "http://PyPI.lan:80/")],
)
def test_a_mount_is_seen_where_the_client_asked_for_it(authority: str, base: str) -> None:
    made = replace(PYPI, hosts=("pypi.lan",))
    path = "/x" if "lan" in authority else "/m/x"
    request = Request("GET", path, authority=authority)
    assert context_of(request, resolve(request, (made,))).base_url == base
