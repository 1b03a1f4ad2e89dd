"""Files beside the code say what the code says."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import forebay
from forebay.settings import load
from forebay.web.metrics import Metrics
from tests.fakes.service import FakeService

ROOT = Path(__file__).parent.parent
SCRIPTS = ("serve", "test", "check", "bench", "lowest")


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def variables_of_example() -> dict[str, str]:
    """Every line of ``.env.example``, those that are commented out included."""
    lines = re.findall(r"^(?:# )?([A-Z][A-Z0-9_]+)=(.*)$", read(".env.example"), re.M)
    return dict(lines)


def test_the_version_is_one() -> None:
    assert tomllib.loads(read("pyproject.toml"))["project"]["version"] == forebay.__version__


@pytest.mark.parametrize("name", [f"scripts/{name}" for name in SCRIPTS] + [".ci/run"])
def test_a_script_can_be_run(name: str) -> None:
    assert (ROOT / name).stat().st_mode & stat.S_IXUSR
    assert read(name).startswith("#!/bin/")


def test_every_variable_of_the_example_is_a_setting_with_a_right_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = {k: v for k, v in variables_of_example().items() if k.startswith("FOREBAY_")}
    assert len(found) > 5
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    assert load().upstream.allow_hosts == ("example.org", "*.example.org")


def test_compose_passes_on_what_the_example_offers() -> None:
    passed = set(re.findall(r"^      (FOREBAY_[A-Z_]+): \$\{", read("docker-compose.yml"), re.M))
    offered = {name for name in variables_of_example() if name.startswith("FOREBAY_")}
    assert passed == offered


def test_compose_publishes_on_loopback_and_waits_longer_than_the_service() -> None:
    text = read("docker-compose.yml")
    assert '"${PUBLISH_ADDRESS:-127.0.0.1}:${PUBLISH_PORT:-8000}:8000"' in text
    grace = re.search(r"stop_grace_period: (\d+)s", text)
    assert grace
    assert int(grace[1]) > load().server.stop_timeout


def test_the_image_runs_as_a_number_that_is_not_root() -> None:
    text = read("Dockerfile")
    assert re.findall(r"^USER (.*)$", text, re.M) == ["1000:1000"]
    assert not text.startswith("# syntax=")


def test_the_container_is_read_only_and_has_no_capabilities() -> None:
    service = read("docker-compose.yml").partition("\n  forebay:\n")[2]
    for line in ("read_only: true", "cap_drop: [ALL]", 'security_opt: ["no-new-privileges:true"]'):
        assert f"    {line}\n" in service
    assert "cap_add" not in service
    assert "privileged: true" not in service


def test_every_promise_of_the_security_page_names_tests_that_exist() -> None:
    page, file = read("docs/security.md"), ""
    named = re.findall(r"`(tests/[\w/]+\.py|…)(?:::(test_\w+))?`", page)
    assert len(named) > 40
    for path, test in named:
        file = file if path == "…" else path
        assert (ROOT / file).is_file(), file
        assert not test or f"def {test}(" in read(file), (file, test)


def test_the_images_own_variables_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    found = re.findall(r"\b(FOREBAY_[A-Z_]+)=(\S+)", read("Dockerfile"))
    for name, value in found:
        monkeypatch.setenv(name, value)
    assert (load().server.host, load().cache.dir) == ("0.0.0.0", Path("/cache"))


class FakeVenv:
    """A virtual environment whose Python notes what pip is asked to install."""

    def __init__(self, directory: Path, *, fails: bool = False) -> None:
        self.directory = directory
        self.log = directory / "pip.log"
        python = directory / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(
            "#!/bin/sh\n"
            'case "$*" in\n'
            f'    "-m pip install"*) echo "$*" >>{self.log}; exit {int(fails)} ;;\n'
            '    "-c import pip") exit 0 ;;\n'
            f'    *) exec {sys.executable} "$@" ;;\n'
            "esac\n"
        )
        python.chmod(0o755)

    def ensure(self, extras: str) -> subprocess.CompletedProcess[str]:
        script = f'. {ROOT}/scripts/_venv; ensure_venv "{extras}"'
        return subprocess.run(
            ["sh", "-eu", "-c", script, str(ROOT / "scripts" / "serve")],
            env=os.environ | {"VENV": str(self.directory)},
            capture_output=True,
            text=True,
            check=False,
        )

    def installs(self) -> int:
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0


def test_what_is_installed_is_not_installed_again(tmp_path: Path) -> None:
    venv = FakeVenv(tmp_path / "venv")
    assert venv.ensure("dev").returncode == 0
    assert venv.ensure("dev").returncode == 0
    assert venv.installs() == 1


def test_any_extra_brings_what_serving_needs(tmp_path: Path) -> None:
    venv = FakeVenv(tmp_path / "venv")
    venv.ensure("dev")
    assert venv.ensure("").returncode == 0
    assert venv.installs() == 1
    venv.ensure("check")
    assert venv.installs() == 2


def test_a_failed_installation_is_told_and_tried_again(tmp_path: Path) -> None:
    venv = FakeVenv(tmp_path / "venv", fails=True)
    first = venv.ensure("")
    assert first.returncode == 1
    assert "The installation failed" in first.stderr
    venv.ensure("")
    assert venv.installs() == 2


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("exit 1", "Forebay needs Python 3.11 or newer"),
        ('case "$2" in *ensurepip*) exit 1 ;; *) exit 0 ;; esac', "apt install python3-venv"),
    ],
    ids=["too old", "without venv"],
)
def test_a_python_that_will_not_do_is_told_in_words(tmp_path: Path, script: str, told: str) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    done = subprocess.run(
        ["sh", "-eu", "-c", f'. {ROOT}/scripts/_venv; ensure_venv ""', str(ROOT / "scripts/serve")],
        env=os.environ | {"VENV": str(tmp_path / "none"), "PYTHON": str(python)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert told in done.stderr


def test_every_module_stands_in_the_drawing_of_the_house() -> None:
    rooms = re.findall(r"^\| `(\w+)/` \|(.*)$", read("docs/design.md"), re.M)
    assert len(rooms) > 5
    for room, text in rooms:
        named = {name.partition(".")[0] for name in re.findall(r"`([a-z_]+)[.`]", text)}
        modules = (ROOT / "src" / "forebay" / room).glob("*.py")
        missing = {module.stem for module in modules} - named - {"__init__"}
        assert not missing, f"docs/design.md does not say what {room} has these for"


async def test_every_metric_is_explained_and_none_that_is_gone() -> None:
    statistics = await FakeService().statistics()
    text = Metrics().render(replace(statistics, limit_bytes=1), {}).decode()
    families = text_string_to_metric_families(text)
    told = {sample.name for family in families for sample in family.samples}
    page = read("docs/operations.md")
    told |= {"forebay_http_responses_total"}  # has no sample before the first answer
    assert set(re.findall(r"\bforebay_\w+", page)) == told


def test_links_between_the_documents_lead_somewhere() -> None:
    pages = ["README.md", "CONTRIBUTING.md", "SECURITY.md", *map(str, ROOT.glob("docs/*.md"))]
    for page in pages:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", read(page)):
            assert (ROOT / page).parent.joinpath(link).exists(), f"{page}: {link}"
