"""Tokens, foreign pages and guesses."""

from __future__ import annotations

import pytest

from forebay.model import Fields
from forebay.web.auth import (
    MAX_FAILURES,
    WINDOW_SECONDS,
    AdminGuard,
    AdminKey,
    FailureLimit,
    is_cross_site,
)
from forebay.web.problems import Problem

TOKEN = "s3cret-tökén"
KEY = AdminKey("admin", TOKEN)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _with(token: str) -> Fields:
    return Fields([("authorization", f"Bearer {token}"), ("host", "a.test")])


def _status(guard: AdminGuard, fields: Fields, host: str = "192.0.2.1", scope: str = "read") -> int:
    admitted = guard.admit(fields, host, scope)
    return admitted.status if isinstance(admitted, Problem) else 200


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ([f"Bearer {TOKEN}"], 200),
        ([f"bearer  {TOKEN} "], 200),
        ([], 401),
        ([TOKEN], 401),
        ([f"Basic {TOKEN}"], 401),
        (["Bearer "], 401),
        ([f"Bearer {TOKEN}x"], 401),
        ([f"Bearer {TOKEN[:-1]}"], 401),
        ([f"Bearer {TOKEN}", f"Bearer {TOKEN}"], 401),
        (["Bearer \udcff"], 401),
    ],
)
def test_only_the_token_opens(values: list[str], status: int) -> None:
    fields = Fields(("authorization", value) for value in values)
    assert _status(AdminGuard([KEY]), fields) == status


def test_an_empty_token_is_not_a_token() -> None:
    with pytest.raises(ValueError, match="token"):
        AdminGuard([AdminKey("admin", "")])


@pytest.mark.parametrize(
    ("fields", "foreign"),
    [
        ([], False),
        ([("sec-fetch-site", "same-origin")], False),
        ([("sec-fetch-site", "none")], False),
        ([("sec-fetch-site", "same-site")], True),
        ([("sec-fetch-site", "cross-site")], True),
        ([("origin", "http://a.test")], False),
        ([("origin", "http://A.test")], False),
        ([("origin", "http://a.test:81")], True),
        ([("origin", "http://b.test")], True),
        ([("origin", "null")], True),
        ([("origin", "")], True),
        # What cannot be read is foreign, and no fault of ours.
        ([("origin", "http://[")], True),
        ([("origin", "http://[x]y")], True),
        ([("origin", "http://a.test/")], True),
        ([("origin", "//a.test")], True),
    ],
)
def test_pages_from_elsewhere_are_told_apart(fields: list[tuple[str, str]], foreign: bool) -> None:
    assert is_cross_site(Fields([("host", "a.test"), *fields])) is foreign


def test_a_foreign_page_is_refused_even_with_the_token() -> None:
    fields = _with(TOKEN).with_field("sec-fetch-site", "cross-site")
    assert _status(AdminGuard([KEY]), fields) == 403


def test_guesses_are_stopped_until_the_window_is_over() -> None:
    clock = Clock()
    guard = AdminGuard([KEY], clock)
    assert [_status(guard, _with("guess")) for _ in range(MAX_FAILURES)] == [401] * MAX_FAILURES
    assert _status(guard, _with(TOKEN)) == 429
    assert _status(guard, _with(TOKEN), "192.0.2.2") == 200
    clock.now += WINDOW_SECONDS
    assert _status(guard, _with(TOKEN)) == 200


def test_asking_without_a_token_is_no_guess() -> None:
    guard = AdminGuard([KEY])
    assert {_status(guard, Fields()) for _ in range(MAX_FAILURES * 2)} == {401}
    assert _status(guard, _with(TOKEN)) == 200


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("2001:db8::1", "2001:db8::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("no address", "no address", True),
    ],
)
def test_an_ipv6_network_counts_as_one_client(first: str, second: str, same: bool) -> None:
    limit = FailureLimit(Clock())
    for _ in range(MAX_FAILURES):
        limit.note_failure(first)
    assert (limit.wait_seconds(second) > 0) is same


def test_the_table_of_failures_is_bounded() -> None:
    limit = FailureLimit(Clock())
    for _ in range(MAX_FAILURES):
        limit.note_failure("192.0.2.1")
    for number in range(5000):
        limit.note_failure(f"client {number}")
    assert limit.wait_seconds("192.0.2.1") == 0
    assert len(limit._failures) <= 4096
