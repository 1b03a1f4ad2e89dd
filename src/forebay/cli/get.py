"""``forebay get``: download through a running Forebay, resuming and verifying."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import quote, unquote, urlsplit

import typer

from forebay.cli.common import CacheDirOption, ClientTokenOption, ConfigOption, ServerOption, fail
from forebay.cli.download import Download, sha256_of
from forebay.cli.patience import DownloadError, WrongDigestError
from forebay.cli.piping import Piping
from forebay.cli.progress import progress_of
from forebay.cli.reaching import client_token_or_fail, reach, settings_of
from forebay.cli.remote import Remote, RemoteError
from forebay.units import describe_size

_INTERRUPTED = 130
"""128 plus the number of SIGINT, as shells have it."""
_PIPE_CLOSED = 141
"""The same for SIGPIPE: whoever read our output has had enough."""
_WRONG_DIGEST = 3
_STANDARD_OUTPUT = Path("-")

_SHA256 = re.compile(r"[0-9a-f]{64}")


def get(
    url: Annotated[
        str, typer.Argument(help="The file's own URL, or a URL of the running Forebay.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The file to write, - for standard output; else named as in the URL.",
        ),
    ] = None,
    sha256: Annotated[
        str | None, typer.Option(help="The SHA-256 that the file must have, in hex.")
    ] = None,
    token: ClientTokenOption = None,
    server: ServerOption = None,
    config: ConfigOption = None,
    cache_dir: CacheDirOption = None,
) -> None:
    """Download through the Forebay that runs here, or at --server.

    What has come is kept in FILE.part until the file is whole: after Ctrl-C or a failure, the
    same command goes on from there. The exit status is 0 when the file is there, 3 where its
    SHA-256 is another, 130 after Ctrl-C, 2 for options that cannot be, and 1 on other trouble.
    """
    digest = _digest_or_fail(sha256)
    shown = client_token_or_fail(token)
    remote = reach(settings_of(config, cache_dir), server, client_token=shown)
    address = _address(remote.base_url, url)
    try:
        if output == _STANDARD_OUTPUT:
            _to_standard_output(remote, url, address, digest)
        else:
            _to_file(remote, url, address, _file_for(url, output), digest)
    except WrongDigestError as error:
        fail(str(error), status=_WRONG_DIGEST)
    except DownloadError as error:
        fail(str(error))
    except RemoteError as error:
        fail(str(error) if error.status is None else f"{url}: {error}")


def _to_file(remote: Remote, url: str, address: str, target: Path, digest: str | None) -> None:
    if digest is not None and _is_there(target, digest):
        typer.echo(f"{target}: already there, SHA-256 verified")
        return
    download = Download(remote, url, address, target, digest)
    try:
        with progress_of(remote, url, target.name) as progress:
            done = download.run(progress)
    except OSError as error:
        fail(f"{target} cannot be written: {error.strerror}. {download.what_is_kept}".strip())
    except KeyboardInterrupt:
        fail(
            f"\nStopped with {describe_size(download.kept_bytes)} in {download.part}; "
            "the same command goes on from there.",
            status=_INTERRUPTED,
        )
    typer.echo(f"{target}: {done}")


def _to_standard_output(remote: Remote, url: str, address: str, digest: str | None) -> None:
    piping = Piping(remote, address, sys.stdout.buffer, digest)
    try:
        with progress_of(remote, url, "-") as progress:
            done = piping.run(progress)
    except BrokenPipeError:
        # Python would complain at its end that it cannot flush what nobody reads.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(_PIPE_CLOSED) from None
    except OSError as error:
        fail(f"Standard output cannot be written: {error.strerror}.")
    except KeyboardInterrupt:
        fail(f"\nStopped after {describe_size(piping.written_bytes)}.", status=_INTERRUPTED)
    typer.echo(done, err=True)


def _is_there(target: Path, digest: str) -> bool:
    try:
        return sha256_of(target) == digest
    except OSError:
        return False


def _digest_or_fail(sha256: str | None) -> str | None:
    if sha256 is None:
        return None
    digest = sha256.strip().lower()
    if not _SHA256.fullmatch(digest):
        fail("--sha256 takes the 64 hex digits of a SHA-256.", status=2)
    return digest


def _address(base: str, url: str) -> str:
    """Where the service has this URL: at a mount's own address, or behind ``/-/fetch``."""
    if url.startswith(base + "/"):
        return url
    if urlsplit(url).scheme not in {"http", "https"}:
        fail(f"{url!r} is not an absolute http or https URL.", status=2)
    return f"{base}/-/fetch?url={quote(url, safe='')}"


def _file_for(url: str, output: Path | None) -> Path:
    last = unquote(urlsplit(url).path.rsplit("/", 1)[-1])
    name = last if last not in {"", ".", ".."} and "/" not in last and "\0" not in last else ""
    if output is None:
        return Path(name or "index.html")
    return output / (name or "index.html") if output.is_dir() else output
