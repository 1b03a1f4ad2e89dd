"""The admin side as a FastAPI application: purge, listings, statistics, health and metrics.

Its routes under ``/-/`` are reached through ``auth.AdminGuard`` only, which stands before the
application, so that a route added here cannot be left open by mistake.
"""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any, Self

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator
from starlette.exceptions import HTTPException
from starlette.routing import Match

from forebay import __version__
from forebay.errors import ForebayError
from forebay.ports import Scrubbed, Selection
from forebay.service import Service
from forebay.views import ObjectPage, ObjectView, PinResult, PurgeResult, Statistics, TransferView
from forebay.web import audit
from forebay.web.log import masked_name, printable
from forebay.web.metrics import CONTENT_TYPE, Metrics
from forebay.web.naming import asked_here
from forebay.web.problems import Problem, problem_of
from forebay.web.readiness import Readiness

_ROWS_AT_ONCE = 500
_ROWS = TypeAdapter(tuple[ObjectView, ...])
_CHOICES = ("url", "prefix", "mount", "tag", "all")


class Order(BaseModel):
    """What is meant: exactly one of ``url``, ``prefix``, ``mount``, ``tag`` and ``all``."""

    model_config = ConfigDict(extra="forbid", strict=True)

    url: Annotated[str, Field(min_length=1)] | None = None
    prefix: Annotated[str, Field(min_length=1)] | None = None
    mount: Annotated[str, Field(min_length=1)] | None = None
    tag: Annotated[str, Field(min_length=1)] | None = None
    all: bool = False

    @model_validator(mode="after")
    def exactly_one(self) -> Self:
        """Refuse an order that names nothing, or several things at once."""
        if sum(bool(getattr(self, name)) for name in _CHOICES) != 1:
            raise ValueError("name exactly one of url, prefix, mount, tag or all")
        return self

    def selection(self, service: Service, authority: str) -> Selection:
        """The same for the service, where it is not a URL. ``authority`` as for ``asked_here``."""
        prefix = self.prefix
        here = None if prefix is None else asked_here(prefix, authority, service)
        if here is not None:
            prefix = service.name_asked(here)
        return Selection(prefix=prefix, mount=self.mount, tag=self.tag, everything=self.all)

    def words(self) -> str:
        """The order in one word for the audit log, secrets masked."""
        for name in _CHOICES[:-1]:
            value = getattr(self, name)
            if value is not None:
                path, mark, query = value.partition("?")
                return f"{name}={printable(masked_name(path, query if mark else None))}"
        return "all"


class PurgeOrder(Order):
    """What to purge."""

    dry_run: bool = False

    async def carry_out(self, service: Service, authority: str) -> PurgeResult:
        """Do it. Raises ``ForebayError`` for a URL that cannot be read."""
        if self.url is None:
            return await service.purge(self.selection(service, authority), dry_run=self.dry_run)
        here = asked_here(self.url, authority, service)
        if here is not None:
            return await service.purge_request(here, dry_run=self.dry_run)
        return await service.purge_url(self.url, dry_run=self.dry_run)


class PinOrder(Order):
    """What to pin, or to let go."""

    async def carry_out(self, service: Service, authority: str, *, pinned: bool) -> PinResult:
        """Do it. Raises ``ForebayError`` for a URL that cannot be read."""
        if self.url is None:
            return await service.pin(self.selection(service, authority), pinned=pinned)
        here = asked_here(self.url, authority, service)
        if here is not None:
            return await service.pin_request(here, pinned=pinned)
        return await service.pin_url(self.url, pinned=pinned)


class Transfers(BaseModel):
    """The transfers that run now."""

    transfers: list[TransferView]


class ProblemDocument(BaseModel):
    """What every refusal is told as (RFC 9457 §3.1)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str


def _refusal(text: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/ProblemDocument"}
    return {"description": text, "content": {"application/problem+json": {"schema": schema}}}


_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: _refusal("The request is not one that can be read."),
    401: _refusal("There is no token, or a wrong one."),
    403: _refusal("The token is not good for this, or another site's page asks."),
    413: _refusal("The body is longer than any order."),
    429: _refusal("Too many wrong tokens came from this client."),
    503: _refusal("The service or its disk cannot do it now."),
}


def _describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with what FastAPI would say of refusals replaced by what is so."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes)
        for operations in document["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("422", None)
        schemas = document["components"]["schemas"]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        schemas["ProblemDocument"] = ProblemDocument.model_json_schema()
        app.openapi_schema = document
    return app.openapi_schema


def make_admin(service: Service, metrics: Metrics, readiness: Readiness) -> FastAPI:
    """The admin application. Documentation pages are off: they would load foreign scripts."""
    app = FastAPI(
        title="Forebay admin",
        version=__version__,
        openapi_url="/-/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=_REFUSALS,
        generate_unique_id_function=lambda route: route.name,
    )
    _add_error_handlers(app)
    _add_health(app, service, metrics, readiness)
    _add_reading(app, service)
    _add_purge(app, service)
    _add_pins(app, service)
    _add_scrub(app, service)
    app.openapi = lambda: _describe(app)  # type: ignore[method-assign]
    return app


_token_documented = [Depends(HTTPBearer(auto_error=False, description="The admin token."))]


def _add_reading(app: FastAPI, service: Service) -> None:
    @app.get("/-/objects", response_model=ObjectPage, dependencies=_token_documented)
    async def objects(
        prefix: str = "",
        limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
        after: str | None = None,
    ) -> Response:
        """Stored objects whose name begins with ``prefix``, most recently used first; ``next``
        of one answer is ``after`` of the next question."""
        page = await service.objects(prefix=prefix, limit=limit, after=after)
        return Response(await _written(page), media_type="application/json")

    @app.get("/-/stats", dependencies=_token_documented)
    async def stats() -> Statistics:
        """Totals since start and the state of the store."""
        return await service.statistics()

    @app.get("/-/transfers", dependencies=_token_documented)
    async def transfers() -> Transfers:
        """What is arriving now."""
        return Transfers(transfers=await service.all_transfers())


async def _written(page: ObjectPage) -> bytes:
    """The page as JSON, a piece at a time: ten thousand rows at once are 15 ms or more in which
    no download goes on."""
    pieces = []
    for start in range(0, len(page.objects), _ROWS_AT_ONCE):
        rows = page.objects[start : start + _ROWS_AT_ONCE]
        pieces.append(_ROWS.dump_json(rows)[1:-1])
        await asyncio.sleep(0)
    return b'{"objects":[%b],"next":%b}' % (b",".join(pieces), json.dumps(page.next).encode())


def _add_purge(app: FastAPI, service: Service) -> None:
    @app.post("/-/purge", dependencies=_token_documented)
    async def purge(order: PurgeOrder, request: Request) -> PurgeResult:
        """Remove stored objects; with ``dry_run`` only count them."""
        result = await order.carry_out(service, request.headers.get("host", ""))
        if not result.dry_run:
            audit.write(
                audit.line_for(
                    request.scope, "purge", order.words(), result.objects, result.size_bytes
                ),
            )
        return result


def _add_pins(app: FastAPI, service: Service) -> None:
    async def carry_out(order: PinOrder, request: Request, pinned: bool) -> PinResult:
        authority = request.headers.get("host", "")
        result = await order.carry_out(service, authority, pinned=pinned)
        verb = "pin" if pinned else "unpin"
        audit.write(audit.line_for(request.scope, verb, order.words(), result.objects))
        return result

    @app.post("/-/pin", dependencies=_token_documented)
    async def pin(order: PinOrder, request: Request) -> PinResult:
        """Never evict these stored objects, nor what replaces them. A purge takes them all the
        same."""
        return await carry_out(order, request, pinned=True)

    @app.post("/-/unpin", dependencies=_token_documented)
    async def unpin(order: PinOrder, request: Request) -> PinResult:
        """Let these be evicted again."""
        return await carry_out(order, request, pinned=False)


def _add_scrub(app: FastAPI, service: Service) -> None:
    @app.post("/-/scrub", status_code=202, dependencies=_token_documented)
    async def begin_scrub(request: Request) -> Scrubbed:
        """Compare every stored byte with its checksum, behind; a scrub that runs goes on."""
        begun = await service.begin_scrub()
        audit.write(audit.line_for(request.scope, "scrub", "all"))
        return begun

    @app.get("/-/scrub", dependencies=_token_documented)
    async def scrubbed() -> Scrubbed:
        """How far the last scrub has come."""
        return await service.scrubbed() or Scrubbed()


def _add_health(app: FastAPI, service: Service, metrics: Metrics, readiness: Readiness) -> None:
    methods = ["GET", "HEAD"]

    @app.api_route("/healthz", methods=methods, include_in_schema=False)
    @app.api_route("/livez", methods=methods, include_in_schema=False)
    async def alive() -> PlainTextResponse:
        return PlainTextResponse("ok\n")

    @app.api_route("/readyz", methods=methods, include_in_schema=False)
    async def ready() -> JSONResponse:
        """200 while downloads go on, with a sick disk too: then the status is "degraded"."""
        if not readiness.ready:
            return JSONResponse({"status": "stopping"}, 503)
        statistics = await service.statistics()
        if statistics.healthy:
            return JSONResponse({"status": "ok"})
        detail = "the disk cache is out of order; downloads go on without it"
        return JSONResponse({"status": "degraded", "detail": detail})

    @app.api_route("/metrics", methods=methods, include_in_schema=False)
    async def prometheus() -> Response:
        elsewhere = await service.door_counts_elsewhere()
        text = metrics.render(await service.statistics(), elsewhere)
        return Response(text, media_type=CONTENT_TYPE)


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(ForebayError)
    async def told(_: Request, error: ForebayError) -> Response:
        return _response(problem_of(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        return _response(Problem(400, "invalid-request", _told_of(error)))

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        fields = tuple((error.headers or {}).items())
        if error.status_code == 405:
            fields = (("allow", ", ".join(_methods_of(app, request))),)
        detail = {
            404: "There is nothing of this name on the admin side.",
            405: "This name does not take this method; see the Allow field.",
        }.get(error.status_code, str(error.detail))
        return _response(Problem(error.status_code, "refused", detail, fields))


def _methods_of(app: FastAPI, request: Request) -> list[str]:
    """Every method that this path takes: a route knows its own only."""
    found: set[str] = set()
    for route in app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return sorted(found)


_AN_ORDER = 'send JSON such as {"url": "https://host/path"}'


def _told_of(error: RequestValidationError) -> str:
    first: dict[str, Any] = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if where == "body" and first["type"] == "missing":
        return f"The order is missing: {_AN_ORDER}."
    if first["type"] == "json_invalid":
        return f"The order is not JSON: {_AN_ORDER}."
    return f"{where}: {first['msg']}."


def _response(problem: Problem) -> Response:
    body = problem.body()
    response = Response(body, problem.status)
    response.raw_headers = problem.raw_fields(len(body))
    return response
