"""Which way each request goes, and the admin side behind it."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import AsyncIterator

import httpx
import pytest

from forebay.errors import Overloaded, TargetForbidden
from forebay.model import Request
from forebay.ports import Reply, Selection
from forebay.views import ObjectView, SegmentView, TransferView
from forebay.web.application import make_app
from forebay.web.asgi import App, Message, Scope
from forebay.web.ways import WaysIn
from tests.fakes.service import FakeService, ScriptedBody, reply
from tests.web.conftest import TOKEN

AUTH = {"authorization": f"Bearer {TOKEN}"}
HEX256 = "ab" * 32


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
async def client(service: FakeService) -> AsyncIterator[httpx.AsyncClient]:
    app = make_app(service, token=TOKEN)
    await _start(app)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://cache.test") as client:
        yield client


async def _start(app: App) -> None:
    """Startup without the matching end: readiness is all that is needed."""
    sent: list[Message] = []

    class Enough(Exception):
        pass

    messages = iter([{"type": "lifespan.startup"}])

    async def receive() -> Message:
        try:
            return next(messages)
        except StopIteration:
            raise Enough from None

    async def send(message: Message) -> None:
        sent.append(message)

    with pytest.raises(Enough):
        await app({"type": "lifespan"}, receive, send)
    assert sent == [{"type": "lifespan.startup.complete"}]


def _problem(response: httpx.Response, status: int) -> str:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert document["status"] == status
    return str(document["detail"])


# Ways in.


@pytest.mark.parametrize(
    "path", ["/https://h.test/f", "/mount/f", "/healthz/x", "/-x", "/%2D/stats", "/metrics/"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
async def test_everything_else_goes_to_the_service(
    client: httpx.AsyncClient, service: FakeService, method: str, path: str
) -> None:
    assert (await client.request(method, path)).status_code == 404
    assert service.requests[0].method == method
    assert service.requests[0].raw_path == path


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_fetch_takes_the_target_from_the_query(
    client: httpx.AsyncClient, service: FakeService, method: str
) -> None:
    service.answers["/-/fetch"] = lambda _: reply(ScriptedBody([b"ok"]), 2)
    response = await client.request(
        method, f"/-/fetch?url=https%3A%2F%2Fh.test%2Ff%3Fa%26b&sha256={HEX256}"
    )
    assert response.status_code == 200
    assert service.urls == ["https://h.test/f?a&b"]
    assert service.expected_digests == [(("sha-256", HEX256),)]


async def test_a_bad_fetch_is_told_what_is_wrong(
    client: httpx.AsyncClient, service: FakeService
) -> None:
    assert "64" in _problem(await client.get("/-/fetch?url=https://h.test/&sha256=1"), 400)
    assert "url" in _problem(await client.get("/-/fetch"), 400)
    assert service.requests == []


async def test_two_expectations_that_differ_are_refused(client: httpx.AsyncClient) -> None:
    field = {"repr-digest": "sha-256=:" + "A" * 43 + "=:"}
    answer = await client.get(f"/-/fetch?url=https://h.test/&sha256={HEX256}", headers=field)
    assert "sha-256" in _problem(answer, 400)


async def test_repr_digest_is_an_expectation_on_any_download(
    client: httpx.AsyncClient, service: FakeService
) -> None:
    await client.get("/m/f", headers={"repr-digest": "sha-256=:" + "A" * 43 + "=:"})
    assert service.expected_digests == [(("sha-256", "00" * 32),)]


@pytest.mark.parametrize(
    ("accept", "kind"),
    [("*/*", "text/plain; charset=utf-8"), ("text/html,*/*;q=0.8", "text/html; charset=utf-8")],
)
async def test_the_page_for_people_has_a_ready_line(
    client: httpx.AsyncClient, service: FakeService, accept: str, kind: str
) -> None:
    page = await client.get("/", headers={"accept": accept})
    assert page.headers["content-type"] == kind
    assert "curl -LO http://cache.test/https://" in page.text
    assert (await client.head("/")).content == b""
    assert service.requests == []


async def test_a_host_that_could_be_markup_is_not_shown(client: httpx.AsyncClient) -> None:
    page = await client.get("/", headers={"accept": "text/html", "host": "<script>"})
    assert "<script>" not in page.text


async def test_a_mount_at_the_root_has_the_root(service: FakeService) -> None:
    app = make_app(service, token=TOKEN, ways=WaysIn(landing=False))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://cache.test") as client:
        assert (await client.get("/")).status_code == 404
    assert service.requests[0].raw_path == "/"


# Errors.


@pytest.mark.parametrize(
    ("error", "status"),
    [(TargetForbidden("Not from here."), 403), (Overloaded("Full."), 503)],
)
async def test_an_error_of_ours_becomes_its_problem(
    client: httpx.AsyncClient, service: FakeService, error: Exception, status: int
) -> None:
    def answer(_: Request) -> Reply:
        raise error

    service.answers["/f"] = answer
    assert _problem(await client.get("/f"), status) == str(error)


async def test_a_fault_nobody_foresaw_is_logged_and_told_as_503(
    client: httpx.AsyncClient, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(_: Request) -> Reply:
        raise KeyError("a secret")

    service.answers["/f"] = answer
    response = await client.get("/f")
    assert "secret" not in response.text
    assert response.headers["connection"] == "close"
    _problem(response, 503)
    record = next(r for r in caplog.records if r.exc_info)
    assert response.json()["instance"] in record.getMessage()


# What upstreams send is kept off our origin.


@pytest.mark.parametrize(
    ("content_type", "sandboxed"),
    [
        ("text/html; charset=utf-8", True),
        ("TEXT/HTML", True),
        ("image/svg+xml", True),
        ("application/xhtml+xml", True),
        ("application/xml", True),
        ("application/pdf", True),
        ("", True),
        ("nonsense", True),
        ("text/plain, text/html", True),
        ("text/nobody-knows", True),
        ("application/x-shockwave-flash", True),
        ("text/javascript", True),
        ("image/png", False),
        ("application/vnd.debian.binary-package", False),
        ("application/vnd.x+xml", True),
        ("application/octet-stream", False),
        ("text/plain", False),
        ("application/json", False),
    ],
)
async def test_active_content_is_sandboxed_and_nothing_is_sniffed(
    client: httpx.AsyncClient, service: FakeService, content_type: str, sandboxed: bool
) -> None:
    fields = [("content-security-policy", "default-src *"), ("x-content-type-options", "sniff")]
    service.answers["/f"] = lambda _: reply(
        ScriptedBody([b"x"]), 1, content_type=content_type, fields=fields
    )
    response = await client.get("/f")
    assert response.headers.get_list("x-content-type-options") == ["nosniff"]
    policies = response.headers.get_list("content-security-policy")
    assert policies == ["default-src *", "sandbox"][: 1 + sandboxed]


async def test_one_of_two_content_types_is_enough(
    client: httpx.AsyncClient, service: FakeService
) -> None:
    lines = [("content-type", "text/html")]
    service.answers["/f"] = lambda _: reply(
        ScriptedBody([b"x"]), 1, content_type="text/plain", fields=lines
    )
    response = await client.get("/f")
    assert response.headers["content-security-policy"] == "sandbox"


# The admin side.

ADMIN = [("GET", "/-/stats"), ("GET", "/-/objects"), ("GET", "/-/transfers"),
         ("POST", "/-/purge"), ("GET", "/-/openapi.json"), ("GET", "/-/nothing"),
         ("PURGE", "/https://h.test/f")]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), ADMIN)
async def test_nothing_of_the_admin_side_opens_without_the_token(
    client: httpx.AsyncClient, service: FakeService, method: str, path: str
) -> None:
    for headers in ({}, {"authorization": "Bearer wrong"}):
        answer = await client.request(method, path, headers=headers)
        _problem(answer, 401)
        assert answer.headers["www-authenticate"].startswith("Bearer")
    foreign = {**AUTH, "sec-fetch-site": "cross-site"}
    _problem(await client.request(method, path, headers=foreign), 403)
    assert service.purges == []


async def test_guessing_is_slowed_down(client: httpx.AsyncClient) -> None:
    for _ in range(10):
        await client.get("/-/stats", headers={"authorization": "Bearer wrong"})
    answer = await client.get("/-/stats", headers=AUTH)
    _problem(answer, 429)
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    ("order", "selection"),
    [
        ({"url": "https://h.test/f"}, Selection(key="key of https://h.test/f")),
        ({"prefix": "https://h.test/"}, Selection(prefix="https://h.test/")),
        ({"mount": "pypi"}, Selection(mount="pypi")),
        ({"tag": "v1"}, Selection(tag="v1")),
        ({"all": True}, Selection(everything=True)),
    ],
)
@pytest.mark.parametrize("dry_run", [False, True])
async def test_a_purge_removes_what_it_names(
    client: httpx.AsyncClient, service: FakeService, caplog: pytest.LogCaptureFixture,
    order: dict[str, object], selection: Selection, dry_run: bool,
) -> None:  # fmt: skip
    caplog.set_level(logging.INFO, logger="forebay.audit")
    answer = await client.post("/-/purge", headers=AUTH, json={**order, "dry_run": dry_run})
    assert answer.json() == {"objects": 2, "size_bytes": 20, "dry_run": dry_run}
    assert service.purges == [(selection, dry_run)]
    audited = [r for r in caplog.records if r.name == "forebay.audit"]
    assert len(audited) == (0 if dry_run else 1)


@pytest.mark.parametrize(
    "order",
    [{}, {"dry_run": True}, {"all": False}, {"all": "yes"}, {"url": ""}, {"url": 1},
     {"url": "ftp://h/"}, {"url": "https://h/", "all": True}, {"prefix": "a", "tag": "b"},
     {"urls": ["https://h/"]}, {"all": True, "extra": 1}, [], "all", None],
)  # fmt: skip
async def test_an_order_that_is_not_clear_purges_nothing(
    client: httpx.AsyncClient, service: FakeService, order: object
) -> None:
    _problem(await client.post("/-/purge", headers=AUTH, json=order), 400)
    assert service.purges == []


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", None])
async def test_an_order_is_json_whatever_the_client_calls_it(
    client: httpx.AsyncClient, service: FakeService, kind: str | None
) -> None:
    headers = AUTH if kind is None else {**AUTH, "content-type": kind}
    answer = await client.post("/-/purge", headers=headers, content=b'{"all": true}')
    assert (answer.status_code, len(service.purges)) == (200, 1)


async def test_an_order_that_is_no_json_or_too_long_purges_nothing(
    client: httpx.AsyncClient, service: FakeService
) -> None:
    for content, told in ((b"{", "is not JSON"), (b"url=x", "is not JSON"), (b"", "is missing")):
        answer = await client.post("/-/purge", headers=AUTH, content=content)
        _problem(answer, 400)
        assert told in answer.json()["detail"]
    long = json.dumps({"prefix": "x" * 70_000}).encode()
    _problem(await client.post("/-/purge", headers=AUTH, content=long), 413)
    assert service.purges == []


@pytest.mark.parametrize("path", ["/-/purge", "/-/fetch", "/-/nothing"])
async def test_the_admin_side_has_only_its_names_and_methods(
    client: httpx.AsyncClient, service: FakeService, path: str
) -> None:
    answer = await client.delete(path, headers=AUTH)
    _problem(answer, 405 if path == "/-/purge" else 404)
    assert service.requests == []


async def test_no_state_changes_by_get(client: httpx.AsyncClient, service: FakeService) -> None:
    answer = await client.get("/-/purge?all=true", headers=AUTH)
    _problem(answer, 405)
    assert service.purges == []


async def test_the_purge_method_names_its_object(
    client: httpx.AsyncClient, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="forebay.audit")
    answer = await client.request("PURGE", "/https://h.test/f?sig=secret", headers=AUTH)
    assert answer.json() == {"objects": 1, "size_bytes": 10, "dry_run": False}
    (purged, _) = service.purges[0]
    assert isinstance(purged, Request)
    assert purged.raw_path == "/https://h.test/f"
    (line,) = [r.getMessage() for r in caplog.records if r.name == "forebay.audit"]
    assert "h.test/f" in line
    assert "secret" not in line


async def test_listings_have_the_names_of_the_views(
    client: httpx.AsyncClient, service: FakeService
) -> None:
    view = ObjectView(
        name="https://h.test/f", mount="url", entry_id="1", status=200, size_bytes=1,
        length_bytes=None, covered_bytes=1, complete=False, age_seconds=1.0, fresh=True,
        last_used_time=1.0, stored_time=1.0, hits=1, content_type=None, etag='"a"',
    )  # fmt: skip
    transfer = TransferView(
        name="https://h.test/f", mount="url", entry_id="1", state="running", length_bytes=9,
        covered_bytes=3, coverage=((0, 3),), readers=(1, 2),
        segments=(SegmentView("https://h.test", 0, 3, None, 1.5),), fetched_bytes=3,
        rate_bytes_per_second=1.5, started_time=1.0,
    )  # fmt: skip
    service.objects_now = [view, dataclasses.replace(view, name="https://other.test/")]
    service.transfers_now = [transfer]
    listed = (await client.get("/-/objects?prefix=https://h.&limit=5", headers=AUTH)).json()
    assert listed == {"objects": [dataclasses.asdict(view)], "next": None}
    running = (await client.get("/-/transfers", headers=AUTH)).json()
    assert running["transfers"] == [json.loads(json.dumps(dataclasses.asdict(transfer)))]
    stats = (await client.get("/-/stats", headers=AUTH)).json()
    assert stats["requests"] == {"hit": 3, "uri-miss": 1}
    _problem(await client.get("/-/objects?limit=0", headers=AUTH), 400)


async def test_the_openapi_document_names_the_token(client: httpx.AsyncClient) -> None:
    document = (await client.get("/-/openapi.json", headers=AUTH)).json()
    assert set(document["paths"]) == {
        "/-/purge",
        "/-/pin",
        "/-/unpin",
        "/-/objects",
        "/-/stats",
        "/-/transfers",
        "/-/scrub",
    }
    for methods in document["paths"].values():
        assert all(operation["security"] for operation in methods.values())


# Health and numbers.


@pytest.mark.parametrize("path", ["/healthz", "/livez"])
async def test_alive_is_ok_without_a_token(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).text == "ok\n"
    assert (await client.head(path)).status_code == 200


async def test_a_sick_disk_is_degraded_and_still_ready(
    client: httpx.AsyncClient, service: FakeService
) -> None:
    assert (await client.get("/readyz")).json() == {"status": "ok"}
    service.statistics_now = dataclasses.replace(
        service.statistics_now, healthy=False, trouble="no space in a secret place"
    )
    answer = await client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json()["status"] == "degraded"
    assert "secret" not in answer.text


async def test_a_service_that_has_not_started_is_not_ready(service: FakeService) -> None:
    transport = httpx.ASGITransport(app=make_app(service, token=TOKEN))
    async with httpx.AsyncClient(transport=transport, base_url="http://cache.test") as client:
        assert (await client.get("/readyz")).status_code == 503


async def test_metrics_count_what_was_answered(
    client: httpx.AsyncClient, service: FakeService
) -> None:
    service.answers["/f"] = lambda _: reply(ScriptedBody([b"ok"]), 2)
    await client.get("/f")
    await client.get("/nothing")
    text = (await client.get("/metrics")).text
    for line in (
        'forebay_http_responses_total{status="200"} 1.0',
        'forebay_http_responses_total{status="404"} 1.0',
        'forebay_requests_total{outcome="hit"} 3.0',
        "forebay_served_bytes_total 4000.0",
        "forebay_upstream_bytes_total 1000.0",
        "forebay_store_size_bytes 1000.0",
        "forebay_store_limit_bytes 10000.0",
        "forebay_running_transfers 1.0",
        "forebay_http_requests_running 1.0",
        'forebay_build_info{version="0.0.0"} 1.0',
    ):
        assert line in text.splitlines()


async def test_two_applications_have_metrics_of_their_own(service: FakeService) -> None:
    make_app(service, token=TOKEN)
    make_app(service, token=TOKEN)


# The log.


async def test_each_request_has_one_line_and_no_secret(
    client: httpx.AsyncClient, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="forebay.access")
    named = reply(ScriptedBody([b"abc"]), 3)
    named.target_name = "https://h.test/f?sig=***"
    service.answers["/https://h.test/f"] = lambda _: named
    await client.get("/https://h.test/f?sig=secret")
    await client.get("/https://u:secret@h.test/g?sig=secret")
    await client.get("/healthz")
    lines = [r.getMessage() for r in caplog.records if r.name == "forebay.access"]
    assert len(lines) == 2
    assert "GET https://h.test/f?sig=*** 200 3B in " in lines[0]
    assert lines[0].endswith(" hit")
    assert "GET /https://***@h.test/g?*** 404 " in lines[1]
    assert "secret" not in "".join(lines)


# Other conversations.


async def test_a_websocket_is_turned_away(service: FakeService) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    scope: Scope = {"type": "websocket"}
    await make_app(service, token=TOKEN)(scope, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1000}]
