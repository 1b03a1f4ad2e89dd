# ruff: noqa: E501 - tables read better unbroken
"""Link paths: what becomes one, what one leads to, and that none leads where it may not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.errors import InvalidTarget, TargetForbidden
from forebay.presets.links import check_link, leads_to, local_link, parse_link
from forebay.rules import urls
from tests.presets.making import INDEX, SHA256, SHA512, context, mount

PAGE = urls.parse(INDEX + "simple/a/")


@pytest.mark.parametrize(
    ("reference", "digest", "local"),
    [
        ("b.whl", None, "simple/a/b.whl"),
        ("/packages/b.whl", None, "packages/b.whl"),
        ("../../packages/b.whl", None, "packages/b.whl"),
        ("../../../../b.whl", None, "b.whl"),
        (INDEX + "b.whl?x=1#f", None, "b.whl?x=1#f"),
        ("//index.example/b.whl", None, "b.whl"),
        ("https://INDEX.example:443/b.whl", None, "b.whl"),
        ("http://index.example/b.whl", None, "~f/http/index.example/b.whl"),
        ("https://files.example/b.whl", None, "~f/https/files.example/b.whl"),
        ("https://files.example:8443/b?s=1", None, "~f/https/files.example:8443/b?s=1"),
        ("https://files.example", None, "~f/https/files.example/"),
        ("https://[2001:db8::1]/b", None, "~f/https/[2001:db8::1]/b"),
        ("b.whl", ("sha256", SHA256), f"~f/sha256-{SHA256}/https/index.example/simple/a/b.whl"),
        ("b.whl", ("SHA256", SHA256.upper()), f"~f/sha256-{SHA256}/https/index.example/simple/a/b.whl"),
        ("https://f.example/b", ("sha512", SHA512), f"~f/sha512-{SHA512}/https/f.example/b"),
        ("b.whl", ("md5", "ab" * 16), "simple/a/b.whl"),
        ("b.whl", ("sha256", "abc"), "simple/a/b.whl"),
        ("a b.whl", None, "simple/a/a%20b.whl"),
        ("é.whl", None, "simple/a/%C3%A9.whl"),
        ("a+b%2Bc.whl", None, "simple/a/a+b%2Bc.whl"),
    ],
)  # fmt: skip
def test_a_reference_becomes_a_path_of_the_mount(
    reference: str, digest: tuple[str, str] | None, local: str
) -> None:
    assert local_link(context("pypi"), reference, PAGE, digest) == local


@pytest.mark.parametrize(
    "reference",
    [
        "mailto:a@b.example", "javascript:alert(1)", "ftp://files.example/b", "data:,a",
        "https://user:word@files.example/b", "https://2130706433/b", "http://a.example:99999/b",
        "https://files.example/a\\b", "https://fi\x00les.example/", "\ud800",
    ],
)  # fmt: skip
def test_what_cannot_be_led_through_stays_as_it_is(reference: str) -> None:
    assert local_link(context("pypi"), reference, PAGE) is None


@pytest.mark.parametrize(
    ("patterns", "host", "leads"),
    [
        ((), "files.example", False),
        ((), "index.example", True),
        (("*",), "files.example", True),
        (("files.example",), "files.example", True),
        (("files.example",), "a.files.example", False),
        (("*.files.example",), "a.files.example", True),
        (("*.files.example",), "files.example", False),
        (("*.files.example",), "evilfiles.example", False),
    ],
)
def test_a_mount_leads_to_its_upstreams_and_to_the_hosts_it_names(
    patterns: tuple[str, ...], host: str, leads: bool
) -> None:
    made = mount("pypi", link_hosts=patterns)
    url = urls.parse(f"https://{host}/b")
    assert leads_to(made, url) is leads
    local = local_link(context("pypi", link_hosts=patterns), str(url), PAGE)
    assert (local is not None) is leads
    if leads:
        check_link(made, url)
    else:
        with pytest.raises(TargetForbidden):
            check_link(made, url)


def test_another_port_or_scheme_of_an_upstream_is_another_place() -> None:
    made = mount("pypi", link_hosts=())
    assert not leads_to(made, urls.parse("https://index.example:8443/a"))
    assert not leads_to(made, urls.parse("http://index.example/a"))


def test_a_place_beside_the_upstreams_path_is_another_place() -> None:
    made = mount("pypi", "https://index.example/pub/", link_hosts=())
    assert leads_to(made, urls.parse("https://index.example/pub/a"))
    assert not leads_to(made, urls.parse("https://index.example/private/a"))
    assert not leads_to(made, urls.parse("https://index.example/pub/../private/a"))


@pytest.mark.parametrize(
    ("path", "url", "digest"),
    [
        ("/~f/https/files.example/b", "https://files.example/b", None),
        ("/%7Ef/https/files.example/b", "https://files.example/b", None),
        ("/~f/https/files.example%3A8443/b?q=1", "https://files.example:8443/b?q=1", None),
        ("/~f/http/files.example", "http://files.example/", None),
        (f"/~f/sha256-{SHA256}/https/f.example/b", "https://f.example/b", ("sha-256", SHA256)),
        (f"/~f/sha512-{SHA512}/https/f.example/b", "https://f.example/b", ("sha-512", SHA512)),
        (f"/~f/sha256-{SHA256}/https/f.example/b.whl.metadata", "https://f.example/b.whl.metadata", None),
        (f"/~f/sha256-{SHA256}/https/f.example/b.whl.asc", "https://f.example/b.whl.asc", None),
    ],
)  # fmt: skip
def test_a_link_path_is_read(path: str, url: str, digest: tuple[str, str] | None) -> None:
    link = parse_link(path)
    assert link is not None
    assert (str(link.url), link.digest) == (url, digest)


@pytest.mark.parametrize(
    "path", ["/f/https/a/b", "/~f/ftp/a/b", "/~f/", "/~f/https", "/a/~f/https/b/c"]
)
def test_any_other_path_is_no_link(path: str) -> None:
    assert parse_link(path) is None


@pytest.mark.parametrize(
    "path",
    [
        "/~f/https/user@files.example/b", "/~f/https/127.1/b", "/~f/https/a%2Fb/c",
        "/~f/sha256-abcd/https/a.example/b", "/~f/https/a.example%00/b", "/~f/https/a.example:0/b",
    ],
)  # fmt: skip
def test_a_link_that_cannot_be_read_is_refused(path: str) -> None:
    with pytest.raises(InvalidTarget):
        parse_link(path)


_hosts = st.from_regex(r"[a-z][a-z0-9-]{0,8}[a-z0-9]\.example", fullmatch=True)
_paths = st.text(st.characters(codec="latin-1", exclude_characters="?#\\"), max_size=30)


@given(
    host=_hosts,
    port=st.one_of(st.none(), st.integers(1, 65535)),
    path=_paths,
    digest=st.one_of(st.none(), st.just(("sha256", SHA256))),
)
def test_a_link_path_leads_back_to_the_address_it_was_made_from(
    host: str, port: int | None, path: str, digest: tuple[str, str] | None
) -> None:
    text = f"https://{host}{'' if port is None else f':{port}'}/{path}x"
    local = local_link(context("pypi"), text, PAGE, digest)
    if local is None:
        return
    assert local.isascii()
    link = parse_link("/" + local.partition("#")[0])
    assert link is not None
    assert link.url == urls.join(PAGE, text.encode().decode("latin-1").replace(" ", "%20"))


@given(st.text(max_size=60))
def test_no_text_makes_linking_fail(reference: str) -> None:
    local = local_link(context("pypi", link_hosts=()), reference, PAGE)
    if local is not None:
        assert not local.startswith("~f/")
