"""What lies where in a cache directory, and which format it has.

::

    version        the format of all the rest, a number
    lock           held while a service uses the directory (``lock``)
    generation     changes with every change of the index (``generation``), workers only
    index/         the diskcache database (``index``)
    blobs/ab/…     one sparse file per entry, by the first two characters of its id (``blobs``)

Other files (the admin token) belong to others and are left alone.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from forebay.errors import StoreError

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one cache directory."""

    directory: Path

    @property
    def version(self) -> Path:
        return self.directory / "version"

    @property
    def lock(self) -> Path:
        return self.directory / "lock"

    @property
    def generation(self) -> Path:
        return self.directory / "generation"

    @property
    def index(self) -> Path:
        return self.directory / "index"

    @property
    def blobs(self) -> Path:
        return self.directory / "blobs"

    def check_version(self) -> None:
        """Write the version into a new directory; refuse one that is not ours to read.

        Raises ``StoreError`` when the directory has a newer format or none that can be read.
        """
        try:
            found = self.version.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            self._write_version()
            return
        except ValueError:
            found = "of unknown kind"
        if found == str(FORMAT_VERSION):
            return
        raise StoreError(
            f"The cache directory {self.directory} has format {found}, and this Forebay reads "
            f"format {FORMAT_VERSION}: use the Forebay that wrote it, or another directory."
        )

    def _write_version(self) -> None:
        """Never half a file: a torn version would shut the service out of its own cache."""
        fresh = self.version.with_name(f"version.{os.getpid()}")
        fresh.write_text(f"{FORMAT_VERSION}\n", encoding="ascii")
        fresh.replace(self.version)

    def set_aside_index(self) -> Path:
        """Move a damaged index out of the way; gives the place where it lies now."""
        number = 1 + max((n for n, _ in self._set_aside()), default=0)
        aside = self.directory / f"index.damaged-{number}"
        self.index.rename(aside)
        return aside

    def old_damaged_indexes(self) -> list[Path]:
        """Every index that was set aside but the newest, which may still explain something."""
        return [path for _, path in sorted(self._set_aside())[:-1]]

    def _set_aside(self) -> list[tuple[int, Path]]:
        found = []
        for path in self.directory.glob("index.damaged-*"):
            number = path.name.rpartition("-")[2]
            if number.isdigit():
                found.append((int(number), path))
        return found
