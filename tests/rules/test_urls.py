"""URLs are read strictly and have one normal form."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from forebay.errors import InvalidTarget
from forebay.rules import urls

NORMAL = [
    ("http://example.org", "http://example.org/"),
    ("HTTP://Example.ORG/A", "http://example.org/A"),
    ("http://example.org:80/", "http://example.org/"),
    ("https://example.org:443/", "https://example.org/"),
    ("https://example.org:80/", "https://example.org:80/"),
    ("http://example.org:/", "http://example.org/"),
    ("http://example.org:00080/", "http://example.org/"),
    ("http://example.org./", "http://example.org/"),
    ("http://example.org?q", "http://example.org/?q"),
    ("http://example.org/?", "http://example.org/?"),
    ("http://example.org/a#b?c", "http://example.org/a"),
    ("http://example.org/a/./b/../c", "http://example.org/a/c"),
    ("http://example.org/a/%2e/b/%2E%2e/c", "http://example.org/a/c"),
    ("http://example.org/a/.%2e", "http://example.org/"),
    ("http://example.org/a/b/..", "http://example.org/a/"),
    ("http://example.org/../../a", "http://example.org/a"),
    ("http://example.org/a//b/", "http://example.org/a//b/"),
    ("http://example.org//..//a", "http://example.org//a"),
    ("http://example.org/...", "http://example.org/..."),
    ("http://example.org/%2f..%2f", "http://example.org/%2f..%2f"),
    ("http://example.org/@s%2fn+%21~%7E?a=b%20c&d", None),
    ("http://example.org/100%", "http://example.org/100%25"),
    ("http://example.org/%zz%4", "http://example.org/%25zz%254"),
    ("http://example.org/\xc3\xa9?\xff", "http://example.org/%C3%A9?%FF"),
    ("http://b\xc3\xbccher.example/", "http://xn--bcher-kva.example/"),
    ("http://B\xc3\x9cCHER.example/", "http://xn--bcher-kva.example/"),
    ("http://a\xe2\x80\x8bb\xc2\xad/", "http://ab/"),
    ("http://my_host-1/", None),
    ("http://127.0.0.1:8080/", None),
    ("http://[::1]:8080/", None),
    ("http://[0:0::1]/", "http://[::1]/"),
    ("http://[2001:DB8::A]:80/", "http://[2001:db8::a]/"),
    ("http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/"),
]


@pytest.mark.parametrize(("text", "normal"), NORMAL)
def test_a_url_has_one_normal_form(text: str, normal: str | None) -> None:
    url = urls.parse(text)
    assert str(url) == (normal or text)
    assert urls.parse(str(url)) == url


BROKEN = [
    "", "/", "example.org", "//example.org/", "http:", "http://", "http:///a", "http://?q",
    "ftp://example.org/", "file:///etc/passwd", "gopher://a/", "javascript:alert(1)",
    "http:/example.org/", "http:example.org", "http+unix://a/",
    "http://user@example.org/", "http://user:pw@example.org/", "http://@example.org/",
    "http://example.org@127.0.0.1/", "http://example.org%40127.0.0.1/",
    "http://a:0/", "http://a:65536/", "http://a:99999/", "http://a:+80/", "http://a:8_0/",
    "http://a:-1/", "http://a: 80/", "http://a:80:80/", "http://a:x/", "http://a:\xb2/",
    "http://a:000080/",
    "http://a b/", "http://a/b c", "http://a\\b/", "http://a/\\b", "http:\\\\a/", "http://a\t/",
    "http://a/\n", "http://a/\r\nX: y", "http://a/\x00", "http://a/\x7f", " http://a/",
    "http://.", "http://a..b/", "http://.a/", "http://a../", "http://a,b/", "http://a%2eb/",
    "http://%31%32%37.0.0.1/", "http://a*b/", "http://a!b/", "http://" + "a" * 64 + "/",
    "http://" + "a." * 127 + "com/", "http://a/" + "x" * urls.MAX_URL_BYTES,
    "http://[::1/", "http://::1/", "http://[]/", "http://[::1]x/", "http://[1.2.3.4]/",
    "http://[fe80::1%25eth0]/", "http://[fe80::1%eth0]/", "http://[v1.a]/", "http://[[::1]]/",
    "http://127.1/", "http://127.0.1/", "http://2130706433/", "http://0x7f000001/",
    "http://0x7f.1/", "http://0177.0.0.1/", "http://127.0.0.01/", "http://0x7f.0x0.0x0.0x1/",
    "http://017700000001/", "http://0/", "http://127.0.0.1.0/", "http://256.0.0.1/",
    "http://a.0x/", "http://1.2.3.0x4/", "http://example.123/", "http://127.1./",
    "http://0X7F.1/",
    "http://127\xe3\x80\x820\xe3\x80\x820\xe3\x80\x821/", "http://a\xef\xbc\x8eb/",
    "http://a\xef\xbd\xa1b/", "http://\xef\xbc\x91\xef\xbc\x92\xef\xbc\x97.1/",
    "http://\xe2\x91\xa0.1/", "http://\xff/",
]  # fmt: skip


@pytest.mark.parametrize("text", BROKEN)
def test_what_could_be_read_in_two_ways_is_refused(text: str) -> None:
    with pytest.raises(InvalidTarget):
        urls.parse(text)


@given(st.text(alphabet="ahtps:/\\.@[]%0123456789xXefEF?#\u3002\uff0e\t -_", max_size=40))
@example("127。0。0。1")
@example("１２７.0.0.1")
@example("0x7f.1")
def test_no_spelling_gets_a_number_past_the_reader_except_as_an_address(host: str) -> None:
    """Whatever is let through is a dotted quad, an IPv6 address, or a name no one reads as one."""
    try:
        url = urls.from_text(f"http://{host}/")
    except InvalidTarget:
        return
    assert url.host.isascii()
    assert not set(url.host) & set("\\@[]%?#/ \t")
    try:
        address = ip_address(url.host)
    except ValueError:
        last = url.host.rpartition(".")[2]
        assert not last.isdigit()
        assert not last.startswith("0x") or not all(c in "0123456789abcdef" for c in last[2:])
    else:
        assert str(address) == url.host


@given(st.text(alphabet="ab/.%2eE?&=#\xe9", max_size=30))
def test_reading_is_idempotent_and_leaves_no_dot_segment(rest: str) -> None:
    url = urls.parse("http://example.org/" + rest)
    again = urls.parse(str(url))
    assert again == url
    assert not {".", ".."} & set(url.path.lower().replace("%2e", ".").split("/"))
    assert str(url).isascii()


JOINED = [
    ("/x", "https://a.example/x"),
    ("x?y", "https://a.example/d/x?y"),
    ("?y", "https://a.example/d/f?y"),
    ("../x", "https://a.example/x"),
    ("//b.example/x", "https://b.example/x"),
    ("http://B.example:80/x#f", "http://b.example/x"),
    ("/\xc3\xa9", "https://a.example/%C3%A9"),
    ("/a%2fb", "https://a.example/a%2fb"),
]


@pytest.mark.parametrize(("reference", "expected"), JOINED)
def test_references_are_resolved_from_their_base(reference: str, expected: str) -> None:
    assert str(urls.join(urls.parse("https://a.example/d/f?q"), reference)) == expected


@pytest.mark.parametrize(
    "reference",
    ["ftp://b/", "http://u@b/", "\\\\b/", "//b\n.example", "http://[::1", "//0x7f.1/", "file:/x"],
)
def test_references_to_anything_else_are_refused(reference: str) -> None:
    with pytest.raises(InvalidTarget):
        urls.join(urls.parse("https://a.example/d/f?q"), reference)


def test_ordinary_text_may_have_any_character() -> None:
    assert str(urls.from_text("http://bücher.example/é?ü")) == (
        "http://xn--bcher-kva.example/%C3%A9?%C3%BC"
    )
    with pytest.raises(InvalidTarget):
        urls.from_text("http://a/\ud800")


def test_origin_and_authority_name_the_port_only_where_it_is_not_the_schemes_own() -> None:
    url = urls.parse("https://a.example:8443/p?q")
    assert (url.authority, url.origin) == ("a.example:8443", "https://a.example:8443")
    assert url.request_target == "/p?q"
    assert urls.parse("http://[::1]:80/").authority == "[::1]"
