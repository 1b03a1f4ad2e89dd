"""What a start waits for: nobody is refused, or waits, for what no download needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from forebay.cli import COMMANDS

OTHER_COMMANDS = {f"forebay.cli.{name}" for name in (*COMMANDS, "download", "progress")} - {
    "forebay.cli.serve"
}


def modules_after(statement: str) -> set[str]:
    """The modules of a fresh interpreter that has run this."""
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "not_needed"),
    [
        # Until it listens, a client is refused.
        (
            "from forebay.cli import serve",
            {"fastapi", "starlette", "httpx", "uvicorn", "rich", "diskcache", "prometheus_client"},
        ),
        # Until it serves, a client waits. (httpx brings rich along, for a command of its own.)
        (
            "from forebay.cli import serve, server\nimport forebay.app",
            {"fastapi", "starlette", "tomli_w", "forebay.web.admin"},
        ),
    ],
)
def test_a_start_does_not_import_what_it_does_not_need(
    statement: str, not_needed: set[str]
) -> None:
    loaded = modules_after(statement)

    assert "forebay.cli.serve" in loaded
    assert loaded & (not_needed | OTHER_COMMANDS) == set()
