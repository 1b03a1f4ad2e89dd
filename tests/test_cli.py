"""The commands say what they did or why they could not, and their exit status agrees."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import forebay
from forebay.cli import app
from forebay.cli.banner import banner, needs_warning
from forebay.cli.common import reachable_url, server_url
from forebay.settings import load
from tests.fakes.scripted_server import response, scripted_server
from tests.patience import PATIENCE_SECONDS

runner = CliRunner()
PROGRAM = str(Path(sys.executable).with_name("forebay"))


@pytest.fixture(autouse=True)
def _own_signal_handler() -> Iterator[None]:
    """``serve`` takes SIGTERM for itself, and some tests call it inside this process."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


# settings


def test_the_version_is_told() -> None:
    assert runner.invoke(app, ["--version"]).output == f"forebay {forebay.__version__}\n"


def test_config_show_prints_a_config_file_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREBAY_ADMIN__TOKEN", "hidden-1234")
    result = runner.invoke(app, ["config", "show", "--cache-dir", str(tmp_path)])
    assert result.exit_code == 0
    assert "hidden-1234" not in result.output
    assert tomllib.loads(result.output)["cache"]["dir"] == str(tmp_path)


def test_config_check_says_that_a_file_is_right(tmp_path: Path) -> None:
    file = tmp_path / "f.toml"
    file.write_text("[[mounts]]\nname = 'deb'\nupstream = 'https://a.example'\n")
    result = runner.invoke(app, ["config", "check", "--config", str(file)])
    assert (result.exit_code, result.output) == (0, f"{file} is right. Ways in: deb, url.\n")


@pytest.mark.parametrize(
    "command",
    [
        ["config", "check"],
        ["config", "show"],
        ["serve"],
        ["purge", "--all"],
        ["get", "https://a.example/x"],
    ],
)
def test_every_command_tells_a_wrong_config_in_a_sentence(
    tmp_path: Path, command: list[str]
) -> None:
    file = tmp_path / "f.toml"
    file.write_text("[server]\nprot = 1\n")
    result = runner.invoke(app, [*command, "--config", str(file)])
    assert result.exit_code == 1
    assert result.stderr == f"{file}: server.prot is not a setting. Did you mean port?\n"
    assert result.stdout == ""


# the command purge


def purge(*arguments: str, server: str = "http://127.0.0.1:9") -> Any:
    return runner.invoke(app, ["purge", *arguments, "--server", server])


@pytest.mark.parametrize(
    ("arguments", "order"),
    [
        (["https://a.example/x"], {"url": "https://a.example/x", "dry_run": False}),
        (["--prefix", "https://a.example/"], {"prefix": "https://a.example/", "dry_run": False}),
        (["--mount", "deb", "--dry-run"], {"mount": "deb", "dry_run": True}),
        (["--tag", "v1"], {"tag": "v1", "dry_run": False}),
        (["--all"], {"all": True, "dry_run": False}),
    ],
)
def test_purge_sends_its_order_with_the_token(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], order: dict[str, Any]
) -> None:
    monkeypatch.setenv("FOREBAY_ADMIN__TOKEN", "secret-token")
    answer = json.dumps({"objects": 1200, "size_bytes": 3_400_000, "dry_run": order["dry_run"]})
    with scripted_server(response("200 OK", answer.encode())) as server:
        result = purge(*arguments, server=server.url)
    (asked,) = server.asked
    assert asked.line == "POST /-/purge HTTP/1.1"
    assert asked.fields["authorization"] == "Bearer secret-token"
    assert json.loads(asked.body) == order
    verb = "Would purge" if order["dry_run"] else "Purged"
    assert (result.exit_code, result.output) == (0, f"{verb} 1,200 objects, 3.4 MB.\n")


@pytest.mark.parametrize(("command", "path"), [("purge", "/-/purge"), ("pin", "/-/pin")])
@pytest.mark.parametrize("option", [[], ["--prefix"]])
def test_the_address_that_was_downloaded_from_is_sent_as_a_path(
    monkeypatch: pytest.MonkeyPatch, command: str, path: str, option: list[str]
) -> None:
    monkeypatch.setenv("FOREBAY_ADMIN__TOKEN", "secret-token")
    with scripted_server(response("200 OK", b'{"objects": 1, "size_bytes": 1}')) as server:
        given = [command, *option, f"{server.url}/deb/f", "--server", server.url]
        assert runner.invoke(app, given).exit_code == 0
    (asked,) = server.asked
    assert asked.line == f"POST {path} HTTP/1.1"
    assert json.loads(asked.body)["prefix" if option else "url"] == "/deb/f"


@pytest.mark.parametrize(
    "arguments",
    [[], ["https://a.example/x", "--all"], ["--mount", "a", "--tag", "b"], ["--dry-run"]],
)
def test_purge_wants_exactly_one_thing(arguments: list[str]) -> None:
    result = purge(*arguments)
    assert result.exit_code == 2
    assert "one of a URL, --prefix, --mount, --tag or --all" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "path", "told"),
    [
        (["https://a.example/x"], "/-/pin", "Pinned 1 object."),
        (["https://a.example/x", "--off"], "/-/unpin", "Unpinned 1 object."),
        (["--all"], "/-/pin", "Pinned 1 object."),
    ],
)
def test_pin_sends_its_order_with_the_token(
    tmp_path: Path, arguments: list[str], path: str, told: str
) -> None:
    (tmp_path / "admin-token").write_text("made-before\n")
    with scripted_server(response("200 OK", b'{"objects": 1, "pinned": true}')) as server:
        options = ["--cache-dir", str(tmp_path), "--server", server.url]
        result = runner.invoke(app, ["pin", *arguments, *options])
    (asked,) = server.asked
    assert asked.line == f"POST {path} HTTP/1.1"
    assert asked.fields["authorization"] == "Bearer made-before"
    order = {"all": True} if "--all" in arguments else {"url": "https://a.example/x"}
    assert json.loads(asked.body) == order
    assert (result.exit_code, result.output) == (0, f"{told}\n")


@pytest.mark.parametrize("arguments", [[], ["--mount", "a", "--tag", "b"]])
def test_pin_wants_exactly_one_thing(arguments: list[str]) -> None:
    result = runner.invoke(app, ["pin", *arguments])
    assert result.exit_code == 2
    assert "one of a URL, --prefix, --mount, --tag or --all" in result.stderr


def test_purge_finds_the_token_that_the_service_made(tmp_path: Path) -> None:
    (tmp_path / "admin-token").write_text("made-before\n")
    answer = b'{"objects": 0, "size_bytes": 0, "dry_run": false}'
    with scripted_server(response("200 OK", answer)) as server:
        result = purge("--all", "--cache-dir", str(tmp_path), server=server.url)
    assert server.asked[0].fields["authorization"] == "Bearer made-before"
    assert result.output == "Nothing in the cache matches.\n"


def test_without_a_token_purge_says_where_one_would_be(tmp_path: Path) -> None:
    result = purge("--all", "--cache-dir", str(tmp_path))
    assert result.exit_code == 1
    assert f"There is no admin token in {tmp_path / 'admin-token'}" in result.stderr


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (response("401 Unauthorized", b'{"detail": "Send the token."}'), "Send the token."),
        (response("500 Oops", b"<html>"), "500 Oops"),
        (response("200 OK", b"<html>"), "does not answer as Forebay does"),
        (b"", "broke off"),
    ],
)
def test_purge_tells_what_the_service_says(
    monkeypatch: pytest.MonkeyPatch, answer: bytes, sentence: str
) -> None:
    monkeypatch.setenv("FOREBAY_ADMIN__TOKEN", "secret-token")
    with scripted_server(answer) as server:
        result = purge("--all", server=server.url)
    assert result.exit_code == 1
    assert sentence in result.stderr
    assert "secret-token" not in result.output


def test_where_no_service_answers_the_command_to_start_it_is_named(
    monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    monkeypatch.setenv("FOREBAY_ADMIN__TOKEN", "secret-token")
    result = purge("--all", server=f"127.0.0.1:{unused_tcp_port}")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"No Forebay answers at http://127.0.0.1:{unused_tcp_port}.")


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:80"), ("0.0.0.0", "http://127.0.0.1:80"),
     ("::", "http://[::1]:80"), ("fd00::1", "http://[fd00::1]:80"), ("box", "http://box:80")],
)  # fmt: skip
def test_the_service_is_reached_at_an_address_that_can_be_dialled(host: str, url: str) -> None:
    assert reachable_url(host, 80) == url


@pytest.mark.parametrize(
    ("given", "url"),
    [(None, "http://127.0.0.1:8000"), ("box:80", "http://box:80"), ("https://b/", "https://b")],
)
def test_a_server_may_be_named_without_its_scheme(given: str | None, url: str) -> None:
    assert server_url(load(), given) == url


# what serve prints


def test_the_banner_names_address_cache_token_and_mounts(tmp_path: Path) -> None:
    file = tmp_path / "f.toml"
    file.write_text("[[mounts]]\nname = 'deb'\nupstream = 'https://a.example'\n")
    text = banner(load(file, {"server": {"port": 9000}, "cache": {"dir": tmp_path}}))
    assert f"Forebay {forebay.__version__} listens on http://127.0.0.1:9000\n" in text
    assert f"{tmp_path} (at most 50 GB; 1 GB of the disk stays free)" in text
    assert str(file) in text
    assert str(tmp_path / "admin-token") in text
    assert "/deb/ → https://a.example/" in text
    assert "curl -i http://127.0.0.1:9000/https://" in text
    assert "WARNING" not in text


@pytest.mark.parametrize(
    ("overrides", "warned"),
    [
        ({}, False),
        ({"server": {"host": "localhost"}}, False),
        ({"server": {"host": "127.5.5.5"}}, False),
        ({"server": {"host": "::1"}}, False),
        ({"server": {"host": "0.0.0.0"}}, True),
        ({"server": {"host": "box.example"}}, True),
        ({"server": {"host": "::"}, "upstream": {"allow_hosts": ["a.example"]}}, False),
        ({"server": {"host": "::"}, "defaults": {"url_in_path": False}}, False),
    ],
)
def test_strangers_and_any_url_together_are_warned_of(
    overrides: dict[str, Any], warned: bool
) -> None:
    settings = load(None, overrides)
    assert needs_warning(settings) is warned
    assert ("WARNING" in banner(settings)) is warned


@pytest.mark.parametrize(
    ("overrides", "tried"),
    [
        ({"upstream": {"allow_hosts": ["*.a.example", "b.example"]}}, "/https://b.example/"),
        ({"upstream": {"allow_hosts": ["*.a.example"]}}, "/https://HOST/"),
        ({"defaults": {"url_in_path": False},
          "mounts": [{"name": "m", "upstream": "https://a.example"}]}, "/m/"),
    ],
)  # fmt: skip
def test_the_line_to_try_is_one_that_is_allowed(overrides: dict[str, Any], tried: str) -> None:
    mounts = overrides.pop("mounts", None)
    os.environ.update({"FOREBAY_MOUNTS": json.dumps(mounts)} if mounts else {})
    try:
        text = banner(load(None, overrides))
    finally:
        os.environ.pop("FOREBAY_MOUNTS", None)
    assert f"curl -i http://127.0.0.1:8000{tried}\n" in text


# serve as a process


@dataclass(frozen=True, slots=True)
class Running:
    process: subprocess.Popen[str]
    port: int
    banner: str


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"PYTHONUNBUFFERED": "1"} | more


@contextlib.contextmanager
def serving(cache: Path, *arguments: str, stdin: int = subprocess.DEVNULL) -> Iterator[Running]:
    command = [PROGRAM, "serve", "--port", "0", "--cache-dir", str(cache), *arguments]
    process = subprocess.Popen(
        command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=environment(),
    )  # fmt: skip
    assert process.stdout is not None
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "curl -i" in line:
                break
        text = "".join(lines)
        match = re.search(r"listens on http://127\.0\.0\.1:(\d+)", text)
        assert match, text
        yield Running(process, int(match[1]), text)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()


def ask(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    connection.request("GET", path)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_listens_until_a_signal_and_ends_well(tmp_path: Path, number: signal.Signals) -> None:
    with serving(tmp_path) as running:
        assert ask(running.port, "/healthz") == 200
        token = tmp_path / "admin-token"
        assert token.stat().st_mode & 0o777 == 0o600
        assert str(token) in running.banner
        assert token.read_text().strip() not in running.banner
        running.process.send_signal(number)
        rest, _ = running.process.communicate(timeout=PATIENCE_SECONDS)
    assert running.process.returncode == 0
    assert rest.rstrip().endswith("Stopped.")
    assert "Traceback" not in rest


def test_a_hangup_without_a_terminal_cuts_nothing_and_is_explained(tmp_path: Path) -> None:
    with serving(tmp_path) as running:
        running.process.send_signal(signal.SIGHUP)
        assert running.process.stdout is not None
        told = next(line for line in running.process.stdout if "SIGHUP" in line)
        assert "Restart" in told
        assert ask(running.port, "/healthz") == 200


def test_a_terminal_that_closes_stops_the_service_as_a_signal_does(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    try:
        with serving(tmp_path, stdin=theirs) as running:
            running.process.send_signal(signal.SIGHUP)
            rest, _ = running.process.communicate(timeout=20)
    finally:
        os.close(ours)
        os.close(theirs)
    assert (running.process.returncode, rest.rstrip().endswith("Stopped.")) == (0, True)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_cache_directory_that_cannot_be_is_told_with_what_to_do(
    tmp_path: Path, workers: str
) -> None:
    file = tmp_path / "file"
    file.touch()
    command = [PROGRAM, "serve", "--port", "0", "--cache-dir", str(file), "--workers", workers]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"The cache directory {file} cannot be used: ")
    assert "--cache-dir" in done.stderr
    assert "Errno" not in done.stderr


def test_a_second_service_on_one_directory_is_refused_with_one_sentence(tmp_path: Path) -> None:
    with serving(tmp_path):
        command = [PROGRAM, "serve", "--port", "0", "--cache-dir", str(tmp_path)]
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment(), check=False
        )
    assert done.returncode != 0
    assert done.stderr.count("is in use by another Forebay") == 1


def test_purge_reaches_a_service_by_its_cache_directory_alone(tmp_path: Path) -> None:
    with serving(tmp_path) as running:
        done = subprocess.run(
            [PROGRAM, "purge", "--all", "--cache-dir", str(tmp_path)],
            env=environment(FOREBAY_SERVER__PORT=str(running.port)),
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stdout) == (0, "Nothing in the cache matches.\n"), done.stderr


def test_workers_serve_with_what_the_command_line_said(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "2") as running:
        assert "with 2 workers" in running.banner
        assert ask(running.port, "/healthz") == 200
        running.process.send_signal(signal.SIGTERM)
        rest, _ = running.process.communicate(timeout=PATIENCE_SECONDS)
    assert running.process.returncode == 0, rest
    assert "Traceback" not in rest


def test_a_taken_port_is_told_in_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [PROGRAM, "serve", "--port", str(port), "--cache-dir", str(tmp_path / "cache")],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"Port {port} on 127.0.0.1 is taken by another program.")
    assert not (tmp_path / "cache").exists(), "nothing is touched before the port is ours"


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        ("192.0.2.1", "No interface of this machine has the address 192.0.2.1"),
        ("no.such.name.invalid", "no.such.name.invalid, cannot be resolved"),
    ],
)
def test_an_address_that_is_not_ours_is_told(host: str, sentence: str) -> None:
    result = runner.invoke(app, ["serve", "--host", host, "--port", "0"])
    assert result.exit_code == 1
    assert sentence in result.stderr
