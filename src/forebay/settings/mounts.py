"""``[defaults]`` and ``[[mounts]]``: named ways in, and the policy of each.

A key that a mount sets goes before ``[defaults]``, which goes before what ``forebay.model``
says; each key is one attribute of ``model.Policy``, ``model.TransferPolicy`` or ``model.Mount``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field, PlainSerializer, model_validator

from forebay import credentials
from forebay.model import Mount, Policy, Share, TransferPolicy, UpstreamDigests, WhenAlone
from forebay.settings.access import ClientKeys
from forebay.settings.kinds import (
    BaseUrl,
    ChecksumPattern,
    Duration,
    FieldName,
    ForwardedField,
    Host,
    HostPattern,
    Listed,
    ListenAddress,
    OptionalDuration,
    OptionalSize,
    PathValue,
    Pattern,
    Size,
)

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

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]*")
_PREFIX = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]+/)*")
_ADDED_TO = ("immutable", "ttl_patterns")
"""Lists of patterns to which a mount adds, before those of its preset."""

_POLICY_KEYS = {
    "ttl": "default_ttl_seconds",
    "force_ttl": "force_ttl_seconds",
    "immutable": "immutable_patterns",
    "ttl_patterns": "ttl_patterns",
    "heuristic_fraction": "heuristic_fraction",
    "heuristic_max": "heuristic_max_seconds",
    "negative_ttl": "negative_ttl_seconds",
    "stale_if_error": "stale_if_error_seconds",
    "stale_while_revalidate": "stale_while_revalidate_seconds",
    "ignore_vary": "ignore_vary",
    "ignore_cache_control": "ignore_cache_control",
    "obey_targeted": "obey_targeted",
    "drop_query": "drop_query",
}
_TRANSFER_KEYS = {
    "max_segments": "max_segments",
    "min_segment": "min_segment_bytes",
    "read_ahead": "read_ahead_bytes",
    "complete_ranges": "complete_ranges",
    "when_alone": "when_alone",
    "finish_share": "finish_share",
    "finish_bytes": "finish_bytes",
    "max_tries": "max_tries",
    "max_object_size": "max_object_bytes",
    "refuse_larger": "refuse_larger",
    "identity": "identity",
    "upstream_digests": "upstream_digests",
}
_MODEL_POLICY = Policy()
_MODEL_TRANSFER = TransferPolicy()


class PolicyKeys(ClientKeys):
    """Keys that `[defaults]` and each mount may set; a mount's own go first."""

    ttl: OptionalDuration = _MODEL_POLICY.default_ttl_seconds
    """How long an answer is fresh when its upstream does not say. `none` leaves it to a tenth
    of its age, as RFC 9111 suggests."""

    force_ttl: OptionalDuration = _MODEL_POLICY.force_ttl_seconds
    """How long an answer is fresh whatever its upstream says; its `no-store`, `private` and
    `Set-Cookie` still count. `none` follows the upstream."""

    immutable: Annotated[tuple[Pattern, ...], Listed] = _MODEL_POLICY.immutable_patterns
    """Regular expressions over path and query below the mount; what one of them matches in full
    never goes stale."""

    ttl_patterns: tuple[tuple[Pattern, Duration], ...] = _MODEL_POLICY.ttl_patterns
    """Pairs of a regular expression and a duration; the first that matches path and query in
    full says how long the answer is fresh."""

    heuristic_fraction: Fraction = _MODEL_POLICY.heuristic_fraction
    """The share of an answer's age since Last-Modified for which it counts as fresh when nobody
    says. (RFC 9111 §4.2.2 names 10 %, Squid uses 20 %.)"""

    heuristic_max: Duration = _MODEL_POLICY.heuristic_max_seconds
    """The most that the guess above may come to. (Squid 3 days, Varnish 2 minutes for all.)"""

    negative_ttl: Duration = _MODEL_POLICY.negative_ttl_seconds
    """How long a 404 or 410 without a lifetime of its own is kept; `0s` keeps none. (Squid 0,
    nginx none unless told.)"""

    stale_if_error: Duration = _MODEL_POLICY.stale_if_error_seconds
    """For how long after its time an answer may still be given while the upstream is broken."""

    stale_while_revalidate: Duration = _MODEL_POLICY.stale_while_revalidate_seconds
    """For how long after its time an answer may be given at once, and checked behind it.
    (Varnish calls it grace: 10s.)"""

    ignore_vary: Annotated[tuple[FieldName, ...], Listed] = _MODEL_POLICY.ignore_vary
    """Fields in the upstream's Vary that are not to make a difference."""

    ignore_cache_control: bool = _MODEL_POLICY.ignore_cache_control
    """Whether the upstream's Cache-Control and Expires are taken as absent."""

    obey_targeted: bool = _MODEL_POLICY.obey_targeted
    """Whether CDN-Cache-Control goes before Cache-Control (RFC 9213)."""

    drop_query: Annotated[tuple[str, ...], Listed] = _MODEL_POLICY.drop_query
    """Query parameters that do not tell objects apart; `*` means all of them. They are still
    sent upstream. Never name a signature here where signed addresses protect something."""

    max_segments: int = Field(default=_MODEL_TRANSFER.max_segments, ge=1, le=64)
    """Upstream connections that may work on one object at once; `1` turns parallel ranges off.
    (aria2 5, at most 16 to a server.)"""

    min_segment: Size = Field(default=_MODEL_TRANSFER.min_segment_bytes, ge=1)
    """What is missing is not split into pieces smaller than this. (aria2 20 MiB.)"""

    read_ahead: Size = _MODEL_TRANSFER.read_ahead_bytes
    """What a range request brings beyond what it asked for."""

    complete_ranges: bool = _MODEL_TRANSFER.complete_ranges
    """Whether the rest of an object is fetched behind a range request."""

    when_alone: WhenAlone = _MODEL_TRANSFER.when_alone
    """What becomes of a download when its last client leaves: `finish`, `stop`, or
    `finish-if-near`. (nginx stops unless told, Varnish finishes, Squid finishes if near.)"""

    finish_share: Fraction = _MODEL_TRANSFER.finish_share
    """The share from which `finish-if-near` finishes. (Squid 95 %.)"""

    finish_bytes: Size = _MODEL_TRANSFER.finish_bytes
    """The rest below which `finish-if-near` finishes. (Squid 16 KB.)"""

    max_tries: int = Field(default=_MODEL_TRANSFER.max_tries, ge=1, le=100)
    """Tries without one byte of progress before a download fails. (curl 1, aria2 5, wget 20.)"""

    max_object_size: OptionalSize = _MODEL_TRANSFER.max_object_bytes
    """The largest object that is kept. A larger one is passed on to each client by itself; one
    whose length nobody told is broken off where it grows too large, and passed on when it is
    asked for again. (Squid 4 MB, nginx and Varnish no limit.)"""

    refuse_larger: bool = _MODEL_TRANSFER.refuse_larger
    """Whether objects above `max_object_size` are refused with 403, or broken off there where
    their length was not told, instead of passed on."""

    identity: Annotated[
        frozenset[Literal["etag", "last-modified", "length"]],
        PlainSerializer(sorted, when_used="json"),
    ] = Field(default=frozenset({"etag", "last-modified", "length"}), min_length=1)
    """What must agree between two responses for their bytes to be joined. Leave out `etag` for
    mirrors whose entity tags differ."""

    upstream_digests: UpstreamDigests = _MODEL_TRANSFER.upstream_digests
    """Whether what an upstream sends must come to the digests that its own fields tell of it
    (Repr-Digest, Digest, Content-MD5, x-goog-hash and others): `check`, or `ignore` for an upstream
    that tells wrong ones. What clients, presets and checksum files expect is checked with
    either. (docs/digests.md.)"""

    forward: Annotated[tuple[ForwardedField, ...], Listed] = ("accept",)
    """Request fields that go to the upstream, and so tell objects apart. With `cookie` among them,
    cookies pass both ways; without it, neither way."""

    checksums: Annotated[tuple[ChecksumPattern, ...], Listed] = ()
    """Files in which an upstream tells the checksums of what it serves, as paths from the
    directory of each object; `{name}` stands for the object's own name. The first that tells one
    counts, such as `["{name}.sha256", "SHA256SUMS", "../SHA256SUMS"]`: lists of `sha256sum` and its
    kin, in GNU's form or BSD's, or one bare digest. What does not come to that digest is never kept
    and ends short for whoever reads it. (docs/digests.md.)"""


class Defaults(PolicyKeys):
    """Policy of every mount that does not say otherwise, and of URL-in-path."""

    url_in_path: bool = True
    """Whether `/https://host/path` and `/-/fetch?url=` are ways in."""


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
    here in full may be anywhere, like an upstream; what a pattern lets in passes `[upstream]`'s
    lists like any address that a client names."""

    rewrite_links: bool | None = None
    """Whether links in an index are led through the mount. Where it is not set the preset
    decides: all do, but `npm`, whose lockfiles are better with the registry's own addresses;
    pnpm and yarn need it."""

    share: Share | None = None
    """Who gets what was fetched with a client's `Authorization`, which then goes to the upstreams:
    `private`, who shows the same credential; `verify`, who shows one that the upstream accepts
    for that object, asked with a HEAD; `public`, everybody who reaches the mount. Where it is not
    set, nothing that was fetched with a client's credentials is kept. With credentials of the
    mount's own it is `public` unless set."""

    verify_ttl: Duration = 60.0
    """With `share = "verify"`: for how long a client need not be verified again for an object
    that has not changed. Who loses a right keeps what is stored for so long."""

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
        if sources and self.share is Share.VERIFY:
            raise ValueError(
                f"sets {sources[0]} and share = 'verify', which asks with clients' own "
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
        share = self.share or (Share.PUBLIC if has_own else None)
        policies = _policies(keys)
        if share is not None:
            policies["policy"] = _shared(policies["policy"], share, has_own=has_own)
        return Mount(
            name=self.name,
            prefix=_with_slash(self.prefix),
            upstreams=self._upstreams(),
            hosts=self.hosts,
            port=self.listen.port if self.listen is not None else None,
            preset=self.preset,
            link_hosts=link_hosts,
            rewrite_links=self.rewrite_links,
            share=share,
            verify_seconds=self.verify_ttl,
            **policies,
        )

    def _upstreams(self) -> tuple[str, ...]:
        """The base addresses; that of a container registry is its ``/v2/``."""
        if self.preset != "oci":
            return self.upstreams
        return tuple(base if base.endswith("/v2/") else base + "v2/" for base in self.upstreams)


def url_mount(defaults: Defaults) -> Mount:
    """The built-in way in by an address in the path; it has no upstreams of its own."""
    return Mount(name=URL_MOUNT_NAME, prefix="/", **_policies(explicit_policy(defaults)))


def explicit_policy(keys: PolicyKeys) -> dict[str, Any]:
    """The policy keys that were written down, with their values."""
    written = keys.model_fields_set & PolicyKeys.model_fields.keys()
    return {key: getattr(keys, key) for key in PolicyKeys.model_fields if key in written}


def client_keys(mount: PolicyKeys | None, defaults: Defaults) -> ClientKeys:
    """Who may download by this mount (None is URL-in-path)."""
    keys = {**explicit_policy(defaults), **(explicit_policy(mount) if mount is not None else {})}
    return ClientKeys.model_construct(**{k: keys[k] for k in ClientKeys.model_fields if k in keys})


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


def _shared(policy: Policy, share: Share, *, has_own: bool) -> Policy:
    """The policy of a mount that shares what credentials brought: the rule that the mount has for
    them takes the place of Vary and of RFC 9111 §3.5."""
    if share is Share.PUBLIC and not has_own:
        # Who may not see an object is often told 404, and that is nobody else's answer.
        policy = replace(policy, negative_ttl_seconds=0.0)
    ignored = (*policy.ignore_vary, "authorization")
    return replace(policy, share_authorized=True, ignore_vary=ignored)


def _with_slash(prefix: str) -> str:
    return prefix if prefix.endswith("/") else prefix + "/"


def _policies(keys: Mapping[str, Any]) -> dict[str, Any]:
    chosen: dict[str, Any] = {
        "policy": Policy(**{a: keys[k] for k, a in _POLICY_KEYS.items() if k in keys}),
        "transfer": TransferPolicy(**{a: keys[k] for k, a in _TRANSFER_KEYS.items() if k in keys}),
    }
    return chosen | {key: keys[key] for key in ("forward", "checksums") if key in keys}
