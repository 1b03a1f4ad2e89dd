"""Reading settings from their three sources, and saying in sentences what is wrong with them.

What the command line says goes before ``FOREBAY_…`` variables, those go before the TOML
file, and that before the defaults. Tables are merged key by key; lists are replaced whole.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from forebay.model import Mount, Share
from forebay.settings import environment
from forebay.settings.access import ClientKeys, Limits, Tls
from forebay.settings.kinds import NO_VALUE_WORD, PathValue
from forebay.settings.mounts import URL_MOUNT_NAME, MountTable, PresetKeys, clashes, url_mount
from forebay.settings.policy import Defaults, client_keys
from forebay.settings.problems import Origin, SettingsError, explain
from forebay.settings.strays import check_environment
from forebay.settings.tables import Admin, Cache, Server, Tunnel, Upstream
from forebay.tokens import TOKEN_FILE_NAME, read_or_make_token, read_token

_CONFIG_VARIABLE = environment.variable("config")

__all__ = ["Settings", "SettingsError", "load"]


class Settings(BaseSettings):
    """Everything that may be configured, checked. Made by ``load``."""

    model_config = SettingsConfigDict(
        env_prefix=environment.PREFIX,
        env_nested_delimiter=environment.DELIMITER,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )

    config: PathValue | None = None
    """The file that these settings were read from; `--config` or `FOREBAY_CONFIG` name it."""

    server: Server = Field(default_factory=Server)
    cache: Cache = Field(default_factory=Cache)
    tls: Tls = Field(default_factory=Tls)
    admin: Admin = Field(default_factory=Admin)
    limits: Limits = Field(default_factory=Limits)
    upstream: Upstream = Field(default_factory=Upstream)
    tunnel: Tunnel = Field(default_factory=Tunnel)
    defaults: Defaults = Field(default_factory=Defaults)
    mounts: tuple[MountTable, ...] = ()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the hook's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, _TomlFile(settings_cls)

    @model_validator(mode="after")
    def _mounts_do_not_clash(self) -> Settings:
        built = [mount.build(self.defaults) for mount in self.mounts]
        found = list(clashes(built))
        found += [
            f"mount {mount.name} listens on {self.server.port}, which is the server's own port."
            for mount in self.mounts
            if mount.listen is not None and mount.listen.port == self.server.port
        ]
        has_own = {mount.name for mount in self.mounts if mount.credential_sources}
        clients = self.clients()
        found += [
            f"{f'mount {mount.name}' if mount.upstreams else '[defaults]'} asks clients for a "
            f"token of ours in Authorization, where its share = '{mount.share}' needs their "
            "credentials for upstream: leave out client_tokens, set share to 'pass' or "
            "'refuse', or give the mount credentials of its own."
            for mount in (*built, url_mount(self.defaults))
            if mount.share in {Share.PRIVATE, Share.VERIFY, Share.PUBLIC}
            if mount.name not in has_own and mount.name in clients
            if clients[mount.name].client_tokens
        ]
        if found:
            raise ValueError(" ".join(found))
        return self

    def mount_table(self, presets: PresetKeys = MappingProxyType({})) -> tuple[Mount, ...]:
        """Every way in, in the order of the file, policies merged; URL-in-path is the last.

        ``presets`` are the keys that presets set (``forebay.presets.preset_settings``).
        """
        named = tuple(mount.build(self.defaults, presets) for mount in self.mounts)
        return (*named, url_mount(self.defaults)) if self.defaults.url_in_path else named

    def listens(self) -> list[tuple[str, int]]:
        """Host and port of each socket: the service's own first, then those of mounts."""
        own = [(self.server.host, self.server.port)]
        return own + [
            (mount.listen.host or self.server.host, mount.listen.port)
            for mount in self.mounts
            if mount.listen is not None
        ]

    def clients(self) -> dict[str, ClientKeys]:
        """Who may download, for the name of each way in."""
        keys = {mount.name: client_keys(mount, self.defaults) for mount in self.mounts}
        if self.defaults.url_in_path or self.tunnel.hosts:
            keys[URL_MOUNT_NAME] = client_keys(None, self.defaults)
        return keys

    def quotas(self) -> dict[str, int]:
        """What the objects of each mount may take on disk, where that is bounded, by its name."""
        return {m.name: m.max_size for m in self.mounts if m.max_size is not None}

    def pinned_mounts(self) -> frozenset[str]:
        """The names of mounts whose objects are never evicted."""
        return frozenset(mount.name for mount in self.mounts if mount.pinned)

    @property
    def token_path(self) -> Path:
        """The file in which the admin token is looked for when the settings hold none."""
        return self.admin.token_file or self.cache.dir / TOKEN_FILE_NAME

    def admin_token(self, *, create: bool) -> SecretStr | None:
        """The admin token: from the settings, or else from its file.

        Where there is no file, ``create`` makes one with a new token; otherwise the answer is
        None. A ``token_file`` that the operator named is never made here: it must be there.
        Blocks on the disk. Raises ``ValueError`` where the file holds no token and ``OSError``
        where it cannot be read or made.
        """
        if self.admin.token is not None:
            return self.admin.token
        if create and self.admin.token_file is None:
            return SecretStr(read_or_make_token(self.token_path))
        token = read_token(self.token_path)
        if token is None and create:
            raise FileNotFoundError(f"there is no file {self.token_path}, the admin.token_file")
        return None if token is None else SecretStr(token)

    def describe(self) -> dict[str, Any]:
        """What is in force, as the tables of a TOML file that would say the same.

        Secrets are masked. Values are strings, numbers, booleans and lists; a setting without
        a value is left out, or is the word ``none`` where that can be written.
        """
        tables = self.model_dump(
            mode="json",
            include={"server", "cache", "tls", "admin", "limits", "upstream", "tunnel", "defaults"},
        )
        for name in ("tls", "admin"):
            tables[name] = {k: v for k, v in tables[name].items() if v is not None}
        _drop_absent(tables)
        for table in tables.values():
            table.update({k: NO_VALUE_WORD for k, v in table.items() if v is None})
        tables["mounts"] = [
            {
                key: NO_VALUE_WORD if value is None else value
                for key, value in mount.model_dump(mode="json", exclude_unset=True).items()
            }
            for mount in self.mounts
        ]
        for mount in tables["mounts"]:
            _drop_absent(mount)
        return tables


def _drop_absent(table: dict[str, Any]) -> None:
    """Leave out what has no value in the tables that stand in lists."""
    for value in table.values():
        if isinstance(value, dict):
            _drop_absent(value)
        elif isinstance(value, list):
            for place, item in enumerate(value):
                if isinstance(item, dict):
                    value[place] = {k: v for k, v in item.items() if v is not None}


class _TomlFile(PydanticBaseSettingsSource):
    """The TOML file that ``config``, from a source before this one, names."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError("a file is read as a whole")

    def __call__(self) -> dict[str, Any]:
        named = self.current_state.get("config")
        return {} if named is None else read_file(Path(named).expanduser())


def read_file(path: Path) -> dict[str, Any]:
    """The tables of this TOML file, unchecked. Raises ``SettingsError`` if it cannot be read."""
    try:
        with path.open("rb") as file:
            tables = tomllib.load(file)
    except FileNotFoundError:
        raise SettingsError(
            [f"There is no config file {path}; --config or {_CONFIG_VARIABLE} names it."]
        ) from None
    except OSError as error:
        raise SettingsError([f"The config file {path} cannot be read: {error.strerror}."]) from None
    except UnicodeDecodeError:
        raise SettingsError([f"The config file {path} is not UTF-8 text."]) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError([f"The config file {path} is not TOML: {error}."]) from None
    if "config" in tables:
        raise SettingsError([f"{path}: config cannot be set in the config file itself."])
    return tables


def load(
    config_path: Path | str | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> Settings:
    """Settings from the command line's ``overrides``, the environment and the file.

    ``overrides`` has the shape of the file: ``{"server": {"port": 9000}}``. Without a
    ``config_path`` the file is the one that ``FOREBAY_CONFIG`` names, if any. Raises
    ``SettingsError``, which lists everything that is wrong.
    """
    given: dict[str, Any] = {table: dict(keys) for table, keys in (overrides or {}).items()}
    if config_path is not None:
        given["config"] = Path(config_path)
    check_environment(Settings)
    try:
        return Settings(**given)
    except ValidationError as error:
        origin = Origin(overrides=given, config=_config_in_force(given))
        raise SettingsError(explain(error, Settings, origin)) from None


def _config_in_force(given: Mapping[str, Any]) -> Path | None:
    named = given.get("config") or environment.value("config")
    return None if named is None else Path(named)
