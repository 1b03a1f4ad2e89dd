"""``[[mounts]]``: named ways in, what stands behind each, and what it sets of ``policy``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from forebay import credentials
from forebay.model import Mount, Share
from forebay.settings.kinds import (
    BaseUrl,
    Host,
    HostPattern,
    Listed,
    ListenAddress,
    PathValue,
    Size,
)
from forebay.settings.policy import Defaults, PolicyKeys, explicit_policy, policies_of

URL_MOUNT_NAME = "url"
RESERVED_SEGMENTS = frozenset({"-", "healthz", "livez", "readyz", "metrics", "http:", "https:"})
"""First path segments that are Forebay's own or begin an address in the path."""

Preset = Literal[
    "generic", "immutable", "apt", "cargo", "conda", "dnf", "git-lfs", "go", "huggingface", "maven",
    "npm", "oci", "pypi",
]  # fmt: skip
"""What ``forebay.presets`` has; a test holds the two lists together."""

PresetKeys = Mapping[str, Mapping[str, Any]]
"""For each preset the keys that it sets, as ``forebay.presets.preset_settings`` gives them."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]*")
_PREFIX = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]+/)*")
_ADDED_TO = ("immutable", "ttl_patterns")
"""Lists of patterns to which a mount adds, before those of its preset."""


class MountTable(PolicyKeys):
    """A named way in: a path or host of ours that stands for one or more upstreams."""

    name: str
    """Letters, digits, `.`, `_`, `~` and `-`. Listings, metrics and purges use it."""

    prefix: str = ""
    """The path below which the mount is found, `/<name>/` unless it is set. `/` takes everything
    that is neither Forebay's own nor another mount's: Forebay as a plain reverse proxy."""

    hosts: Annotated[tuple[Host, ...], Listed] = ()
    """Names of ours, as clients' Host field has them, at which every path belongs to the mount,
    for clients that demand a domain root."""

    listen: ListenAddress | None = None
    """An address and port of the mount's own, such as `:5000` (on `server.host`) or
    `0.0.0.0:5000`, where every path belongs to it and nothing else of Forebay is found: for
    clients that demand a domain root and whose machines cannot be told another name."""

    upstreams: Annotated[tuple[BaseUrl, ...], Listed] = Field(min_length=1)
    """Base addresses of the mirrors of one content, the preferred first. `upstream` names one."""

    max_size: Size | None = None
    """The most that the mount's objects may take on disk; its own go first then. Without it only
    `[cache]` bounds them."""

    pinned: bool = False
    """Whether the mount's objects are never evicted, as if each had been ordered so with
    `forebay pin`; a purge takes them all the same. Others make way for them, up to
    `cache.max_size`; what then has no room is passed on and not kept."""

    preset: Preset = "generic"
    """What is known of the content, and of the clients that ask for it: `generic` follows HTTP,
    `immutable` says that no address ever changes its bytes, the others are named for what they
    serve (docs/clients.md). Its keys stand below the mount's own and above `[defaults]`; to its
    patterns the mount's are added."""

    link_hosts: Annotated[tuple[Literal["*"] | HostPattern, ...], Listed] | None = None
    """Hosts other than the upstreams' to which links in an index are led through this mount:
    `example.org`, `*.example.org`, or `*` for all. Where it is not set, all, as long as
    `url_in_path` lets clients name any address anyway, and none without it. A host that is named
    here in full may be anywhere, like an upstream; where it is the upstreams' own, it is shown
    the mount's credentials for every path. What a pattern lets in passes `[upstream]`'s lists
    like any address that a client names."""

    rewrite_links: bool | None = None
    """Whether links in an index are led through the mount. Where it is not set the preset
    decides: all do, but `npm`, whose lockfiles are better with the registry's own addresses;
    pnpm and yarn need it."""

    token_file: PathValue | None = None
    """A file with a token that the upstreams are shown as `Authorization: Bearer`, for GET and
    HEAD; read again within half a minute after it has changed."""

    token_variable: str | None = None
    """The same with the token in this variable of the environment."""

    username: str | None = None
    """Sends `token_file` or `token_variable` as the password of this user (`Basic`)."""

    netrc: PathValue | None = None
    """A netrc file, such as `~/.netrc`, whose entry for the upstreams' host they are shown, for
    GET and HEAD."""

    @model_validator(mode="before")
    @classmethod
    def _one_upstream_is_a_list_of_one(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or "upstream" not in data:
            return data
        if "upstreams" in data:
            raise ValueError("sets both upstream and upstreams; keep one of them")
        rest = {key: value for key, value in data.items() if key != "upstream"}
        return {**rest, "upstreams": data["upstream"]}

    @model_validator(mode="before")
    @classmethod
    def _prefix_follows_name(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        # Clients of container registries demand that every path begin with /v2/.
        root = "/v2/" if data.get("preset") == "oci" else "/"
        return {**data, "prefix": data.get("prefix") or f"{root}{data.get('name')}/"}

    @model_validator(mode="after")
    def _name_and_prefix_are_free(self) -> MountTable:
        if not _NAME.fullmatch(self.name) or self.name == URL_MOUNT_NAME:
            raise ValueError(
                f"{self.name!r} cannot be the name of a mount; use letters, digits, '.', '_', "
                f"'~' and '-', and not {URL_MOUNT_NAME!r}"
            )
        prefix = _with_slash(self.prefix)
        segments = prefix.split("/")
        if not _PREFIX.fullmatch(prefix) or {".", ".."} & set(segments):
            raise ValueError(f"{self.prefix!r} cannot be a prefix; write it like /debian/")
        if segments[1].lower() in RESERVED_SEGMENTS:
            raise ValueError(f"the prefix /{segments[1]} is Forebay's own; choose another")
        return self

    @model_validator(mode="after")
    def _credentials_fit(self) -> MountTable:
        sources = self.credential_sources
        if len(sources) > 1:
            raise ValueError(f"sets {' and '.join(sources)}; keep one of them")
        if self.username is not None and sources not in (["token_file"], ["token_variable"]):
            raise ValueError("sets username without token_file or token_variable, its password")
        asks_with_clients_own = {Share.PASS, Share.VERIFY}
        if sources and "share" in self.model_fields_set and self.share in asks_with_clients_own:
            raise ValueError(
                f"sets {sources[0]} and share = '{self.share}', which asks with clients' own "
                "credentials; keep one of them"
            )
        return self

    @property
    def credential_sources(self) -> list[str]:
        """The keys that say where the mount's own credentials are."""
        return [k for k in ("token_file", "token_variable", "netrc") if getattr(self, k)]

    def read_credentials(self) -> Callable[[], str] | None:
        """What reads the mount's own credentials; None where it has none."""
        if self.token_file is not None:
            return partial(credentials.from_file, self.token_file, self.username)
        if self.token_variable is not None:
            return partial(credentials.from_variable, self.token_variable, self.username)
        if self.netrc is not None:
            return partial(credentials.from_netrc, self.netrc, self.upstreams)
        return None

    def build(self, defaults: Defaults, presets: PresetKeys = MappingProxyType({})) -> Mount:
        """The mount with all its policy: its own keys go before its preset's, those before
        ``defaults``."""
        known, own = presets.get(self.preset, {}), explicit_policy(self)
        keys = {**explicit_policy(defaults), **known, **own}
        for key in _ADDED_TO:
            if key in known and key in own:
                keys[key] = (*own[key], *known[key])
        link_hosts = self.link_hosts
        if link_hosts is None:
            # What a client may name in full it may also be led to, and nothing else.
            link_hosts = ("*",) if defaults.url_in_path else ()
        has_own = self.read_credentials() is not None
        if has_own and "share" not in own and keys.get("share") is not Share.REFUSE:
            keys["share"] = Share.PUBLIC
        return Mount(
            name=self.name,
            prefix=_with_slash(self.prefix),
            upstreams=self._upstreams(),
            hosts=self.hosts,
            port=self.listen.port if self.listen is not None else None,
            preset=self.preset,
            link_hosts=link_hosts,
            rewrite_links=self.rewrite_links,
            **policies_of(keys, has_own=has_own),
        )

    def _upstreams(self) -> tuple[str, ...]:
        """The base addresses; that of a container registry is its ``/v2/``."""
        if self.preset != "oci":
            return self.upstreams
        return tuple(base if base.endswith("/v2/") else base + "v2/" for base in self.upstreams)


def url_mount(defaults: Defaults) -> Mount:
    """The built-in way in by an address in the path; it has no upstreams of its own."""
    return Mount(name=URL_MOUNT_NAME, prefix="/", **policies_of(explicit_policy(defaults)))


def clashes(mounts: Sequence[Mount]) -> Iterator[str]:
    """A sentence for each name, prefix or host that two mounts claim."""
    claimed: dict[tuple[str, str], int] = {}
    for position, mount in enumerate(mounts):
        claims = [
            ("name", mount.name),
            ("prefix", mount.prefix),
            *(("host", host) for host in mount.hosts),
            *([] if mount.port is None else [("port", str(mount.port))]),
        ]
        for claim in claims:
            first = claimed.setdefault(claim, position)
            if first != position:
                kind, value = claim
                yield (
                    f"mounts {first + 1} and {position + 1} both have the {kind} {value!r}; "
                    "give one of them another."
                )


def _with_slash(prefix: str) -> str:
    return prefix if prefix.endswith("/") else prefix + "/"
