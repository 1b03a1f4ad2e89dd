"""``scripts/_audit.py``: what pip-audit's answers mean for ``./scripts/check``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "_audit.py"
CLEAN = {"name": "wheel", "version": "1.0", "vulns": []}
BAD = {"name": "cog", "version": "2.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"]}]}
EDITABLE = {"name": "forebay", "skip_reason": "distribution marked as editable"}
UNKNOWN = {"name": "axle", "skip_reason": "Dependency not found on PyPI and could not be audited"}


def report(*dependencies: object) -> str:
    return json.dumps({"dependencies": dependencies, "fixes": []})


@pytest.mark.parametrize(
    ("out", "error", "status", "expected", "told"),
    [
        (report(CLEAN, EDITABLE), "", 0, 0, "nothing known against 1 packages"),
        (report(CLEAN, UNKNOWN), "", 0, 0, "not known to the service: axle"),
        (report(UNKNOWN, EDITABLE), "", 0, 0, "skipped: the service that answers knows none"),
        (report(CLEAN, BAD), "Found 1 known vulnerability", 1, 1, "PYSEC-1 (mended in 2.1"),
        (report(UNKNOWN, BAD), "Found 1 known vulnerability", 1, 1, "cog 2.0: PYSEC-1"),
        (report(CLEAN), "Something else is wrong", 1, 1, "Something else is wrong"),
        ("", "x\nrequests.exceptions.ConnectionError: refused", 1, 0, "skipped: no vulnerability"),
        ("", "ERROR:pip_audit._cli:Could not connect to PyPI's", 1, 0, "skipped: no vulnerability"),
        ("", "pip-audit: error: unrecognized arguments", 2, 1, "unrecognized"),
        ("", "", 0, 1, "pip-audit said nothing"),
    ],
)  # fmt: skip
def test_only_a_service_that_cannot_be_reached_is_no_failure(
    tmp_path: Path, out: str, error: str, status: int, expected: int, told: str
) -> None:
    program = tmp_path / "pip-audit"
    program.write_text(
        f"#!{sys.executable} -S\nimport sys\nsys.stdout.write({out!r})\n"
        f"sys.stderr.write({error!r})\nsys.exit({status})\n"
    )
    program.chmod(0o755)
    environment = {**os.environ, "PATH": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-S", SCRIPT], env=environment, capture_output=True, text=True, check=False
    )
    assert (run.returncode, told in run.stdout) == (expected, True), run.stdout + run.stderr
