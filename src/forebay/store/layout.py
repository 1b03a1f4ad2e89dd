"""What lies where in a cache directory, and which format it has.

::

    version        the format of all the rest, a number
    lock           held while a service uses the directory (``lock``)
    generation     changes with every change of the index (``generation``), workers only
    progress/      what drafts have written, for the other workers (``progress``)
    turns          locked byte by byte while upstream is asked (``turns``), workers only
    orders         purges, for those who are asking meanwhile (``orders``), workers only
    workers/       what each worker has counted (``boards``)
    index/         the diskcache database (``index``)
    blobs/ab/…     one sparse file per entry, by the first two characters of its id (``blobs``)

Other files (the admin token) belong to others and are left alone.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from forebay.errors import StoreError

FORMAT_VERSION = 2
"""1 had neither checksums nor mounts in its index; ``schema`` converts it."""
_READABLE = {str(version): version for version in range(1, FORMAT_VERSION + 1)}


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
    def progress(self) -> Path:
        return self.directory / "progress"

    @property
    def turns(self) -> Path:
        return self.directory / "turns"

    @property
    def orders(self) -> Path:
        return self.directory / "orders"

    @property
    def workers(self) -> Path:
        return self.directory / "workers"

    @property
    def index(self) -> Path:
        return self.directory / "index"

    @property
    def blobs(self) -> Path:
        return self.directory / "blobs"

    def version_found(self) -> int | None:
        """The format of the directory, None for a new one.

        Raises ``StoreError`` when it is newer than ours or cannot be read.
        """
        try:
            found = self.version.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return None
        except ValueError:
            found = "of unknown kind"
        if found in _READABLE:
            return _READABLE[found]
        raise StoreError(
            f"The cache directory {self.directory} has format {found}, and this Forebay reads "
            f"formats up to {FORMAT_VERSION}: use the Forebay that wrote it, or another directory."
        )

    def write_version(self) -> None:
        """Say that the directory has our format now.

        Never half a file: a torn version would shut the service out of its own cache.
        """
        fresh = self.version.with_name(f"version.{os.getpid()}")
        with fresh.open("w", encoding="ascii") as file:
            file.write(f"{FORMAT_VERSION}\n")
            file.flush()
            os.fsync(file.fileno())
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
