"""Every error has a status, and every problem says enough and not too much."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from forebay import errors
from forebay.web.problems import STATUS_OF, internal_fault, problem_of


def _tree(root: type[errors.ForebayError]) -> Iterator[type[errors.ForebayError]]:
    yield root
    for branch in root.__subclasses__():
        yield from _tree(branch)


def _ours() -> list[type[errors.ForebayError]]:
    """The tree of ``errors`` and what the door adds. A class that another room makes for itself
    is its own signal, and has its parent's status."""
    return [
        cls
        for cls in _tree(errors.ForebayError)
        if cls.__module__.startswith(("forebay.errors", "forebay.web"))
    ]


def test_every_error_of_the_tree_has_a_status_of_its_own() -> None:
    assert [cls.__name__ for cls in _ours() if cls not in STATUS_OF] == []


def test_no_error_is_answered_with_500() -> None:
    assert 500 not in STATUS_OF.values()
    assert internal_fault().status == 503


@pytest.mark.parametrize("cls", _ours(), ids=lambda cls: str(cls.__name__))
def test_a_problem_is_a_whole_document(cls: type[errors.ForebayError]) -> None:
    problem = problem_of(cls("What happened."))
    document = json.loads(problem.body())
    assert document["status"] == STATUS_OF[cls] == problem.status
    assert document["detail"] == "What happened."
    assert document["type"].startswith("urn:forebay:problem:")
    assert document["title"]
    assert document["instance"].startswith("urn:uuid:")


def test_a_class_nobody_mapped_takes_its_parents_status() -> None:
    class Unheard(errors.UpstreamTimeout):
        pass

    assert problem_of(Unheard("x")).status == 504


def test_overload_says_when_to_try_again() -> None:
    fields = dict(problem_of(errors.Overloaded("x", retry_after_seconds=7)).raw_fields(0))
    assert fields[b"retry-after"] == b"7"


def test_a_missing_token_is_asked_for() -> None:
    fields = dict(problem_of(errors.NotAuthorized("x")).raw_fields(0))
    assert fields[b"www-authenticate"].startswith(b"Bearer")


def test_two_problems_never_share_an_instance() -> None:
    error = errors.InvalidTarget("x")
    assert problem_of(error).instance != problem_of(error).instance
