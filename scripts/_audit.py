"""Asks pip-audit about what is installed beside it, for ``scripts/check``.

Options go on to pip-audit, such as ``-s osv --osv-url …`` where another service can be reached.
The exit status is 1 for a known vulnerability, and for a pip-audit that fails for any other reason
than a service that cannot be reached: that is told, and no failure, because nothing is known then.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

COMMAND = ("pip-audit", "--skip-editable", "--progress-spinner", "off", "--timeout", "10")
UNREACHABLE = re.compile(
    r"Could not connect|Connect(?:ion)?(?:Error|Timeout)|ReadTimeout|ProxyError|SSLError"
    r"|ServiceError|HTTPError|not redirecting"
)


def main(options: list[str]) -> int:
    """Run pip-audit, say what it found, and give the exit status."""
    run = subprocess.run(
        [*COMMAND, "--format", "json", *options], capture_output=True, text=True, check=False
    )
    try:
        dependencies: list[dict[str, Any]] = json.loads(run.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return told_nothing(run.stderr or run.stdout)
    for line in (lines := list(findings(dependencies))):
        print(line)
    if not lines and run.returncode != 0:
        print(run.stderr)
    return 1 if lines or run.returncode != 0 else summed_up(dependencies)


def findings(dependencies: list[dict[str, Any]]) -> list[str]:
    """A line for each vulnerability."""
    return [
        f"{found['name']} {found['version']}: {vulnerability['id']}"
        f" (mended in {', '.join(vulnerability.get('fix_versions', ())) or 'no version yet'})"
        for found in dependencies
        for vulnerability in found.get("vulns", ())
    ]


def summed_up(dependencies: list[dict[str, Any]]) -> int:
    """Say how much was looked up."""
    known = [found for found in dependencies if "vulns" in found]
    unknown = [
        d["name"] for d in dependencies if "editable" not in d.get("skip_reason", "editable")
    ]
    if not known:
        print("skipped: the service that answers knows none of our packages")
        return 0
    print(f"nothing known against {len(known)} packages")
    if unknown:
        print(f"not known to the service: {', '.join(unknown)}")
    return 0


def told_nothing(text: str) -> int:
    """A service that cannot be reached says nothing; anything else is a failure."""
    last = (text.strip().splitlines() or ["pip-audit said nothing"])[-1]
    if UNREACHABLE.search(text):
        print(f"skipped: no vulnerability service can be reached from here ({last[:200]})")
        return 0
    print(text.strip() or last)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
