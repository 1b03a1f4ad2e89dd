"""Settings come from three sources in a known order, and what is wrong is told in sentences."""

from __future__ import annotations

import ipaddress
import json
import stat
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forebay.model import Mount, Policy, Share, TransferPolicy, WhenAlone
from forebay.presets import preset_settings
from forebay.rules import targets
from forebay.settings import ClientKeys, Settings, SettingsError, load
from forebay.settings.kinds import NEVER_FORWARDED
from forebay.settings.mounts import URL_MOUNT_NAME
from forebay.settings.policy import _MOUNT_KEYS, _POLICY_KEYS, _TRANSFER_KEYS, PolicyKeys
from forebay.settings.reference import render

ROOT = Path(__file__).parent.parent


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "forebay.toml"


def problems(config: Path | None = None, overrides: Any = None) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load(config, overrides)
    return caught.value.problems


def mounts_of(*tables: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("FOREBAY_MOUNTS", json.dumps(tables))
    return load()


# where settings come from


def test_nothing_need_be_configured() -> None:
    found = load()
    assert (found.server.host, found.server.port, found.server.workers) == ("127.0.0.1", 8000, 1)
    assert found.cache.dir == Path("cache")
    assert found.cache.max_size == 50_000_000_000
    assert found.upstream.allow_ports == (80, 443)
    assert [mount.name for mount in found.mount_table()] == ["url"]


def test_the_environment_goes_before_the_file_and_the_command_line_before_both(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text('[server]\nhost = "file"\nport = 1\nworkers = 2\n')
    monkeypatch.setenv("FOREBAY_SERVER__PORT", "3")
    monkeypatch.setenv("FOREBAY_SERVER__HOST", "environment")
    found = load(config, {"server": {"host": "option"}})
    assert (found.server.host, found.server.port, found.server.workers) == ("option", 3, 2)


def test_a_variable_names_the_file_and_an_option_names_another(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text("[server]\nport = 1\n")
    other = tmp_path / "other.toml"
    other.write_text("[server]\nport = 2\n")
    monkeypatch.setenv("FOREBAY_CONFIG", str(config))
    assert load().server.port == 1
    assert load().config == config
    assert load(other).server.port == 2


def test_names_of_variables_are_read_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("forebay_server__port", "9000")
    assert load().server.port == 9000


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_ADMIN__TOKEN", "")
    monkeypatch.setenv("FOREBAY_UPSTREAM__ALLOW_HOSTS", "")
    assert load().admin.token is None
    assert load().upstream.allow_hosts == ()


def test_lists_in_variables_are_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_UPSTREAM__ALLOW_NETWORKS", '["127.0.0.0/8", "fd00::/8"]')
    monkeypatch.setenv("FOREBAY_UPSTREAM__ALLOW_PORTS", "[8080]")
    found = load().upstream
    assert found.allow_networks == (
        ipaddress.ip_network("127.0.0.0/8"),
        ipaddress.ip_network("fd00::/8"),
    )
    assert found.allow_ports == (8080,)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("FOREBAY_SERVICE_HOST", "10.0.0.7"),
        ("FOREBAY_SERVICE_PORT", "8000"),
        ("FOREBAY_SERVICE_PORT_HTTP", "8000"),
        ("FOREBAY_PORT", "tcp://10.0.0.7:8000"),
        ("FOREBAY_PORT_8000_TCP", "tcp://10.0.0.7:8000"),
        ("FOREBAY_PORT_8000_TCP_ADDR", "10.0.0.7"),
        ("FOREBAY_CACHE_SERVICE_HOST", "10.0.0.8"),
    ],
)
def test_what_kubernetes_leaves_in_the_environment_is_no_mistake(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    monkeypatch.setenv(name, text)
    assert load() == load()


# what is wrong is told


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[server]\nprot = 1", "server.prot is not a setting. Did you mean port?"),
        ("[sever]\nport = 1", "sever is not a setting. Did you mean server?"),
        ("port = 1", "port is not a setting. Did you mean server.port?"),
        ("[cache]\nmaxsize = 1", "cache.maxsize is not a setting. Did you mean max_size?"),
        ("[cache]\ntoken = 1", "cache.token is not a setting. Did you mean admin.token?"),
        ("[zzzz]", "zzzz is not a setting. See docs/configuration.md for all of them."),
        ("[cache]\nmax_size = '5X'", "cache.max_size: '5X' is not a size; write it like 500G, "
         "64KiB, 1.5T or 4096."),
        ("[server]\nport = 70000", "server.port: 70000 is more than 65535."),
        ("[server]\nport = -1", "server.port: -1 is less than 0."),
        ("[server]\nport = 'x'", "server.port: 'x' is not a whole number."),
        ("[server]\nhost = 7", "server.host: 7 is not text; put it in quotes."),
        ("[server]\nhost = ''", "server.host: is empty."),
        ("[server]\nlog_level = 'loud'", "server.log_level: 'loud' is not one of 'debug', 'info', "
         "'warning' or 'error'."),
        ("server = 7", "server: 7 is not a table."),
        ("[defaults]\nurl_in_path = 'maybe'", "defaults.url_in_path: 'maybe' is neither true nor "
         "false."),
        ("[upstream]\nallow_ports = 80", "upstream.allow_ports: 80 is not a list; put it in "
         "square brackets."),
        ("[mounts.deb]\nupstream = 'https://a.example/'",
         'mounts: is a list of tables; write [[mounts]] with name = "deb" in it.'),
        ("[upstream]\nallow_ports = [80, 0]", "upstream.allow_ports item 2: 0 is less than 1."),
        ("[upstream]\nallow_networks = ['10.0.0.1/8']", "upstream.allow_networks item 1: "
         "'10.0.0.1/8' is not a network; write it like 10.0.0.0/8, 192.168.7.9 or fd00::/8."),
        ("[upstream]\nallow_hosts = ['http://a.b']", "upstream.allow_hosts item 1: 'http://a.b' "
         "is not a host; write a name without scheme, port or path, such as example.org, or "
         "*.example.org for every name below it."),
        ("[[mounts]]\nname = 'a'\nupstream = 'https://a.b'\nprefx = '/c'",
         "mounts item 1, prefx is not a setting. Did you mean prefix?"),
        ("[[mounts]]\nname = 'a'\nupstrems = 'https://a.b'",
         "mounts item 1, upstrems is not a setting. Did you mean upstreams?"),
        ("[[mounts]]\nname = 'a'\nupstream = 'https://a.b'\nttl_patterns = [['(', '3m']]",
         "mounts item 1, ttl_patterns item 1.1: '(' is not a regular expression: missing ), "
         "unterminated subpattern at position 0."),
        ("[[mounts]]\nname = 'a'\nupstream = 'https://a.b'\npreset = 'pipy'",
         "mounts item 1, preset: 'pipy' is not one of 'generic', 'immutable', 'apt', 'cargo', "
         "'conda', 'dnf', 'git-lfs', 'go', 'huggingface', 'maven', 'npm', 'oci' or 'pypi'."),
    ],
)  # fmt: skip
def test_a_wrong_file_is_told_by_name_key_and_remedy(
    config: Path, text: str, sentence: str
) -> None:
    config.write_text(text)
    assert f"{config}: {sentence}" in problems(config)


def test_everything_wrong_is_told_at_once(config: Path) -> None:
    config.write_text("[server]\nport = 'x'\n[cache]\nsize = 1\nmin_free = -1\n")
    assert len(problems(config)) == 3


def test_a_wrong_variable_is_told_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_CACHE__MIN_FREE", "lots")
    (sentence,) = problems()
    assert sentence.startswith("FOREBAY_CACHE__MIN_FREE: 'lots' is not a size")


def test_a_wrong_option_is_told_by_its_name() -> None:
    assert problems(None, {"server": {"port": 99_999}}) == ("--port: 99999 is more than 65535.",)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("FOREBAY_SEVER__PORT", "FOREBAY_SERVER__PORT"),
        ("FOREBAY_SERVER_PORT", "FOREBAY_SERVER__PORT"),
        ("FOREBAY_SERVER__PROT", "FOREBAY_SERVER__PORT"),
        ("FOREBAY_PORT", "FOREBAY_SERVER__PORT"),
        ("FOREBAY_CACHE__MAXSIZE", "FOREBAY_CACHE__MAX_SIZE"),
        ("FOREBAY_CONFG", "FOREBAY_CONFIG"),
        ("FOREBAY_SERVER__PORT__X", "FOREBAY_SERVER__PORT"),
    ],
)
def test_an_unknown_variable_names_the_nearest_known_one(
    monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    monkeypatch.setenv(name, "9000")
    assert problems() == (f"The variable {name} names no setting. Did you mean {meant}?",)


def test_a_list_that_is_not_json_is_shown_as_it_should_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FOREBAY_UPSTREAM__ALLOW_HOSTS", "example.org")
    (sentence,) = problems()
    assert """write '["example.org"]'""" in sentence


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"[server", "is not TOML: Expected ']'"),
        (b"\xff = 1", "is not UTF-8 text"),
        (b"config = 'x'", "config cannot be set in the config file itself"),
    ],
)
def test_an_unreadable_file_is_told(config: Path, content: bytes, sentence: str) -> None:
    config.write_bytes(content)
    assert sentence in problems(config)[0]
    assert str(config) in problems(config)[0]


def test_a_missing_file_is_told(config: Path) -> None:
    assert problems(config) == (
        f"There is no config file {config}; --config or FOREBAY_CONFIG names it.",
    )


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    assert "cannot be read: Is a directory" in problems(tmp_path)[0]


@pytest.mark.parametrize("token", ["two words", "schlüssel"])
def test_a_token_is_never_repeated_in_a_complaint(
    monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("FOREBAY_ADMIN__TOKEN", token)
    (sentence,) = problems()
    assert "FOREBAY_ADMIN__TOKEN" in sentence
    assert token not in sentence


def test_a_token_of_the_wrong_type_is_not_repeated_either(config: Path) -> None:
    config.write_text("[admin]\ntoken = 31337\n")
    assert "31337" not in problems(config)[0]


# mounts


def test_every_policy_key_is_an_attribute_of_the_model() -> None:
    # Whether answers to credentials are shared follows from a mount's share.
    others = {"share_authorized"}
    assert set(_POLICY_KEYS.values()) | others == set(Policy.__dataclass_fields__)
    assert set(_TRANSFER_KEYS.values()) == set(TransferPolicy.__dataclass_fields__)
    assert set(_MOUNT_KEYS.values()) <= set(Mount.__dataclass_fields__)
    elsewhere = {*_MOUNT_KEYS, *ClientKeys.model_fields}
    assert {*_POLICY_KEYS, *_TRANSFER_KEYS, *elsewhere} == set(PolicyKeys.model_fields)


@pytest.mark.parametrize(
    "given", ["SHA256SUMS", ["{name}.sha256", "../../SHA256SUMS", "sums/{name}.txt", "%20.md5"]]
)
def test_checksum_files_are_named_from_the_directory_of_the_object(
    monkeypatch: pytest.MonkeyPatch, given: str | list[str]
) -> None:
    table = {"name": "a", "upstream": "https://a.example", "checksums": given}
    (mount, *_) = mounts_of(table, monkeypatch=monkeypatch).mount_table()
    assert mount.checksums == ((given,) if isinstance(given, str) else tuple(given))


@pytest.mark.parametrize(
    "pattern",
    ["", "/SHA256SUMS", "{name}", "..", "a/../b", "a//b", "sums/", "https://h/SUMS", "x?y", "a b"],
)
def test_what_names_no_file_beside_an_object_is_refused(config: Path, pattern: str) -> None:
    config.write_text(
        f"[[mounts]]\nname = 'a'\nupstream = 'https://a.example'\nchecksums = '{pattern}'\n"
    )
    (sentence,) = problems(config)
    assert "checksums" in sentence
    assert "{name}.sha256" in sentence


def test_without_policy_a_mount_has_the_models_own(monkeypatch: pytest.MonkeyPatch) -> None:
    found = mounts_of({"name": "a", "upstream": "https://a.example"}, monkeypatch=monkeypatch)
    mount = found.mount_table()[0]
    assert (mount.policy, mount.transfer) == (Policy(), TransferPolicy())
    assert mount.prefix == "/a/"
    assert mount.upstreams == ("https://a.example/",)
    assert mount.forward == ("accept",)


def test_a_mounts_own_key_goes_before_the_defaults(config: Path) -> None:
    config.write_text("""
        [defaults]
        ttl = "1h"
        negative_ttl = "10s"
        max_segments = 8
        when_alone = "stop"
        forward = ["Accept", "X-Token"]
        [[mounts]]
        name = "own"
        upstream = "https://a.example"
        ttl = "5m"
        when_alone = "finish-if-near"
        min_segment = "1MiB"
        [[mounts]]
        name = "none"
        upstreams = ["https://a.example"]
        ttl = "none"
        forward = []
    """)
    own, none, url = load(config).mount_table()
    assert own.policy == Policy(default_ttl_seconds=300.0, negative_ttl_seconds=10.0)
    assert own.transfer == TransferPolicy(
        max_segments=8, min_segment_bytes=2**20, when_alone=WhenAlone.FINISH_IF_NEAR
    )
    assert own.forward == ("accept", "x-token")
    assert none.policy.default_ttl_seconds is None
    assert none.forward == ()
    assert url.name == URL_MOUNT_NAME
    assert url.policy.default_ttl_seconds == 3600.0
    assert url.transfer.when_alone is WhenAlone.STOP


def test_the_preset_immutable_makes_every_path_immutable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = mounts_of(
        {"name": "a", "upstream": "https://a.example", "preset": "immutable"},
        monkeypatch=monkeypatch,
    )
    assert found.mount_table(preset_settings())[0].policy.immutable_patterns == (".*",)


def test_url_in_path_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_DEFAULTS__URL_IN_PATH", "false")
    assert load().mount_table() == ()


@pytest.mark.parametrize(
    ("given_prefix", "prefix"),
    [("/", "/"), ("/a", "/a/"), ("/a/", "/a/"), ("/a/b.c/~d/@e", "/a/b.c/~d/@e/")],
)
def test_a_prefix_ends_with_a_slash(
    monkeypatch: pytest.MonkeyPatch, given_prefix: str, prefix: str
) -> None:
    table = {"name": "m", "upstream": "https://a.example", "prefix": given_prefix}
    assert mounts_of(table, monkeypatch=monkeypatch).mount_table()[0].prefix == prefix


@pytest.mark.parametrize(
    "prefix",
    ["a", "//", "/a//b", "/../", "/a/./", "/a b", "/a?b", "/a#b", "/a%2fb", "/é",
     "/-", "/-/x", "/healthz", "/livez/", "/READYZ", "/metrics", "/https:/x", "/http:"],
)  # fmt: skip
def test_a_prefix_that_could_not_be_reached_is_refused(
    monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    monkeypatch.setenv(
        "FOREBAY_MOUNTS",
        json.dumps([{"name": "m", "upstream": "https://a.example", "prefix": prefix}]),
    )
    (sentence,) = problems()
    assert sentence.startswith("FOREBAY_MOUNTS item 1: ")
    assert "prefix" in sentence


@pytest.mark.parametrize("name", ["", "url", "a/b", "a b", "-", ".hidden", "ä"])
def test_a_name_that_could_be_mistaken_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("FOREBAY_MOUNTS", json.dumps([{"name": name, "upstream": "http://a"}]))
    assert "cannot be the name of a mount" in problems()[0]


@pytest.mark.parametrize(
    ("upstream", "base"),
    [
        ("https://a.example", "https://a.example/"),
        ("HTTPS://A.Example:8443/Pub", "https://a.example:8443/Pub/"),
        ("http://[::1]:80/x//", "http://[::1]:80/x/"),
        ("http://10.0.0.7/a%2Fb/", "http://10.0.0.7/a%2Fb/"),
    ],
)
def test_an_upstream_is_a_base_url(
    monkeypatch: pytest.MonkeyPatch, upstream: str, base: str
) -> None:
    table = {"name": "m", "upstreams": [upstream]}
    assert mounts_of(table, monkeypatch=monkeypatch).mount_table()[0].upstreams == (base,)


@pytest.mark.parametrize(
    "upstream",
    ["", "a.example", "//a.example", "ftp://a.example", "https://", "https:///x",
     "https://user:secret@a.example/", "https://a.example/?q", "https://a.example/#f",
     "https://a.example:port/", "https://a.example:99999/", "https://a example/",
     "https://[::1/", "https://a.example/ä", "https://a.example/\n"],
)  # fmt: skip
def test_what_is_no_base_url_is_refused(monkeypatch: pytest.MonkeyPatch, upstream: str) -> None:
    monkeypatch.setenv("FOREBAY_MOUNTS", json.dumps([{"name": "m", "upstream": upstream}]))
    (sentence,) = problems()
    assert "URL" in sentence
    assert "secret" not in sentence


def test_a_mount_needs_an_upstream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_MOUNTS", '[{"name": "m"}]')
    assert problems() == ("FOREBAY_MOUNTS item 1, upstreams is missing.",)


def test_upstream_and_upstreams_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {"name": "m", "upstream": "https://a.example", "upstreams": ["https://b.example"]}
    monkeypatch.setenv("FOREBAY_MOUNTS", json.dumps([table]))
    assert "keep one of them" in problems()[0]


@pytest.mark.parametrize(
    ("first", "second", "what"),
    [
        ({"name": "a"}, {"name": "a", "prefix": "/b/"}, "name 'a'"),
        ({"name": "a"}, {"name": "b", "prefix": "/a"}, "prefix '/a/'"),
        ({"name": "a", "hosts": ["h.example"]}, {"name": "b", "hosts": "H.Example."},
         "host 'h.example'"),
    ],
)  # fmt: skip
def test_two_mounts_cannot_claim_the_same(
    monkeypatch: pytest.MonkeyPatch, first: dict[str, Any], second: dict[str, Any], what: str
) -> None:
    upstream = {"upstream": "https://a.example"}
    monkeypatch.setenv("FOREBAY_MOUNTS", json.dumps([first | upstream, second | upstream]))
    (sentence,) = problems()
    assert f"mounts 1 and 2 both have the {what}" in sentence


def test_a_field_that_could_poison_is_never_forwarded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert NEVER_FORWARDED >= targets.NEVER_FORWARDED
    table = {"name": "m", "upstream": "https://a.example", "forward": ["Accept", "Host"]}
    monkeypatch.setenv("FOREBAY_MOUNTS", json.dumps([table]))
    assert "'host' is never forwarded" in problems()[0]


# the admin token


def test_a_token_in_the_settings_goes_before_any_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREBAY_ADMIN__TOKEN", "from-the-environment")
    found = load(None, {"cache": {"dir": tmp_path}})
    token = found.admin_token(create=True)
    assert token is not None
    assert token.get_secret_value() == "from-the-environment"
    assert list(tmp_path.iterdir()) == []


def test_without_a_token_one_is_made_in_the_cache_directory(tmp_path: Path) -> None:
    found = load(None, {"cache": {"dir": tmp_path / "cache"}})
    assert found.admin_token(create=False) is None
    made = found.admin_token(create=True)
    assert made == found.admin_token(create=False)
    assert stat.S_IMODE((tmp_path / "cache" / "admin-token").stat().st_mode) == 0o600


def test_a_named_token_file_must_be_there(tmp_path: Path) -> None:
    found = load(None, {"admin": {"token_file": tmp_path / "token"}})
    with pytest.raises(FileNotFoundError, match="token_file"):
        found.admin_token(create=True)
    (tmp_path / "token").write_text("given\n")
    token = found.admin_token(create=True)
    assert token is not None
    assert token.get_secret_value() == "given"


# what is shown


def test_what_is_shown_hides_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_ADMIN__TOKEN", "hidden-1234")
    found = load()
    for shown in (str(found), repr(found), tomli_w.dumps(found.describe())):
        assert "hidden-1234" not in shown


_TABLES = st.fixed_dictionaries(
    {},
    optional={
        "ttl": st.sampled_from(["none", "1h", "30d"]),
        "immutable": st.lists(st.sampled_from([".*", r"\.deb$"]), max_size=2),
        "ttl_patterns": st.lists(
            st.tuples(st.just("/a.*"), st.sampled_from(["1m", "250ms"])).map(list), max_size=2
        ),
        "max_segments": st.integers(1, 64),
        "finish_share": st.floats(0, 1),
        "identity": st.sets(st.sampled_from(["etag", "length", "last-modified"]), min_size=1).map(
            list
        ),
        "when_alone": st.sampled_from(list(WhenAlone)).map(str),
        "read_ahead": st.integers(0, 2**40),
    },
)


@given(defaults=_TABLES, mount=_TABLES, max_size=st.sampled_from(["none", "5G", "123456789"]))
@settings(
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_what_is_shown_reads_as_itself(
    tmp_path: Path, defaults: dict[str, Any], mount: dict[str, Any], max_size: str
) -> None:
    first_file, second_file = tmp_path / "first.toml", tmp_path / "second.toml"
    tables = {
        "cache": {"max_size": max_size},
        "defaults": defaults,
        "mounts": [{"name": "m", "upstream": "https://a.example", **mount}],
    }
    first_file.write_text(tomli_w.dumps(tables), "utf-8")
    first = load(first_file)
    second_file.write_text(tomli_w.dumps(first.describe()), "utf-8")
    second = load(second_file)
    assert first.describe() == second.describe()
    assert first.mount_table() == second.mount_table()
    assert first.cache == second.cache


def test_the_reference_page_is_what_the_settings_say() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    assert page == render(), "python -m forebay.settings.reference > docs/configuration.md"


@pytest.mark.parametrize("table", ["server", "cache", "admin", "upstream", "defaults"])
def test_every_setting_is_documented(table: str) -> None:
    fields = type(getattr(load(), table)).model_fields
    assert all(field.description for field in fields.values())


# who may do what


def test_tokens_come_from_settings_and_from_files(config: Path, tmp_path: Path) -> None:
    (tmp_path / "ci").write_text(" from-a-file \n")
    config.write_text(f"""
        [admin]
        tokens = [{{name = "ci", token_file = "{tmp_path / "ci"}", scopes = "purge"}}]
        [defaults]
        client_tokens = [{{name = "bob", token = "in-the-settings"}}]
        [[mounts]]
        name = "as-defaults"
        upstream = "https://a.example"
        [[mounts]]
        name = "open"
        upstream = "https://a.example"
        client_tokens = []
        client_networks = "10.0.0.0/8"
    """)
    found = load(config)
    assert [(t.name, t.reveal(), t.scopes) for t in found.admin.tokens] == [
        ("ci", "from-a-file", ("purge",))
    ]
    clients = found.clients()
    for name in ("as-defaults", URL_MOUNT_NAME):
        assert [t.reveal() for t in clients[name].client_tokens] == ["in-the-settings"]
        assert clients[name].client_networks == ()
    assert clients["open"].client_tokens == ()
    assert clients["open"].client_networks == (ipaddress.ip_network("10.0.0.0/8"),)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[tls]\ncertificate = 'c.pem'", "tls: needs both certificate and key."),
        ("[admin]\nlisten = '8901'", "is no address to listen on; write it like 127.0.0.1:8901"),
        ("[admin]\nlisten = '127.0.0.1:99999'", "is no address to listen on"),
        ("[admin]\nlisten = 'unix:admin.sock'", "is no address to listen on"),
        ("[admin]\ntokens = [{name = 'a'}]", "sets one of token and token_file"),
        ("[admin]\ntokens = [{name = 'a b', token = 'x'}]", "cannot be the name of a token"),
        ("[admin]\ntokens = [{name = 'admin', token = 'x'}]", "two tokens with the name 'admin'"),
        ("[admin]\ntokens = [{name = 'a', token = 'x', scopes = 'write'}]",
         "scopes item 1: the value is not one of 'read', 'purge' or 'all'"),
        ("[limits]\nrequests_per_second = 0", "requests_per_second"),
        ("[server]\ntrusted_proxies = 'proxy'", "is not a network"),
        ("[[mounts]]\nname = 'a'\nupstream = 'https://a.b'\nshare = 'private'\n"
         "client_tokens = [{name = 'a', token = 'x'}]", "leave out client_tokens"),
        ("[defaults]\nshare = 'verify'\nclient_tokens = [{name = 'a', token = 'x'}]",
         "[defaults] asks clients for a token of ours"),
        ("[defaults]\nshare = 'public'", "set it in a mount"),
        ("[defaults]\nshare = 'deny'", "'deny' is not one of 'pass', 'refuse', 'private'"),
        ("[[mounts]]\nname = 'a'\nupstream = 'https://a.b'\nshare = 'pass'\nnetrc = 'n'",
         "sets netrc and share = 'pass'"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_access_is_told(config: Path, text: str, sentence: str) -> None:
    config.write_text(text)
    (problem,) = problems(config)
    assert sentence in problem


@pytest.mark.parametrize(
    ("defaults", "mount", "expected"),
    [
        ({}, {}, Share.PASS),
        ({}, {"share": "refuse"}, Share.REFUSE),
        ({"share": "refuse"}, {}, Share.REFUSE),
        ({"share": "refuse"}, {"share": "pass"}, Share.PASS),
        ({"share": "private"}, {}, Share.PRIVATE),
        # Credentials of its own take the place of clients', unless those are not to come at all.
        ({}, {"netrc": "n"}, Share.PUBLIC),
        ({"share": "verify"}, {"netrc": "n"}, Share.PUBLIC),
        ({"share": "refuse"}, {"netrc": "n"}, Share.REFUSE),
        ({"share": "refuse"}, {"netrc": "n", "share": "private"}, Share.PRIVATE),
    ],
)
def test_share_is_the_mounts_word_before_that_of_the_defaults(
    config: Path, defaults: dict[str, Any], mount: dict[str, Any], expected: Share
) -> None:
    table = {"name": "m", "upstream": "https://a.example", **mount}
    config.write_text(tomli_w.dumps({"defaults": defaults, "mounts": [table]}))
    found = load(config)
    built, url_in_path = found.mount_table()
    assert built.share is expected
    assert url_in_path.share is Share(defaults.get("share", "pass"))
    assert found.describe()["defaults"]["share"] == url_in_path.share
    # What was fetched with the mount's own credentials is stored, whatever Vary says of them.
    assert built.policy.share_authorized is ("netrc" in mount or expected is Share.PRIVATE)


@pytest.mark.parametrize("share", ["pass", "refuse"])
def test_clients_that_show_our_token_need_no_credentials_for_upstream(
    config: Path, share: str
) -> None:
    tokens = [{"name": "a", "token": "x"}]
    config.write_text(tomli_w.dumps({"defaults": {"share": share, "client_tokens": tokens}}))
    assert load(config).mount_table()[0].share is Share(share)


@pytest.mark.parametrize(
    "text",
    [
        "[admin]\ntokens = ['HUSHHUSH']",
        "[admin]\ntokens = [{name = 'a', token = 'HUSHHUSH é'}]",
        "[admin]\ntokens = 'HUSHHUSH'",
        "[defaults]\nclient_tokens = ['HUSHHUSH']",
        "[defaults]\nclient_tokens = [{name = 'a', token = ['HUSHHUSH']}]",
        "[[mounts]]\nname = 'm'\nupstream = 'https://a.b'\nclient_tokens = ['HUSHHUSH']",
    ],
)
def test_a_token_in_the_wrong_place_is_not_repeated(config: Path, text: str) -> None:
    config.write_text(text)
    assert "HUSH" not in " ".join(problems(config))


@pytest.mark.parametrize("name", ["ADMIN__TOKENS", "DEFAULTS__CLIENT_TOKENS", "MOUNTS"])
def test_a_token_in_a_variable_that_is_not_json_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(f"FOREBAY_{name}", "{token: HUSHHUSH")
    assert "HUSH" not in " ".join(problems())


def test_tokens_are_masked_where_settings_are_shown(config: Path) -> None:
    config.write_text("""
        [admin]
        tokens = [{name = "ci", token = "HUSHHUSH"}]
        [defaults]
        client_tokens = [{name = "ci", token = "HUSHHUSH"}]
        [[mounts]]
        name = "m"
        upstream = "https://a.example"
        client_tokens = [{name = "ci", token = "HUSHHUSH"}]
    """)
    found = load(config)
    assert "HUSH" not in tomli_w.dumps(found.describe())
    assert "HUSH" not in repr(found)
