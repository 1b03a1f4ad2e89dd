"""A network namespace of the benchmark's own, in which loopback has a chosen congestion control.

It is set by a route, so that every socket of every server has it, without a word to the servers
and without touching what the machine has.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from typing import NoReturn

_ROUTE = "scope host src 127.0.0.1 proto kernel dev lo table local congctl"


def run_under(control: str, arguments: Sequence[str]) -> NoReturn:
    """Become ``python -m bench`` with these arguments in such a namespace.

    Needs ``unshare`` and ``ip``, and root's rights. Raises ``RuntimeError`` where a program is
    missing.
    """
    unshare, ip = shutil.which("unshare"), shutil.which("ip", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if unshare is None or ip is None:
        raise RuntimeError("--congestion needs the programs unshare and ip")
    script = (
        f"{ip} link set lo up && for net in 127.0.0.0/8 127.0.0.1; do "
        f'{ip} route replace local "$net" {_ROUTE} "$0" || exit 1; done; exec "$@"'
    )
    command = [unshare, "--net", "sh", "-c", script, control, sys.executable, "-m", "bench"]
    os.execv(unshare, [*command, *arguments])
