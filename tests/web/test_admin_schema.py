"""The admin side keeps to its own OpenAPI, whatever is sent: drawn by schemathesis, bounded."""

from __future__ import annotations

import ipaddress
import itertools
from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from forebay.web.application import make_app
from forebay.web.asgi import Receive, Scope, Send
from tests.web.test_admin_side import ScrubbingService

TOKEN = "root"
AUTHORIZED = {"authorization": f"Bearer {TOKEN}"}

ADMIN = make_app(ScrubbingService(), token=TOKEN)
CLIENTS = itertools.count(1)


async def from_everywhere(scope: Scope, receive: Receive, send: Send) -> None:
    """Every request from a client of its own, so that spoilt tokens stop nobody else's."""
    await ADMIN({**scope, "client": (str(ipaddress.IPv4Address(next(CLIENTS))), 1)}, receive, send)


schema = schemathesis.openapi.from_asgi("/-/openapi.json", from_everywhere, headers=AUTHORIZED)


@schema.auth()
class Admin(schemathesis.AuthProvider[str]):
    """Known to schemathesis as credentials, which it leaves out and spoils now and then."""

    def get(self, case: schemathesis.Case[Any], ctx: schemathesis.AuthContext) -> str:
        return AUTHORIZED["authorization"]

    def set(self, case: schemathesis.Case[Any], data: str, ctx: schemathesis.AuthContext) -> None:
        case.headers["Authorization"] = data


@schema.parametrize()
@settings(
    max_examples=10,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
def test_what_is_answered_is_what_the_document_says(case: schemathesis.Case[Any]) -> None:
    # That a purge names exactly one thing, and an address that can be read, is said in words.
    case.call_and_validate(excluded_checks=[positive_data_acceptance])


def test_the_document_names_every_operation_once() -> None:
    names = [
        operation["operationId"]
        for operations in schema.raw_schema["paths"].values()
        for operation in operations.values()
    ]
    assert len(names) == len(set(names)) == 8
