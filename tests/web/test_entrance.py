"""Who may download: tokens as clients send them, and networks."""

from __future__ import annotations

import base64
import ipaddress

import pytest

from forebay.errors import ClientForbidden, ClientUnknown, ForebayError, ProxyClientUnknown
from forebay.model import Fields, Request
from forebay.web.credentials import TokenBook, client_token
from forebay.web.entrance import Access, Entrance
from forebay.web.problems import problem_of

TOKENS = Access(TokenBook([("ci", "s3cret"), ("bob", "other")]))
OFFICE = Access(None, [ipaddress.ip_network("192.0.2.0/24")])
BOTH = Access(TOKENS.tokens, OFFICE.networks)
ENTRANCE = Entrance({"tokens": TOKENS, "office": OFFICE, "both": BOTH})


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


def asked(
    value: str | None = None, host: str = "192.0.2.1", *, name: str = "authorization",
    absolute: bool = False,
) -> Request:  # fmt: skip
    fields = Fields([("accept", "x")] + ([(name, value)] if value is not None else []))
    return Request("GET", "/f", fields=fields, client_host=host, absolute=absolute)


@pytest.mark.parametrize(
    ("value", "token"),
    [
        ("Bearer s3cret", "s3cret"),
        ("bearer   s3cret ", "s3cret"),
        (basic("anyone:s3cret"), "s3cret"),
        (basic("s3cret:"), "s3cret"),
        (basic(":s3cret"), "s3cret"),
        (basic("a:b:c"), "b:c"),
        (basic("s3cret"), None),
        ("Basic ????", None),
        ("Basic", None),
        ("Digest s3cret", None),
        ("s3cret", None),
        ("", None),
    ],
)
def test_a_token_is_read_as_clients_send_it(value: str, token: str | None) -> None:
    assert client_token(Fields([("authorization", value)])) == token


def test_two_authorization_lines_are_none() -> None:
    line = ("authorization", "Bearer s3cret")
    assert client_token(Fields([line, line])) is None


@pytest.mark.parametrize("value", ["Bearer s3cret", basic("x:s3cret"), basic("s3cret:")])
def test_who_has_a_token_comes_in_and_leaves_it_at_the_door(value: str) -> None:
    visitor = ENTRANCE.admit(asked(value), ["tokens"])
    assert visitor.request.fields == Fields([("accept", "x")])
    assert visitor.client == "token ci"


@pytest.mark.parametrize(
    ("request_", "mount", "error", "challenge"),
    [
        (asked(), "tokens", ClientUnknown, "www-authenticate"),
        (asked("Bearer wrong"), "tokens", ClientUnknown, "www-authenticate"),
        (asked("Bearer "), "tokens", ClientUnknown, "www-authenticate"),
        (asked(basic(":")), "tokens", ClientUnknown, "www-authenticate"),
        (asked("Bearer s3cret", absolute=True), "tokens", ProxyClientUnknown,
         "proxy-authenticate"),
        (asked("Bearer s3cret", "198.51.100.1"), "both", ClientForbidden, None),
        (asked(None, "192.0.2.1"), "both", ClientUnknown, "www-authenticate"),
        (asked(None, "198.51.100.1"), "office", ClientForbidden, None),
        (asked(None, ""), "office", ClientForbidden, None),
    ],
)  # fmt: skip
def test_who_may_not_is_told_how_it_could(
    request_: Request, mount: str, error: type[ForebayError], challenge: str | None
) -> None:
    with pytest.raises(ForebayError) as caught:
        ENTRANCE.admit(request_, [mount])
    assert type(caught.value) is error
    names = [name for name, _ in problem_of(caught.value).fields]
    assert names == ([challenge] if challenge else [])


def test_a_proxy_s_token_is_ours_and_authorization_is_the_server_s() -> None:
    request = asked("Bearer s3cret", name="proxy-authorization", absolute=True)
    request = Request(
        "GET", "/f", fields=request.fields.with_field("authorization", "Bearer theirs"),
        absolute=True,
    )  # fmt: skip
    visitor = ENTRANCE.admit(request, ["tokens"])
    assert "proxy-authorization" not in visitor.request.fields
    assert visitor.request.fields.get("authorization") == "Bearer theirs"


def test_a_mount_without_rules_is_open_and_touches_nothing() -> None:
    request = asked("Bearer for upstream")
    assert ENTRANCE.admit(request, ["open"]).request is request


def test_what_is_about_several_mounts_is_for_whoever_may_use_one() -> None:
    assert ENTRANCE.admit(asked(), ["tokens", "office"])
    with pytest.raises(ClientUnknown):
        ENTRANCE.admit(asked(None, "198.51.100.1"), ["tokens", "office"])
