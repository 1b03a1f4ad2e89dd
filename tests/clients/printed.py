"""What ``forebay env`` prints, put where it says, and its client run with that and nothing else."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from forebay.cli import app
from tests.clients.conftest import Ran, run_in
from tests.live.running import Running

_IN_A_FILE = re.compile(r"# .*?\bin ((?:~|/)\S*?)[,:]?(?:\s|$)")
"""A comment that names a file: what follows, up to the next comment, belongs there."""


@dataclass(frozen=True, slots=True)
class Printed:
    """The lines for one client: those for a shell, and those for each file that they name."""

    shell: str
    files: dict[str, str]

    def fill_in(self, told: dict[str, str]) -> Printed:
        """The same with what is printed in capitals for the reader to fill in."""

        def change(text: str) -> str:
            for word, by in told.items():
                text = text.replace(word, by)
            return text

        return Printed(change(self.shell), {k: change(v) for k, v in self.files.items()})

    def put(self, home: Path) -> dict[str, Path]:
        """Write the files, with ``~`` and ``/`` both meaning ``home``; where each is now."""
        placed = {}
        for name, text in self.files.items():
            path = home / name.lstrip("~/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            placed[name] = path
        return placed

    def only(self, word: str) -> Printed:
        """The lines of a shell with a word that begins so, of several programs' lines."""
        begins = re.compile(rf"(?<!\w){re.escape(word)}")
        lines = [line for line in self.shell.splitlines() if begins.search(line)]
        assert lines, self.shell
        return Printed("\n".join(lines), self.files)

    async def run(self, *command: str, home: Path, **environment: str) -> Ran:
        """Type the shell's lines, then the command, in this home. Skips where it is missing."""
        path = environment.get("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        if command and shutil.which(command[0], path=path) is None:
            pytest.skip(f"{command[0]} is not installed here")
        script = f'set -e\n{self.shell}\n"$@"'
        given = {**environment, "PATH": path}
        return await run_in(given, "sh", "-c", script, "sh", *command, cwd=home)


async def printed(client: str, service: Running) -> Printed:
    """Ask for a client's lines, as a person on the service's machine does."""
    config = service.cache.with_suffix(".toml")
    words = ["env", client, "--server", f"127.0.0.1:{service.port}"]
    if await asyncio.to_thread(config.exists):
        words += ["--config", str(config)]
    done = await asyncio.to_thread(CliRunner().invoke, app, words)
    assert done.exit_code == 0, done.output
    shell: list[str] = []
    files: dict[str, list[str]] = {}
    lines = shell
    for line in done.stdout.splitlines():
        if line.startswith("#"):
            named = _IN_A_FILE.match(line)
            lines = files.setdefault(named[1], []) if named else shell
        else:
            lines.append(line)
    return Printed("\n".join(shell), {k: "\n".join(v) + "\n" for k, v in files.items()})
