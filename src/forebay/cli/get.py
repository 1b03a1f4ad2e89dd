"""``forebay get``: download through a running Forebay, resuming and verifying."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import quote, unquote, urlsplit

import typer

from forebay.cli.common import (
    CacheDirOption,
    ConfigOption,
    ServerOption,
    fail,
    overrides_from,
    server_url,
    settings_or_fail,
)
from forebay.cli.download import Download, DownloadError
from forebay.cli.progress import progress_of
from forebay.cli.remote import Remote, RemoteError
from forebay.settings import Settings
from forebay.units import describe_size

_INTERRUPTED = 130
"""128 plus the number of SIGINT, as shells have it."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


def get(
    url: Annotated[
        str, typer.Argument(help="The file's own URL, or a URL of the running Forebay.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file to write; else named as in the URL."),
    ] = None,
    sha256: Annotated[
        str | None, typer.Option(help="The SHA-256 that the file must have, in hex.")
    ] = None,
    server: ServerOption = None,
    config: ConfigOption = None,
    cache_dir: CacheDirOption = None,
) -> None:
    """Download through the Forebay that runs here, or at --server.

    What has come is kept in FILE.part until the file is whole: after Ctrl-C or a failure, the
    same command goes on from there.
    """
    digest = _digest_or_fail(sha256)
    settings = settings_or_fail(config, overrides_from(cache__dir=cache_dir))
    base = server_url(settings, server)
    remote = Remote(base, _token_if_any(settings))
    target = _file_for(url, output)
    download = Download(remote, url, _address(base, url), target, digest)
    try:
        with progress_of(remote, url, target.name) as progress:
            done = download.run(progress)
    except (RemoteError, DownloadError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{target} cannot be written: {error.strerror}.")
    except KeyboardInterrupt:
        fail(
            f"\nStopped with {describe_size(download.kept_bytes)} in {download.part}; "
            "the same command goes on from there.",
            status=_INTERRUPTED,
        )
    typer.echo(f"{target}: {done}")


def _digest_or_fail(sha256: str | None) -> str | None:
    if sha256 is None:
        return None
    digest = sha256.strip().lower()
    if not _SHA256.fullmatch(digest):
        fail("--sha256 takes the 64 hex digits of a SHA-256.", status=2)
    return digest


def _token_if_any(settings: Settings) -> str | None:
    """The token, which only adds the segments to the progress bar."""
    try:
        token = settings.admin_token(create=False)
    except (OSError, ValueError):
        return None
    return None if token is None else token.get_secret_value()


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
