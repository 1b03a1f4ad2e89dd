"""The client above its transport: fields, redirects, lengths and the table of errors (respx)."""

from __future__ import annotations

import inspect
import ssl
from collections.abc import AsyncIterator

import httpcore
import httpx
import pytest
import respx

from forebay.errors import (
    ForebayError,
    InvalidTarget,
    Overloaded,
    RequestError,
    TargetForbidden,
    UpstreamError,
    UpstreamMisbehaved,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from forebay.model import Ask, Fields
from forebay.upstream.client import HttpxUpstream, translated
from forebay.upstream.dial import default_tls
from forebay.upstream.guard import Guard
from forebay.upstream.redirects import MAX_REDIRECTS

URL = "https://a.example/f?x=%2f"


@pytest.fixture
def router() -> respx.MockRouter:
    return respx.MockRouter(assert_all_called=False)


@pytest.fixture
async def upstream(router: respx.MockRouter) -> AsyncIterator[HttpxUpstream]:
    subject = HttpxUpstream(
        guard=Guard(), via="cache", transport=httpx.MockTransport(router.async_handler)
    )
    yield subject
    await subject.aclose()


async def fetch(upstream: HttpxUpstream, ask: Ask) -> tuple[int, bytes]:
    async with upstream.open(ask) as response:
        return response.head.status, b"".join([piece async for piece in response.chunks()])


# what is sent


async def test_only_the_fields_of_the_ask_and_ours_are_sent(
    router: respx.MockRouter, upstream: HttpxUpstream
) -> None:
    route = router.get(URL).respond(200, content=b"body")
    fields = Fields([("range", "bytes=0-"), ("if-range", '"\xe9"')])
    assert await fetch(upstream, Ask(URL, fields=fields)) == (200, b"body")
    sent = Fields.from_raw(route.calls.last.request.headers.raw)
    assert sorted(sent) == [
        ("accept-encoding", "identity"),
        ("host", "a.example"),
        ("if-range", '"\xe9"'),
        ("range", "bytes=0-"),
        ("user-agent", "forebay/0.1.0"),
        ("via", "1.1 cache"),
    ]


async def test_fields_of_one_connection_are_not_passed_on(
    router: respx.MockRouter, upstream: HttpxUpstream
) -> None:
    route = router.get(URL).respond(200)
    fields = Fields(
        [
            ("host", "evil.example"),
            ("connection", "x-drop, close"),
            ("x-drop", "1"),
            ("transfer-encoding", "chunked"),
            ("content-length", "5"),
            ("te", "trailers"),
            ("via", "1.0 before"),
            ("user-agent", "curl/8"),
        ]
    )
    await fetch(upstream, Ask(URL, fields=fields))
    sent = Fields.from_raw(route.calls.last.request.headers.raw)
    assert sorted(sent) == [
        ("accept-encoding", "identity"),
        ("host", "a.example"),
        ("user-agent", "curl/8"),
        ("via", "1.0 before, 1.1 cache"),
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [("x", "a\r\nevil: 1"), ("x", "a\nb"), ("x\r\ny", "a"), ("x", "\x00"), ("", "a"), ("x ", "a")],
)
async def test_a_field_that_would_break_the_request_is_refused(
    upstream: HttpxUpstream, name: str, value: str
) -> None:
    with pytest.raises(InvalidTarget):
        await fetch(upstream, Ask(URL, fields=Fields([(name, value)])))


@pytest.mark.parametrize("method", ["", "GET /x HTTP/1.1\r\nA: b", "G T"])
async def test_a_method_that_is_no_token_is_refused(upstream: HttpxUpstream, method: str) -> None:
    with pytest.raises(InvalidTarget):
        await fetch(upstream, Ask(URL, method=method))


@pytest.mark.parametrize("url", ["ftp://a/", "http://u@a.example/", "http://127.1/", "x", ""])
async def test_an_address_that_is_not_strict_is_refused(upstream: HttpxUpstream, url: str) -> None:
    with pytest.raises(InvalidTarget):
        await fetch(upstream, Ask(url))


async def test_cookies_of_upstreams_are_neither_kept_nor_sent(
    router: respx.MockRouter, upstream: HttpxUpstream
) -> None:
    route = router.get(URL).respond(200, headers={"set-cookie": "a=b; Path=/"})
    for _ in range(2):
        await fetch(upstream, Ask(URL))
    assert "cookie" not in route.calls.last.request.headers
    assert not upstream._client.cookies


# redirects


async def test_redirects_are_followed_and_told_of(
    router: respx.MockRouter, upstream: HttpxUpstream
) -> None:
    router.get(URL).respond(302, headers={"location": "/g", "x-commit": "1"})
    router.get("https://a.example/g").respond(307, headers={"location": "https://b.example/h"})
    last = router.get("https://b.example/h").respond(200, content=b"end")
    fields = Fields([("authorization", "Bearer s"), ("range", "bytes=1-")])
    async with upstream.open(Ask(URL, fields=fields)) as response:
        assert response.url == "https://b.example/h"
        assert [head.status for head in response.redirects] == [302, 307]
        assert response.redirects[0].fields.get("x-commit") == "1"
        assert [piece async for piece in response.chunks()] == [b"end"]
    sent = last.calls.last.request.headers
    assert "authorization" not in sent
    assert (sent["host"], sent["range"]) == ("b.example", "bytes=1-")


async def test_redirects_are_handed_on_when_asked_or_when_not_safe(
    router: respx.MockRouter, upstream: HttpxUpstream
) -> None:
    router.route(url=URL).respond(302, headers={"location": "/g"})
    assert (await fetch(upstream, Ask(URL, follow_redirects=False)))[0] == 302
    assert (await fetch(upstream, Ask(URL, method="POST")))[0] == 302


async def test_a_circle_of_redirects_ends(
    router: respx.MockRouter, upstream: HttpxUpstream
) -> None:
    route = router.get(URL).respond(302, headers={"location": URL})
    with pytest.raises(UpstreamMisbehaved):
        await fetch(upstream, Ask(URL))
    assert route.call_count == MAX_REDIRECTS + 1


@pytest.mark.parametrize(
    ("location", "error"),
    [
        ("https://127.0.0.1/", TargetForbidden),
        ("https://[::ffff:127.0.0.1]/", TargetForbidden),
        ("https://169.254.169.254/latest", TargetForbidden),
        ("https://metadata.google.internal/", TargetForbidden),
        ("https://b.example:22/", TargetForbidden),
        ("https://2130706433/", UpstreamMisbehaved),
        ("http://a.example/", UpstreamMisbehaved),
        ("file:///etc/passwd", UpstreamMisbehaved),
    ],
)
@pytest.mark.parametrize("unguarded", [False, True])
async def test_every_hop_is_checked(
    router: respx.MockRouter,
    upstream: HttpxUpstream,
    location: str,
    error: type[ForebayError],
    unguarded: bool,
) -> None:
    router.get(URL).respond(302, headers={"location": location})
    with pytest.raises(error):
        await fetch(upstream, Ask(URL, unguarded=unguarded))


async def test_a_trusted_upstream_may_redirect_within_itself_only(
    router: respx.MockRouter, upstream: HttpxUpstream
) -> None:
    router.get("http://10.0.0.1:81/a").respond(302, headers={"location": "/b"})
    router.get("http://10.0.0.1:81/b").respond(302, headers={"location": "//10.0.0.1:82/c"})
    with pytest.raises(TargetForbidden):
        await fetch(upstream, Ask("http://10.0.0.1:81/a", unguarded=True))
    assert router.calls.call_count == 2


# what comes back


@pytest.mark.parametrize("status", [200, 203, 404, 416, 451, 500, 503, 599, 799])
async def test_no_status_is_an_error(
    router: respx.MockRouter, upstream: HttpxUpstream, status: int
) -> None:
    router.get(URL).respond(status, content=b"said")
    assert await fetch(upstream, Ask(URL)) == (status, b"said")


async def test_content_codings_stay_as_they_are(
    router: respx.MockRouter, upstream: HttpxUpstream
) -> None:
    octets = b"\x1f\x8b not even gzip"
    router.get(URL).respond(200, headers={"content-encoding": "gzip"}, stream=Pieces(octets))
    assert await fetch(upstream, Ask(URL)) == (200, octets)


class Pieces(httpx.AsyncByteStream):
    """A body of these pieces, which may end in an error; knows whether it was closed."""

    def __init__(self, *pieces: bytes, error: Exception | None = None) -> None:
        self.pieces = pieces
        self.error = error
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece
        if self.error is not None:
            raise self.error

    async def aclose(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("length", "framed", "misbehaves"),
    [("4", True, False), ("5", True, True), ("3", True, True), (None, False, False)],
)
async def test_a_declared_length_is_held_to(
    router: respx.MockRouter,
    upstream: HttpxUpstream,
    length: str | None,
    framed: bool,
    misbehaves: bool,
) -> None:
    body = Pieces(b"ab", b"cd")
    router.get(URL).respond(200, headers={"content-length": length} if length else {}, stream=body)
    async with upstream.open(Ask(URL)) as response:
        assert response.framed is framed
        if misbehaves:
            with pytest.raises(UpstreamMisbehaved):
                _ = [piece async for piece in response.chunks()]
        else:
            assert [piece async for piece in response.chunks()] == [b"ab", b"cd"]
    assert body.closed


async def test_ambiguous_framing_is_refused_and_the_response_closed(
    router: respx.MockRouter, upstream: HttpxUpstream
) -> None:
    body = Pieces(b"abcd")
    fields = [("content-length", "4"), ("content-length", "5")]
    router.get(URL).respond(200, headers=fields, stream=body)
    with pytest.raises(UpstreamMisbehaved):
        await fetch(upstream, Ask(URL))
    assert body.closed


async def test_leaving_the_block_closes_the_response_whatever_happens(
    router: respx.MockRouter, upstream: HttpxUpstream
) -> None:
    body = Pieces(b"ab", b"cd")
    router.get(URL).respond(200, stream=body)
    with pytest.raises(LookupError):
        async with upstream.open(Ask(URL)):
            raise LookupError
    assert body.closed


# errors


def tree(root: type[BaseException]) -> set[type[BaseException]]:
    return {root}.union(*(tree(kind) for kind in root.__subclasses__()))


def foreign(module: object) -> list[type[BaseException]]:
    kinds = [kind for _, kind in inspect.getmembers(module, inspect.isclass)]
    return [kind for kind in kinds if issubclass(kind, BaseException)]


def made(kind: type[BaseException]) -> BaseException:
    """An instance, however many arguments its kind needs."""
    for arguments in ((), ("secret 10.0.0.1",)):
        try:
            return kind(*arguments)
        except TypeError:
            continue
    request = httpx.Request("GET", URL)
    return httpx.HTTPStatusError("secret", request=request, response=httpx.Response(500))


KINDS = {
    *foreign(httpx),
    *foreign(httpcore),
    *tree(httpx.HTTPError),
    *tree(httpx.StreamError),
    OSError,
    ConnectionResetError,
    TimeoutError,
    ssl.SSLError,
    ssl.SSLCertVerificationError,
    ValueError,
    UnicodeError,
}


@pytest.mark.parametrize("kind", sorted(KINDS, key=repr))
async def test_every_foreign_error_becomes_one_of_ours(
    router: respx.MockRouter, upstream: HttpxUpstream, kind: type[BaseException]
) -> None:
    error = made(kind)
    for wrapped in (error, BaseExceptionGroup("several", [error])):
        ours = translated(wrapped)
        assert isinstance(ours, (UpstreamError, RequestError, Overloaded))
        assert "secret" not in ours.detail
    assert isinstance(error, Exception)
    router.get(URL).mock(side_effect=error)
    with pytest.raises((UpstreamError, RequestError, Overloaded)):
        await fetch(upstream, Ask(URL))
    router.get(URL).mock(side_effect=None).respond(200, stream=Pieces(b"a", error=error))
    with pytest.raises((UpstreamError, RequestError, Overloaded)):
        await fetch(upstream, Ask(URL))


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (httpx.ConnectTimeout("x"), UpstreamTimeout),
        (httpx.ReadTimeout("x"), UpstreamTimeout),
        (httpx.PoolTimeout("x"), Overloaded),
        (httpx.ConnectError("x"), UpstreamUnreachable),
        (httpx.ReadError("x"), UpstreamUnreachable),
        (httpx.RemoteProtocolError("x"), UpstreamMisbehaved),
        (httpx.InvalidURL("x"), InvalidTarget),
        (httpx.UnsupportedProtocol("x"), InvalidTarget),
        (ConnectionResetError(), UpstreamUnreachable),
        (TimeoutError(), UpstreamTimeout),
        (ssl.SSLCertVerificationError(), UpstreamUnreachable),
    ],
)
def test_errors_are_told_apart(error: Exception, ours: type[ForebayError]) -> None:
    assert type(translated(error)) is ours


def test_what_is_no_failure_of_an_upstream_stays_as_it_is() -> None:
    assert translated(KeyError("a bug")) is None
    known = UpstreamTimeout("said")
    assert translated(known) is known


async def test_request_bodies_go_through_any_transport(
    router: respx.MockRouter, upstream: HttpxUpstream
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"hel"
        yield b"lo"

    route = router.put(URL).respond(201)
    ask = Ask(URL, method="PUT", body=body(), body_length_bytes=5)
    assert await fetch(upstream, ask) == (201, b"")
    request = route.calls.last.request
    assert (request.content, request.headers["content-length"]) == (b"hello", "5")


def test_certificates_are_demanded_by_default() -> None:
    context = default_tls()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.cert_store_stats()["x509_ca"] > 0
