"""From request to target: every way in, one key for every spelling, nothing unkeyed upstream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.errors import InvalidTarget, RequestError, UnknownMount
from forebay.model import Fields, Mount, Policy, Request, Target
from forebay.rules.targets import resolve

URL = Mount(name="url", prefix="/")
PYPI = Mount(
    name="pypi",
    prefix="/pypi/",
    upstreams=("https://index.example/", "https://mirror.example/py/"),
)
DEEP = Mount(name="deep", prefix="/pypi/deep/", upstreams=("http://deep.example/x/",))
HOSTED = Mount(
    name="hosted",
    prefix="/hosted/",
    upstreams=("http://up.example/",),
    hosts=("files.local", "Alt.local:8000"),
)
ROOT = Mount(name="root", prefix="/", upstreams=("http://root.example/base/",))
MOUNTS = (URL, PYPI, DEEP, HOSTED)


def ask(
    path: str, query: str | None = None, *, authority: str = "", absolute: bool = False
) -> Request:
    return Request("GET", path, query, authority=authority, absolute=absolute)


def target(path: str, query: str | None = None, mounts: tuple[Mount, ...] = MOUNTS) -> Target:
    return resolve(ask(path, query), mounts)


@pytest.mark.parametrize(
    "path",
    [
        "/http://h.example:8080/a%2fb/c",
        "/http:/h.example:8080/a%2fb/c",
        "/http:///h.example:8080/a%2fb/c",
        "//http://h.example:8080/a%2fb/c",
        "/http%3A/h.example%3A8080/a%2fb/c",
        "/HTTP%3a//H.Example:8080/a%2Fb/c",
        "/http://h.example.:8080/a%2fb/./x/../c",
        "/http://h.example:8080/a%2fb/%2e/x/%2E%2e/c",
        "/http://h.example:8080/a%2fb/c#fragment",
    ],
)
def test_every_spelling_of_a_url_in_the_path_has_one_key(path: str) -> None:
    plain = target("/http://h.example:8080/a%2fb/c", "q=1&r")
    found = target(path, "q=1&r")
    assert found.key == plain.key
    assert found.urls[0].lower() == "http://h.example:8080/a%2fb/c?q=1&r"
    assert found.mount is URL
    assert found.path.lower() == "/a%2fb/c?q=1&r"


def test_all_ways_to_name_a_url_share_its_key() -> None:
    by_path = target("/http://h.example/p", "q")
    by_url = resolve(ask("/-/fetch", "url=x"), MOUNTS, url="http://h.example/p?q")
    absolute = resolve(ask("/p", "q", authority="h.example:80", absolute=True), MOUNTS)
    assert by_path.key == by_url.key == absolute.key
    assert by_path.urls == by_url.urls == absolute.urls == ("http://h.example/p?q",)


def test_the_octets_of_path_and_query_go_upstream_as_they_came() -> None:
    found = target("/https://h.example/@s%2fn/!x%21/a+b%25/%e9//", "a=%2f&b=c+d&&e")
    assert found.urls == ("https://h.example/@s%2fn/!x%21/a+b%25/%e9//?a=%2f&b=c+d&&e",)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("/http://h/a", "/http://h/A"),
        ("/http://h/a", "/http://h/a/"),
        ("/http://h/a", "/https://h/a"),
        ("/http://h/a", "/http://h:81/a"),
        ("/http://h/a", "/http://h//a"),
        ("/http://h/a%2fb", "/http://h/a/b"),
        ("/http://h/%61", "/http://h/a"),
        ("/http://h/a+b", "/http://h/a%20b"),
        ("/http://index.example/a", "/pypi/a"),
        ("/pypi/a", "/pypi/b"),
    ],
)
def test_what_may_be_two_things_has_two_keys(one: str, other: str) -> None:
    assert target(one).key != target(other).key


def test_query_order_and_an_empty_query_belong_to_the_key() -> None:
    keys = [target("/http://h/a", query).key for query in (None, "", "a&b", "b&a")]
    assert len(set(keys)) == 4


def test_a_mount_maps_its_rest_to_every_mirror() -> None:
    found = target("/pypi/simple/x%2fy/", "v=1")
    assert found.urls == (
        "https://index.example/simple/x%2fy/?v=1",
        "https://mirror.example/py/simple/x%2fy/?v=1",
    )
    assert (found.mount, found.path) == (PYPI, "/simple/x%2fy/?v=1")


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("/pypi", "https://index.example/"),
        ("/pypi/", "https://index.example/"),
        ("/pypi/deep/f", "http://deep.example/x/f"),
        ("/pypi/deep", "http://deep.example/x/"),
        ("/pypi/deeper", "https://index.example/deeper"),
        ("/pypi/deep/../f", "https://index.example/f"),
        ("/pypi/%2e%2e/pypi/f", "https://index.example/f"),
        ("/pypi//evil.example/f", "https://index.example//evil.example/f"),
        ("/pypi/http://evil.example/f", "https://index.example/http://evil.example/f"),
    ],
)
def test_the_longest_prefix_wins_and_no_path_leaves_its_mount(path: str, url: str) -> None:
    assert target(path).urls[0] == url


@pytest.mark.parametrize("path", ["/pypi/../x", "/pypix/y", "/", "/pypi/%2e%2e", "/Pypi/x", "*"])
def test_a_path_below_no_prefix_is_unknown(path: str) -> None:
    with pytest.raises(UnknownMount):
        target(path)


@pytest.mark.parametrize(
    ("path", "meant"), [("/pyip/simple/", "/pypi/"), ("/hostde", "/hosted/"), ("/files/x", None)]
)
def test_a_mount_that_is_misspelt_is_named(path: str, meant: str | None) -> None:
    with pytest.raises(UnknownMount) as refused:
        target(path)
    said = str(refused.value)
    assert said.endswith(f"host/path. {meant} is served." if meant else "host/path.")


def test_a_mount_at_the_root_takes_the_rest_but_not_urls_in_the_path() -> None:
    mounts = (ROOT, URL, PYPI)
    assert target("/a/b", "q", mounts).urls == ("http://root.example/base/a/b?q",)
    assert target("/", None, mounts).urls == ("http://root.example/base/",)
    assert target("/pypi/x", None, mounts).mount is PYPI
    assert target("/https://h.example/x", None, mounts).mount is URL
    assert target("/https://h.example/x", None, (ROOT,)).mount is ROOT


@pytest.mark.parametrize("authority", ["files.local", "FILES.local.", "files.local:8000"])
@pytest.mark.parametrize("absolute", [True, False])
def test_a_mount_may_claim_a_host(authority: str, absolute: bool) -> None:
    found = resolve(ask("/pypi/x", "q", authority=authority, absolute=absolute), MOUNTS)
    assert (found.mount, found.urls) == (HOSTED, ("http://up.example/pypi/x?q",))
    assert found.key == target("/hosted/pypi/x", "q").key


def test_a_host_claimed_with_its_port_is_claimed_at_that_port_only() -> None:
    assert resolve(ask("/x", authority="alt.local:8000"), MOUNTS).mount is HOSTED
    with pytest.raises(UnknownMount):
        resolve(ask("/x", authority="alt.local:9000"), MOUNTS)


def test_urls_in_full_need_the_built_in_mount() -> None:
    for request in (ask("/http://h/a"), ask("/a", authority="h", absolute=True)):
        with pytest.raises(UnknownMount):
            resolve(request, (PYPI,))
    with pytest.raises(UnknownMount):
        resolve(ask("/-/fetch"), (PYPI,), url="http://h/a")


@pytest.mark.parametrize(
    "path",
    [
        "/ftp://h/a", "/file:///etc/passwd", "/http://u:p@h/", "/http://127.1/", "/http://",
        "/http:/", "/http%3A/", "/http://h:99999/", "/http://h%3A99999/", "/http://h/a b",
        "/http://h/\\", "/http://h/\x00", "/http://h/\r\n", "/pypi/a\\b", "/pypi/a\tb",
        "/http://[fe80::1%25a]/", "/http://h/" + "x" * 9000, "/pypi/" + "x" * 9000,
        "/http://h%2f@evil/", "/https%3A/u%40h/",
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(path: str) -> None:
    with pytest.raises(InvalidTarget):
        target(path)


@given(st.text(st.characters(max_codepoint=255), max_size=60), st.sampled_from(MOUNTS))
def test_no_path_raises_anything_but_a_request_error(text: str, mount: Mount) -> None:
    for path in ("/" + text, mount.prefix + text, "/http://" + text, "/http://h/" + text):
        try:
            found = target(path, text)
        except RequestError:
            continue
        assert all(url.isascii() and url.isprintable() for url in found.urls)
        assert found.name.isascii()


@given(st.text(alphabet="ab/.%2eE", max_size=30))
def test_no_path_below_a_mount_leaves_the_base_of_its_upstream(rest: str) -> None:
    found = target("/pypi/deep/q" + rest, None, (DEEP, ROOT))
    base = "http://deep.example/x/" if found.mount is DEEP else "http://root.example/base/"
    assert found.urls[0].startswith(base)


@pytest.mark.parametrize(
    "rest",
    [
        "..%2Fsecret", "a/..%2f..%2fsecret", "..%5Csecret", "..%5c..%5csecret", "%2e%2e%2fsecret",
        "a%2F..%2Fb", "a%2F%2E%2E", "..;/secret", "..;x=1/secret", "%2e.;/secret", "..%3B/secret",
        "a%2f..;b%2fc", "a%5c..",
    ],
)  # fmt: skip
def test_no_path_that_some_servers_read_as_leaving_the_base_is_asked_for(rest: str) -> None:
    """They decode slashes and backslashes before they resolve dots, or cut parameters off."""
    with pytest.raises(InvalidTarget, match=r"leads out"):
        target("/pypi/deep/q/" + rest, None, (DEEP, ROOT))


@pytest.mark.parametrize(
    "rest",
    [
        "@scope%2fname",
        "a..b",
        "a%2F..b",
        "..a;b",
        "...",
        "v1.2..v1.3%5Cx",
        "%252e%252e%252fa",
        "a;..",
    ],
)
def test_other_encoded_octets_go_to_the_upstream_as_they_came(rest: str) -> None:
    assert target("/pypi/deep/q/" + rest, None, (DEEP, ROOT)).urls[0].endswith("/q/" + rest)


# key and policy


def test_dropped_parameters_leave_the_key_and_stay_in_the_request() -> None:
    signed = Mount(name="url", prefix="/", policy=Policy(drop_query=("sig", "a b")))
    one = target("/http://h/a", "v=1&sig=x&a%20b=1", (signed,))
    two = target("/http://h/a", "sig=y&v=1&s%69g=z&a+b", (signed,))
    assert one.key == two.key != target("/http://h/a", "v=2&sig=x", (signed,)).key
    assert one.urls == ("http://h/a?v=1&sig=x&a%20b=1",)


def test_a_star_drops_the_whole_query_from_the_key() -> None:
    free = Mount(name="url", prefix="/", policy=Policy(drop_query=("*",)))
    assert target("/http://h/a", "x", (free,)).key == target("/http://h/a", None, (free,)).key


def test_a_key_is_hex_and_says_nothing() -> None:
    key = target("/http://h/secret", "token=abc").key
    assert len(key) == 64
    assert int(key, 16) >= 0


@pytest.mark.parametrize(
    "name",
    [
        "X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token", "Signature", "sig",
        "token", "Policy", "Key-Pair-Id", "access_token", "X-Goog-Signature", "api_key",
        "s%69g", "my_secret", "%74oken",
        "__token__", "x-api-key-v2", "signature_v4",
    ],
)  # fmt: skip
def test_values_that_look_like_credentials_are_masked_in_the_name(name: str) -> None:
    found = target("/https://h/a", f"v=1&{name}=s3cr3t&w")
    assert found.name == f"https://h/a?v=1&{name}=***&w"
    assert "s3cr3t" in found.urls[0]


# forwarded fields


def forwarded(fields: list[tuple[str, str]], names: tuple[str, ...] = ("accept",)) -> Target:
    mount = Mount(name="m", prefix="/m/", upstreams=("http://u/",), forward=names)
    return resolve(Request("GET", "/m/x", None, Fields(fields)), (mount,))


@pytest.mark.parametrize(
    "lines",
    [
        ["Application/JSON;q=0.9, text/html"],
        ["text/html,application/json; q=0.9"],
        ["text/html", "application/json ;Q = 0.9"],
        ["application/json;q=0.9, text/html, text/html,,"],
    ],
)
def test_accept_is_one_value_however_it_is_written(lines: list[str]) -> None:
    found = forwarded([("Accept", line) for line in lines])
    assert list(found.forwarded) == [("accept", "application/json;q=0.9, text/html")]
    assert found.key == forwarded([("accept", "text/html,application/json;q=0.9")]).key


@pytest.mark.parametrize("value", [None, "", " , ", "*/*", "text/html, */*;q=0.1", "*/* ;q=1"])
def test_an_accept_that_takes_anything_is_left_out(value: str | None) -> None:
    found = forwarded([] if value is None else [("accept", value)])
    assert len(found.forwarded) == 0
    assert found.key == forwarded([]).key


def test_forwarded_fields_select_a_variant_under_one_key_and_others_do_not() -> None:
    names = ("accept", "X-Kind")
    kind_a = forwarded([("x-kind", " a\t"), ("x-other", "1")], names)
    assert list(kind_a.forwarded) == [("x-kind", "a")]
    assert kind_a.variant == forwarded([("X-Kind", "a"), ("cookie", "c")], names).variant
    assert kind_a.variant != forwarded([("x-kind", "b")], names).variant
    assert kind_a.variant != forwarded([], names).variant


@pytest.mark.parametrize(
    "name", ["Range", "If-None-Match", "Host", "Connection", "Accept-Encoding"]
)
def test_some_fields_are_never_forwarded(name: str) -> None:
    assert len(forwarded([(name, "x")], (name,)).forwarded) == 0


# digests


def test_expected_digests_are_normalised_and_not_in_the_key() -> None:
    hex64 = "AB" * 32
    found = resolve(ask("/http://h/a"), MOUNTS, expected_digests=[("SHA-256", f" {hex64}")])
    assert found.expected_digests == (("sha-256", hex64.lower()),)
    assert found.key == target("/http://h/a").key


@pytest.mark.parametrize("value", ["", "abc", "zz" * 32, "ab" * 31])
def test_a_digest_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(InvalidTarget):
        resolve(ask("/http://h/a"), MOUNTS, expected_digests=[("sha-256", value)])
