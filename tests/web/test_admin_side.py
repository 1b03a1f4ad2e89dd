"""The admin side: who may do what there, where it is, and what is written down of it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from forebay.ports import Scrubbed
from forebay.web import audit
from forebay.web.admin import make_admin
from forebay.web.application import AdminSide, make_app
from forebay.web.asgi import ADMIN_SIDE, App, Receive, Scope, Send
from forebay.web.auth import AdminKey, scope_for
from forebay.web.limits import AdminAddress, DoorLimits
from forebay.web.metrics import Metrics
from forebay.web.protocol import protocol_with
from forebay.web.readiness import Readiness
from tests.fakes.service import FakeService, ScriptedBody, reply
from tests.web.servers import ServerThread

KEYS = (
    AdminKey("looker", "read-token", frozenset({"read"})),
    AdminKey("purger", "purge-token", frozenset({"purge"})),
    AdminKey("both", "both-token", frozenset({"read", "purge"})),
)


class ScrubbingService(FakeService):
    """Counts scrubs as well."""

    def __init__(self) -> None:
        super().__init__()
        self.scrubs = 0

    async def begin_scrub(self) -> Scrubbed:
        self.scrubs += 1
        return Scrubbed(running=True)

    async def scrubbed(self) -> Scrubbed | None:
        return None


@pytest.fixture
def service() -> ScrubbingService:
    return ScrubbingService()


def client_of(app: App) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app, client=("192.0.2.7", 1))
    return httpx.AsyncClient(transport=transport, base_url="http://cache.test")


@pytest.fixture
async def client(service: ScrubbingService) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(make_app(service, token="root", admin=AdminSide(KEYS))) as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


ALL = {"all": True}
ORDERS: list[tuple[str, str, dict[str, Any] | None, str]] = [
    ("GET", "/-/stats", None, "read"),
    ("GET", "/-/objects", None, "read"),
    ("GET", "/-/transfers", None, "read"),
    ("GET", "/-/scrub", None, "read"),
    ("GET", "/-/openapi.json", None, "read"),
    ("POST", "/-/purge", ALL, "purge"),
    ("PURGE", "/https://h.test/f", None, "purge"),
    ("POST", "/-/scrub", None, "all"),
]


@pytest.mark.parametrize(("method", "path", "body", "scope"), ORDERS)
@pytest.mark.parametrize(
    ("token", "scopes"),
    [("read-token", {"read"}), ("purge-token", {"purge"}), ("both-token", {"read", "purge"}),
     ("root", {"read", "purge", "all"})],
)  # fmt: skip
async def test_a_token_is_good_for_its_scopes_and_nothing_else(
    client: httpx.AsyncClient, service: ScrubbingService, method: str, path: str,
    body: dict[str, Any] | None, scope: str, token: str, scopes: set[str],
) -> None:  # fmt: skip
    answer = await client.request(method, path, json=body, headers=bearer(token))
    if scope in scopes:
        assert answer.status_code < 300
        return
    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == (
        f'Bearer realm="forebay", error="insufficient_scope", scope="{scope}"'
    )
    assert not service.purges
    assert not service.scrubs


def test_whatever_is_added_needs_everything_until_somebody_thinks_of_it() -> None:
    app = make_admin(FakeService(), Metrics(), Readiness())
    orders = [
        (method.upper(), path)
        for path, operations in app.openapi()["paths"].items()
        for method in operations
    ]
    assert ("POST", "/-/purge") in orders
    for method, path in orders:
        if method not in {"GET", "HEAD"} and path != "/-/purge":
            assert scope_for(method, path.encode()) == "all"
    assert scope_for("DELETE", b"/-/objects") == "all"


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE"])
async def test_no_safe_method_changes_anything(
    client: httpx.AsyncClient, service: ScrubbingService, method: str
) -> None:
    for path in ("/-/purge", "/-/scrub", "/-/stats", "/-/objects", "/-/transfers"):
        for query in ("", "?all=true", "?_method=POST&all=true"):
            await client.request(
                method, path + query, headers={**bearer("root"), "x-http-method-override": "POST"}
            )
    assert not service.purges
    assert not service.scrubs


@pytest.mark.parametrize(
    "foreign",
    [{"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"},
     {"origin": "http://evil.test"}, {"origin": "null"}],
    ids=str,
)  # fmt: skip
async def test_other_sites_pages_change_nothing_even_with_the_token(
    client: httpx.AsyncClient, service: ScrubbingService, foreign: dict[str, str]
) -> None:
    for method, path, body, _ in ORDERS:
        answer = await client.request(
            method, path, json=body, headers={**bearer("root"), **foreign}
        )
        assert answer.status_code == 403
    assert not service.purges
    assert not service.scrubs


async def test_every_change_is_written_down_with_who_what_and_how_many(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger=audit.logger.name):
        await client.post("/-/purge", json=ALL, headers=bearer("both-token"))
        await client.post(
            "/-/purge", json={"url": "https://u:pw@h.test/f?sig=x"}, headers=bearer("root")
        )
        await client.request("PURGE", "/https://h.test/f?sig=x", headers=bearer("purge-token"))
        await client.post("/-/scrub", headers=bearer("root"))
        await client.post("/-/purge", json={**ALL, "dry_run": True}, headers=bearer("root"))
        await client.post("/-/purge", json=ALL, headers=bearer("read-token"))
        await client.get("/-/stats", headers=bearer("root"))
    lines = [record.audit for record in caplog.records if record.name == audit.logger.name]  # type: ignore[attr-defined]
    assert lines == [
        audit.AuditLine("both", "192.0.2.7", "purge", "all", 2, 20),
        audit.AuditLine("admin", "192.0.2.7", "purge", "url=https://***@h.test/f?***", 2, 20),
        audit.AuditLine("purger", "192.0.2.7", "purge", "url=/https://h.test/f?***", 1, 10),
        audit.AuditLine("admin", "192.0.2.7", "scrub", "all"),
    ]
    assert "purge all by both from 192.0.2.7: 2 objects, 20 bytes" in caplog.text


async def test_answers_of_the_admin_side_are_neither_kept_nor_sniffed_nor_framed(
    client: httpx.AsyncClient,
) -> None:
    for path in ("/-/stats", "/-/objects", "/-/nothing", "/-/openapi.json"):
        fields = (await client.get(path, headers=bearer("root"))).headers
        assert fields["x-content-type-options"] == "nosniff"
        assert fields["cache-control"] == "no-store"
        if fields["content-type"] == "application/json":
            assert "frame-ancestors 'none'" in fields["content-security-policy"]


# An address of its own.


def at(app: App, *, admin_side: bool) -> App:
    """The application as the protocol calls it for connections to one of the two addresses."""

    async def called(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, ADMIN_SIDE: admin_side}, receive, send)

    return called


APART = [
    # method, path, at the address for downloads, at that of the admin side
    ("GET", "/-/stats", 404, 200),
    ("POST", "/-/purge", 404, 200),
    ("GET", "/-/nothing", 404, 404),
    ("PURGE", "/https://h.test/f", 404, 200),
    ("PURGE", "http://cache.test/https://h.test/f", 404, 200),
    ("GET", "/metrics", 404, 200),
    ("GET", "/healthz", 200, 200),
    ("GET", "/livez", 200, 200),
    ("GET", "/-/fetch?url=https%3A%2F%2Fh.test%2Ff", 200, 404),
    ("POST", "/-/fetch", 404, 404),
    ("GET", "/https://h.test/f", 200, 404),
    ("GET", "/", 200, 404),
    ("DELETE", "/https://h.test/f", 200, 404),
]


@pytest.mark.parametrize(("method", "path", "main", "side"), APART)
async def test_each_address_answers_what_is_for_it(
    service: ScrubbingService, method: str, path: str, main: int, side: int
) -> None:
    for name in ("/https://h.test/f", "/-/fetch"):
        service.answers[name] = lambda _: reply(ScriptedBody([b"x"]), 1)
    app = make_app(service, token="root", admin=AdminSide(apart=True))
    body = ALL if method == "POST" else None
    for is_side, status in ((False, main), (True, side)):
        async with client_of(at(app, admin_side=is_side)) as client:
            answer = await client.request(method, path, json=body, headers=bearer("root"))
        assert answer.status_code == status, (is_side, answer.text)
        if status == 404 and path != "/-/nothing":
            assert answer.headers["content-type"] == "application/problem+json"


async def test_without_our_protocol_nothing_of_it_is_open(service: ScrubbingService) -> None:
    async with client_of(make_app(service, token="root", admin=AdminSide(apart=True))) as client:
        for path in ("/-/stats", "/metrics"):
            assert (await client.get(path, headers=bearer("root"))).status_code == 404


@pytest.mark.parametrize(
    ("address", "name", "expected"),
    [
        (AdminAddress(8901), ("127.0.0.1", 8901), True),
        (AdminAddress(8901), ("::1", 8901, 0, 0), True),
        (AdminAddress(8901), ("127.0.0.1", 8000), False),
        (AdminAddress(8000, "127.0.0.1"), ("127.0.0.1", 8000), True),
        (AdminAddress(8000, "127.0.0.1"), ("::ffff:127.0.0.1", 8000, 0, 0), True),
        (AdminAddress(8000, "127.0.0.1"), ("192.0.2.1", 8000), False),
        (AdminAddress(path="/run/a.sock"), "/run/a.sock", True),
        (AdminAddress(path="/run/a.sock"), b"/run/a.sock", True),
        (AdminAddress(path="/run/a.sock"), "/run/b.sock", False),
        (AdminAddress(path="/run/a.sock"), ("127.0.0.1", 0), False),
        (AdminAddress(8901), "/run/a.sock", False),
        (AdminAddress(8901), "", False),
    ],
)
def test_a_connection_s_own_end_says_where_it_came_in(
    address: AdminAddress, name: object, expected: bool
) -> None:
    assert address.is_of(name) is expected


def test_a_server_on_its_admin_address_marks_every_request() -> None:
    app = make_app(ScrubbingService(), token="root", admin=AdminSide(apart=True))
    server = ServerThread(app, loop="uvloop", http="ours")
    server.start()
    try:
        protocol: Any = server.server.config.http_protocol_class
        token = "Authorization: Bearer root"
        with server.connect() as client:
            assert client.get("/-/stats", token).status == 404
        protocol.admin_address = AdminAddress(server.port)
        with server.connect() as client:
            assert client.get("/-/stats", token).status == 200
            assert client.get("/https://h.test/f").status == 404
    finally:
        server.stop()
    assert protocol_with(DoorLimits()).admin_address is None


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_dashboards_page_needs_no_token_and_runs_nothing_but_itself(
    client: httpx.AsyncClient, method: str
) -> None:
    answer = await client.request(method, "/-/")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-cache")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


async def test_what_the_dashboard_shows_needs_the_token(client: httpx.AsyncClient) -> None:
    for path in ("/-/stats", "/-/transfers", "/-/objects"):
        assert (await client.get(path)).status_code == 401
    assert (await client.post("/-/")).status_code == 401
