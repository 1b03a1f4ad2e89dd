"""Where tests put their files: in memory, but for those that are about a disk."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

_IN_MEMORY = Path("/dev/shm")
_ENOUGH_BYTES = 2 << 30
"""Some times what all workers' tests hold at once. Containers have 64 MiB, and then use a disk."""


def chosen_for_temporary_files() -> str:
    """A directory in memory where there is one with room, else the usual one."""
    usable = os.access(_IN_MEMORY, os.W_OK | os.X_OK)
    if usable and shutil.disk_usage(_IN_MEMORY).free >= _ENOUGH_BYTES:
        return str(_IN_MEMORY)
    return tempfile.gettempdir()


def on_a_disk() -> str:
    """A directory in which files can be read on condition that they are in the page cache.

    The usual one may be in memory itself; files there cannot be asked. Where no other can, too,
    the usual one it is.
    """
    for directory in (tempfile.gettempdir(), "/var/tmp", os.getcwd()):
        try:
            with tempfile.TemporaryFile(dir=directory) as file:
                file.write(b"x")
                file.flush()
                os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)
        except OSError:
            continue
        return directory
    return tempfile.gettempdir()
