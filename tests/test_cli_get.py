"""``forebay get`` writes a whole, verified file or none, and loses nothing that has come."""

from __future__ import annotations

import hashlib
import io
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from forebay.cli import app
from forebay.cli.download import Download
from forebay.cli.patience import DownloadError
from forebay.cli.piping import Piping
from forebay.cli.progress import Lines, progress_of, tell_segments
from forebay.cli.remote import Remote, RemoteError
from tests.fakes.scripted_server import Answer, Asked, response, scripted_server
from tests.patience import PATIENCE_SECONDS

runner = CliRunner()
PROGRAM = str(Path(sys.executable).with_name("forebay"))
URL = "https://a.example/dir/file.bin"
BODY = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(BODY).hexdigest()
ETAG = '"v1"'


class Silent:
    """A meter that remembers where it was."""

    def __init__(self) -> None:
        self.positions: list[tuple[int, int | None]] = []

    def at(self, position: int, length_bytes: int | None) -> None:
        self.positions.append((position, length_bytes))


def honest(asked: Asked) -> bytes:
    """What a right server says to a whole request or a range of an unchanged file."""
    wanted = asked.fields.get("range")
    if wanted is None or asked.fields.get("if-range", ETAG) != ETAG:
        return response("200 OK", BODY, ETag=ETAG)
    start = int(wanted.removeprefix("bytes=").removesuffix("-"))
    if start >= len(BODY):
        return response("416 Range Not Satisfiable", Content_Range=f"bytes */{len(BODY)}")
    return response(
        "206 Partial Content",
        BODY[start:],
        ETag=ETAG,
        Content_Range=f"bytes {start}-{len(BODY) - 1}/{len(BODY)}",
    )


def cut(count: int) -> bytes:
    """The first ``count`` bytes of a response that promised the whole."""
    return response("200 OK", BODY[:count], ETag=ETAG, Content_Length=str(len(BODY)))


def get(tmp_path: Path, *answers: Answer, arguments: tuple[str, ...] = ()) -> tuple[Any, Any]:
    target = tmp_path / "out.bin"
    with scripted_server(*answers) as server:
        result = runner.invoke(
            app, ["get", URL, "-o", str(target), "--server", server.url, *arguments]
        )
    return result, server


def leave_part(tmp_path: Path, count: int, **note: Any) -> None:
    (tmp_path / "out.bin.part").write_bytes(BODY[:count])
    told = {"url": URL, "etag": ETAG, "length_bytes": len(BODY)} | note
    (tmp_path / "out.bin.part.json").write_text(json.dumps(told))


def files(tmp_path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in tmp_path.iterdir()}


def test_a_whole_file_is_written_and_nothing_else_is_left(tmp_path: Path) -> None:
    result, server = get(tmp_path, honest, arguments=("--sha256", SHA256.upper()))
    assert result.exit_code == 0, result.output
    assert files(tmp_path) == {"out.bin": BODY}
    assert "SHA-256 verified" in result.output
    assert server.asked[0].line == (
        "GET /-/fetch?url=https%3A%2F%2Fa.example%2Fdir%2Ffile.bin HTTP/1.1"
    )
    assert server.asked[0].fields["accept-encoding"] == "identity"


def test_an_address_of_the_service_itself_is_asked_as_it_stands(tmp_path: Path) -> None:
    with scripted_server(honest) as server:
        result = runner.invoke(
            app,
            ["get", f"{server.url}/deb/x", "-o", str(tmp_path), "--server", server.url],
        )
    assert result.exit_code == 0, result.output
    assert server.asked[0].line == "GET /deb/x HTTP/1.1"
    assert files(tmp_path) == {"x": BODY}


@pytest.mark.parametrize("way", ["option", "variable"])
def test_a_client_token_is_shown_to_the_service_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    arguments: tuple[str, ...] = ("--token", "bob-s-token")
    if way == "variable":
        monkeypatch.setenv("FOREBAY_CLIENT_TOKEN", "bob-s-token")
        arguments = ()
    with scripted_server(honest) as elsewhere:
        led_away = response("302 Found", Location=f"{elsewhere.url}/x")
        result, server = get(tmp_path, led_away, arguments=arguments)
    assert result.exit_code == 0, result.output
    assert "bob-s-token" not in result.output
    shown = [
        asked.fields.get("authorization") for asked in server.asked if "GET /-/f" in asked.line
    ]
    assert shown == ["Bearer bob-s-token"]
    assert "authorization" not in elsewhere.asked[0].fields
    assert files(tmp_path) == {"out.bin": BODY}


@pytest.mark.parametrize("token", ["two words", "line\nfeed", "t\xf6ken"])
def test_what_cannot_be_a_token_is_refused_without_repeating_it(tmp_path: Path, token: str) -> None:
    result, server = get(tmp_path, honest, arguments=("--token", token))
    assert (result.exit_code, server.asked) == (2, [])
    assert "no client token" in result.output
    assert token not in result.output


def test_the_cache_status_is_shown(tmp_path: Path) -> None:
    answer = response("200 OK", BODY, ETag=ETAG, Cache_Status="forebay; hit")
    result, _ = get(tmp_path, answer)
    assert "Cache-Status: forebay; hit" in result.output


def test_a_broken_connection_goes_on_where_it_broke(tmp_path: Path) -> None:
    with scripted_server(cut(1000), honest) as server:
        download = Download(
            Remote(server.url), URL, server.url + "/x", tmp_path / "out.bin", SHA256,
            first_pause_seconds=0.0,
        )  # fmt: skip
        meter = Silent()
        download.run(meter)
    assert files(tmp_path) == {"out.bin": BODY}
    assert server.asked[1].fields["range"] == "bytes=1000-"
    assert server.asked[1].fields["if-range"] == ETAG
    assert meter.positions[-1] == (len(BODY), len(BODY))


def test_a_later_run_goes_on_with_what_is_on_disk(tmp_path: Path) -> None:
    leave_part(tmp_path, 5000)
    result, server = get(tmp_path, honest, arguments=("--sha256", SHA256))
    assert files(tmp_path) == {"out.bin": BODY}
    assert server.asked[0].fields["range"] == "bytes=5000-"
    assert "5 kB of it from before" in result.output


def test_a_changed_file_is_fetched_from_its_start(tmp_path: Path) -> None:
    leave_part(tmp_path, 5000, etag='"v0"')
    _, server = get(tmp_path, honest)
    assert server.asked[0].fields["if-range"] == '"v0"'
    assert files(tmp_path) == {"out.bin": BODY}


@pytest.mark.parametrize(
    "note", [{"url": "https://a.example/other"}, {"etag": None}, {"unknown": 1}]
)
def test_bytes_of_unproved_identity_are_not_continued(tmp_path: Path, note: dict[str, Any]) -> None:
    leave_part(tmp_path, 5000, **note)
    _, server = get(tmp_path, honest)
    assert "range" not in server.asked[0].fields
    assert files(tmp_path) == {"out.bin": BODY}


def test_a_weak_entity_tag_is_no_proof(tmp_path: Path) -> None:
    weak = response("200 OK", BODY[:10], ETag='W/"v1"', Content_Length=str(len(BODY)))
    with scripted_server(weak, honest) as server:
        Download(Remote(server.url), URL, server.url, tmp_path / "o", first_pause_seconds=0.0).run(
            Silent()
        )
    assert "range" not in server.asked[1].fields
    assert (tmp_path / "o").read_bytes() == BODY


def test_a_part_that_is_already_whole_is_put_in_place(tmp_path: Path) -> None:
    leave_part(tmp_path, len(BODY))
    result, _ = get(tmp_path, honest, arguments=("--sha256", SHA256))
    assert result.exit_code == 0, result.output
    assert files(tmp_path) == {"out.bin": BODY}


def test_a_part_longer_than_the_file_is_thrown_away(tmp_path: Path) -> None:
    leave_part(tmp_path, 10, length_bytes=5)
    with scripted_server(response("416 Range Not Satisfiable"), honest) as server:
        Download(
            Remote(server.url), URL, server.url, tmp_path / "out.bin", first_pause_seconds=0.0
        ).run(Silent())
    assert files(tmp_path) == {"out.bin": BODY}


def test_a_wrong_digest_leaves_no_file_at_all(tmp_path: Path) -> None:
    result, _ = get(tmp_path, honest, arguments=("--sha256", "0" * 64))
    assert result.exit_code == 3
    assert f"The SHA-256 is {SHA256} and not {'0' * 64}" in result.stderr
    assert files(tmp_path) == {}


@pytest.mark.parametrize(
    "answer",
    [
        response("206 Partial Content", BODY, Content_Range="bytes 7-8/9"),
        response("206 Partial Content", BODY, Content_Range="bytes */9"),
        response("206 Partial Content", BODY),
    ],
)
def test_a_range_that_was_not_asked_for_is_refused(tmp_path: Path, answer: bytes) -> None:
    result, _ = get(tmp_path, answer)
    assert result.exit_code == 1
    assert "out.bin" not in files(tmp_path)


def test_a_refusal_is_told_and_not_tried_again(tmp_path: Path) -> None:
    answer = response("403 Forbidden", b'{"detail": "This address may not be fetched."}')
    result, server = get(tmp_path, answer)
    assert result.exit_code == 1
    assert result.stderr == f"{URL}: 403 Forbidden: This address may not be fetched.\n"
    assert len(server.asked) == 1
    assert files(tmp_path) == {}


def test_tries_without_progress_are_bounded(tmp_path: Path) -> None:
    with scripted_server(cut(10), response("502 Bad Gateway")) as server:
        download = Download(
            Remote(server.url), URL, server.url, tmp_path / "o", first_pause_seconds=0.0
        )
        with pytest.raises(DownloadError, match="Given up after 5 tries without progress: 502"):
            download.run(Silent())
    assert len(server.asked) == 1 + 4
    assert (tmp_path / "o.part").read_bytes() == BODY[:10]


def test_a_service_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        server = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        pauses = Download(Remote(server), URL, server, tmp_path / "o", first_pause_seconds=1e9)
        with pytest.raises(RemoteError, match="Start it with forebay serve"):
            pauses.run(Silent())


def test_a_file_that_does_not_fit_is_told_before_it_is_fetched(tmp_path: Path) -> None:
    huge = response("200 OK", b"x", ETag=ETAG, Content_Length=str(10**18))
    result, server = get(tmp_path, huge)
    assert result.exit_code == 1
    assert "needs 1000 PB more, and its disk has" in result.stderr
    assert files(tmp_path) == {}
    assert len(server.asked) == 1


def test_a_file_that_is_there_already_is_not_fetched_again(tmp_path: Path) -> None:
    (tmp_path / "out.bin").write_bytes(BODY)
    result, server = get(tmp_path, honest, arguments=("--sha256", SHA256))
    assert (result.exit_code, server.asked) == (0, [])
    assert "already there, SHA-256 verified" in result.stdout
    (tmp_path / "out.bin").write_bytes(b"another")
    result, server = get(tmp_path, honest, arguments=("--sha256", SHA256))
    assert (result.exit_code, len(server.asked)) == (0, 1)
    assert files(tmp_path) == {"out.bin": BODY}


def to_standard_output(*answers: Answer, sha256: str = SHA256) -> tuple[int, bytes, str]:
    with scripted_server(*answers) as server:
        command = [PROGRAM, "get", URL, "-o", "-", "--sha256", sha256, "--server", server.url]
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE_SECONDS, check=False)
    return done.returncode, done.stdout, done.stderr.decode()


def test_standard_output_gets_the_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, told = to_standard_output(cut(1000), honest)
    assert (status, out) == (0, BODY)
    assert "SHA-256 verified" in told
    assert files(tmp_path) == {}
    status, out, told = to_standard_output(honest, sha256="0" * 64)
    assert (status, out) == (3, BODY)
    assert "do not use what was written" in told


def test_what_went_to_standard_output_is_never_joined_with_another_file() -> None:
    other = response("200 OK", BODY[::-1], ETag='"v2"')
    out = io.BytesIO()
    with scripted_server(cut(1000), other) as server:
        piping = Piping(Remote(server.url), server.url, out, first_pause_seconds=0.0)
        with pytest.raises(DownloadError, match="not the whole file"):
            piping.run(Silent())
    assert out.getvalue() == BODY[:1000]


def test_a_reader_that_has_had_enough_ends_it_quietly() -> None:
    with scripted_server(honest) as server:
        command = [PROGRAM, "get", URL, "-o", "-", "--server", server.url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.read(1)
            process.stdout.close()
            assert process.stderr.read() == b""
    assert process.returncode == 141


def test_where_nobody_sees_a_bar_a_line_comes_now_and_then(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = [0.0]
    lines = Lines("file.bin", lambda: now[0])
    for second in range(25):
        now[0] = float(second)
        lines.at(second * 1_000_000, 40_000_000)
    assert capsys.readouterr().err.splitlines() == [
        "file.bin: 10 MB of 40 MB, 1 MB/s",
        "file.bin: 20 MB of 40 MB, 1 MB/s",
    ]


def test_a_chunked_body_without_its_end_is_no_file(tmp_path: Path) -> None:
    broken = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    whole = broken + b"0\r\n\r\n"
    with scripted_server(broken, whole) as server:
        Download(Remote(server.url), URL, server.url, tmp_path / "o", first_pause_seconds=0.0).run(
            Silent()
        )
    assert len(server.asked) == 2
    assert (tmp_path / "o").read_bytes() == b"hello"


@pytest.mark.parametrize("sha256", ["abc", "z" * 64, ""])
def test_what_is_no_digest_is_refused_before_anything_is_asked(tmp_path: Path, sha256: str) -> None:
    result, server = get(tmp_path, honest, arguments=("--sha256", sha256))
    assert result.exit_code == 2
    assert server.asked == []


@pytest.mark.parametrize("url", ["ftp://a.example/x", "a.example/x", "file:///etc/passwd"])
def test_only_http_is_fetched(url: str) -> None:
    result = runner.invoke(app, ["get", url])
    assert result.exit_code == 2
    assert "is not an absolute http or https URL" in result.stderr


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    with scripted_server(honest) as server:
        result = runner.invoke(
            app, ["get", URL, "-o", str(tmp_path / "no" / "x"), "--server", server.url]
        )
    assert result.exit_code == 1
    assert "cannot be written: No such file or directory" in result.stderr


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://a.example/dir/file.bin?x=/y", "file.bin"),
        ("https://a.example/a%20b", "a b"),
        ("https://a.example/", "index.html"),
        ("https://a.example", "index.html"),
        ("https://a.example/..%2f..%2fetc", "index.html"),
        ("https://a.example/..", "index.html"),
    ],
)
def test_a_file_is_named_as_the_url_ends_and_never_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with scripted_server(honest) as server:
        result = runner.invoke(app, ["get", url, "--server", server.url])
    assert result.exit_code == 0, result.output
    assert files(tmp_path) == {name: BODY}


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """A shell starts what runs behind it deaf to interrupts, and children inherit that."""
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, usual)


@pytest.mark.usefixtures("_interruptible")
def test_an_interrupt_keeps_what_has_come_and_says_how_to_go_on(tmp_path: Path) -> None:
    asked_again, over = threading.Event(), threading.Event()

    def stall(_: Asked) -> bytes:
        asked_again.set()
        over.wait(PATIENCE_SECONDS)
        return b""

    with scripted_server(cut(1000), stall) as server:
        process = subprocess.Popen(
            [PROGRAM, "get", URL, "-o", str(tmp_path / "out.bin"), "--server", server.url],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert asked_again.wait(PATIENCE_SECONDS)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE_SECONDS)
        over.set()
    assert process.returncode == 130
    assert f"Stopped with 1 kB in {tmp_path / 'out.bin.part'}" in errors
    assert "Traceback" not in errors
    assert (tmp_path / "out.bin.part").read_bytes() == BODY[:1000]


def test_a_terminal_sees_a_bar_with_segments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transfers = {"transfers": [{"name": URL, "segments": [{"mirror": "a"}, {"mirror": "b"}]}]}
    polled = threading.Event()

    def answer(asked: Asked) -> bytes:
        if "/-/transfers" in asked.line:
            polled.set()
            return response("200 OK", json.dumps(transfers).encode())
        return honest(asked)

    monkeypatch.setenv("TERM", "xterm")
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=140)
    with scripted_server(answer) as server:
        remote = Remote(server.url, "secret-token")
        with progress_of(remote, URL, "file.bin", console) as meter:
            Download(remote, URL, server.url, tmp_path / "o").run(meter)
            assert polled.wait(PATIENCE_SECONDS)
            time.sleep(0.2)
    assert "file.bin" in screen.getvalue()
    assert "1.0/1.0 MB" in screen.getvalue()
    assert "2 segments from 2 mirrors" in screen.getvalue()
    (poll, *_) = [asked for asked in server.asked if "/-/transfers" in asked.line]
    assert poll.fields["authorization"] == "Bearer secret-token"


def test_the_segments_of_the_right_transfer_are_told() -> None:
    transfer = {"name": URL, "segments": [{"mirror": "a"}, {"mirror": "a"}, {"mirror": "b"}]}
    other = {"name": "https://b.example/", "segments": []}
    answer = {"transfers": [other, transfer]}
    assert tell_segments(answer, URL) == "3 segments from 2 mirrors"
    assert tell_segments(answer, URL + "#part") == "3 segments from 2 mirrors"
    assert tell_segments(answer, "https://c.example/") == ""


def test_under_a_mount_the_last_segment_and_the_length_tell_the_transfer() -> None:
    segments = [{"mirror": "https://b.example/pub/file.bin"}]
    transfer = {
        "name": "https://b.example/pub/file.bin?x=1",
        "length_bytes": 10,
        "rate_bytes_per_second": 2_000_000.0,
        "segments": segments,
    }
    url = "http://127.0.0.1:8000/m/file.bin"
    told = tell_segments([transfer], url, 10, with_rate=True)
    assert told == "1 segment from 1 mirror, 2 MB/s"
    assert tell_segments([transfer], url, 11) == ""
    assert tell_segments([transfer], "http://127.0.0.1:8000/m/file", 10) == ""
