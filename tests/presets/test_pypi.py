# ruff: noqa: E501 - tables of pages read better unbroken
"""Simple indexes, in HTML and JSON (PEP 503, 629, 658, 691, 714)."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.presets import PRESETS, preset_of
from forebay.presets.pypi import rewrite_html, rewrite_json, rewrite_page
from tests.presets.making import BASE, INDEX, SHA256, context, mount

HERE = context("pypi")
FILE = "https://files.example/packages/a-1.whl"
LINKED = f"/m/~f/sha256-{SHA256}/https/files.example/packages/a-1.whl"


def rewritten(page: str, **more: object) -> str:
    here = context("pypi", **more)  # type: ignore[arg-type]
    return rewrite_html(page.encode(), here).decode()


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (f'<a href="{FILE}#sha256={SHA256}">a</a>', f'<a href="{LINKED}#sha256={SHA256}">a</a>'),
        (f"<a href='{FILE}'>a</a>", '<a href="/m/~f/https/files.example/packages/a-1.whl">a</a>'),
        (f"<a href={FILE}>a</a>", '<a href="/m/~f/https/files.example/packages/a-1.whl">a</a>'),
        (f"<A HREF = {FILE}>a</A>", '<A HREF="/m/~f/https/files.example/packages/a-1.whl">a</A>'),
        ('<a href="../../packages/a.whl">', '<a href="/m/packages/a.whl">'),
        ('<a href="/packages/a.whl">', '<a href="/m/packages/a.whl">'),
        ('<a href="a.whl#egg=a&amp;sha256=' + SHA256 + '">',
         f'<a href="/m/~f/sha256-{SHA256}/https/index.example/simple/a/a.whl#egg=a&amp;sha256={SHA256}">'),
        ('<a href="a.whl?x=1&amp;y=2">', '<a href="/m/simple/a/a.whl?x=1&amp;y=2">'),
        ('<a href="&#97;.whl">', '<a href="/m/simple/a/a.whl">'),
        ('<a data-requires-python=">=3.7" href="a.whl">', '<a data-requires-python=">=3.7" href="/m/simple/a/a.whl">'),
        ('<a href="a.whl" data-dist-info-metadata="sha256=1" data-core-metadata="sha256=1" data-yanked="x > y">',
         '<a href="/m/simple/a/a.whl" data-dist-info-metadata="sha256=1" data-core-metadata="sha256=1" data-yanked="x > y">'),
        ('<a title="no href=&quot;x&quot;" href="a.whl">', '<a title="no href=&quot;x&quot;" href="/m/simple/a/a.whl">'),
        ("<a title='href=\"x\"' href='a.whl'>", "<a title='href=\"x\"' href=\"/m/simple/a/a.whl\">"),
        ("<a href>", "<a href>"),
        ('<a\n  href="a.whl"\n>', '<a\n  href="/m/simple/a/a.whl"\n>'),
        ('<a href="mailto:a@b.c">', '<a href="mailto:a@b.c">'),
        ('<abbr href="a">', '<abbr href="a">'),
        ('<link href="a">', '<link href="a">'),
        ('<a name="x">', '<a name="x">'),
        ('<a data-href="a.whl">', '<a data-href="a.whl">'),
        ('<base href="https://other.example/d/"><a href="a.whl">',
         '<a href="/m/~f/https/other.example/d/a.whl">'),
        ('<base href="../b/"><a href="a.whl">', '<a href="/m/simple/b/a.whl">'),
        ('<base href="../b/"><base href="/c/"><a href="a.whl">', '<a href="/m/simple/b/a.whl">'),
        ('<base target="_top"><a href="a.whl">', '<base target="_top"><a href="/m/simple/a/a.whl">'),
        ("no links at all", "no links at all"),
        ("", ""),
        ('<a href="a.whl', '<a href="a.whl'),
    ],
)  # fmt: skip
def test_a_page_in_html(page: str, expected: str) -> None:
    assert rewritten(page) == expected


def test_only_links_to_hosts_that_the_mount_leads_to_are_changed() -> None:
    page = f'<a href="{FILE}">a</a><a href="b.whl">b</a>'
    assert (
        rewritten(page, link_hosts=()) == f'<a href="{FILE}">a</a><a href="/m/simple/a/b.whl">b</a>'
    )


def test_without_its_base_a_page_keeps_where_other_links_lead() -> None:
    page = '<base href="https://other.example/d/"><a href="a.whl">'
    assert rewritten(page, link_hosts=()) == '<a href="https://other.example/d/a.whl">'


def test_octets_that_are_no_utf8_stay() -> None:
    page = b'\xff<a href="a.whl">\xfe</a>'
    assert rewrite_html(page, HERE) == b'\xff<a href="/m/simple/a/a.whl">\xfe</a>'


def test_a_page_asked_for_without_its_slash_has_the_links_of_the_page_with_it() -> None:
    page = b'<a href="../../p/a.whl">'
    assert rewrite_html(page, context("pypi", "simple/a")) == b'<a href="/m/p/a.whl">'


def test_a_host_of_its_own_has_paths_from_the_root() -> None:
    page = b'<a href="a.whl">'
    assert (
        rewrite_html(page, context("pypi", base="http://pypi.lan/"))
        == b'<a href="/simple/a/a.whl">'
    )


def test_a_file_in_json_is_led_through_with_its_digest() -> None:
    page = {
        "meta": {"api-version": "1.1"},
        "name": "a",
        "files": [
            {"filename": "a-1.whl", "url": FILE, "hashes": {"sha256": SHA256}, "core-metadata": {"sha256": "1"},
             "provenance": "https://index.example/integrity/a", "yanked": "é"},
            {"filename": "b.whl", "url": "../../b.whl", "hashes": {}},
        ],
        "versions": ["1"],
    }  # fmt: skip
    found = json.loads(rewrite_json(json.dumps(page).encode(), HERE))
    assert [file["url"] for file in found["files"]] == [LINKED, "/m/b.whl"]
    assert found["files"][0]["provenance"] == BASE + "integrity/a"
    for file in (*page["files"], *found["files"]):
        file.pop("url")
        file.pop("provenance", None)
    assert found == page


@pytest.mark.parametrize("body", [b"", b"[]", b"nonsense", b'{"files": ', b"\xff", b"[" * 100_000])
def test_json_that_is_none_is_told(body: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        rewrite_json(body, HERE)


@pytest.mark.parametrize(
    "page",
    [{}, {"files": None}, {"files": 7}, {"files": [1, None, [], {}]}, {"files": [{"url": 3}]},
     {"files": [{"url": "a", "hashes": 3}]}, {"files": [{"url": "a.whl", "hashes": {"sha256": 1}}]}],
)  # fmt: skip
def test_json_of_another_shape_is_left_alone(page: object) -> None:
    rewrite_json(json.dumps(page).encode(), HERE)


def test_the_form_of_a_page_is_told_by_its_type() -> None:
    as_json = context("pypi", media_type="application/vnd.pypi.simple.v1+json")
    assert (
        rewrite_page(b'{"files":[{"url":"b"}]}', as_json) == b'{"files":[{"url":"/m/simple/a/b"}]}'
    )
    as_html = context("pypi", media_type="text/html")
    assert rewrite_page(b'<a href="b">', as_html) == b'<a href="/m/simple/a/b">'


@pytest.mark.parametrize(
    ("path", "is_page"),
    [
        ("/simple/a/", True), ("/simple/a", True), ("/simple/zope.interface/", True), ("/", True),
        ("/simple/a/?format=x", True), ("/packages/a.whl", False), ("/p/a.whl.metadata", False),
        ("/p/a-1.0.tar.gz", False), ("/p/a.zip?sig=1", False), ("/p/a.tar.gz.asc", False),
    ],
)  # fmt: skip
def test_files_are_never_taken_for_pages(path: str, is_page: bool) -> None:
    found = PRESETS["pypi"].rewrite_for("GET", path, mount("pypi"))
    assert (found is not None) is is_page


def test_a_mount_may_leave_links_alone() -> None:
    made = mount("pypi", rewrite_links=False)
    assert preset_of(made).rewrite_for("GET", "/simple/a/", made) is None


class _Hrefs(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += [value for name, value in attrs if name == "href" and value]


_names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,12}", fullmatch=True)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "../../p/", "/p/", INDEX + "p/", "https://f.example/p/"]),
            _names,
            st.sampled_from(["", f"#sha256={SHA256}"]),
            st.text(max_size=8),
        ),
        max_size=8,
    )
)
def test_a_parser_finds_every_link_led_through_and_all_else_as_it_was(
    links: list[tuple[str, str, str, str]],
) -> None:
    page = "".join(
        f'<a href="{html.escape(base + name + mark)}" data-yanked="{html.escape(why)}">{name}</a>\n'
        for base, name, mark, why in links
    )
    found = rewritten(page)
    hrefs = _Hrefs()
    hrefs.feed(found)
    assert len(hrefs.found) == len(links)
    for href, (_, name, mark, _) in zip(hrefs.found, links, strict=True):
        assert href.startswith("/m/")
        assert href.endswith(name + mark)
        assert bool(mark) == href.startswith("/m/~f/sha256-")
    without = re.compile(r'href="[^"]*"')
    assert without.sub("", found) == without.sub("", page)


@given(st.binary(max_size=300))
def test_no_page_makes_rewriting_fail(page: bytes) -> None:
    rewrite_html(page, HERE)
    rewrite_html(b'<a href="' + page + b'">', HERE)


def test_a_hostile_page_takes_no_more_than_linear_time() -> None:
    # Quadratic matching of this would take hours, and the suite's own limit would tell.
    rewrite_html(b'<a "' * 400_000, HERE)
    rewrite_html(b"<a href=" * 400_000, HERE)
