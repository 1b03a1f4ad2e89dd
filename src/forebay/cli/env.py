"""``forebay env``: what to set so that a client goes through the running configuration.

Everything is printed as it is to be typed or written, nothing is changed. Lines with ``#`` are for
the reader; one that ends in "in FILE:" says that what follows, up to the next, belongs there, and
all else is for a shell. Capitals stand for what only the reader knows.
The lines for each client are functions of the address and of the mounts with its preset.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, NamedTuple
from urllib.parse import urlsplit

import typer

from forebay.cli.common import (
    ConfigOption,
    ServerOption,
    fail,
    scheme_of,
    server_url,
    settings_or_fail,
)
from forebay.model import Mount, Share
from forebay.presets import preset_settings


class Place(NamedTuple):
    """A mount as its clients reach it: ``url`` without a slash at its end."""

    mount: Mount
    url: str

    @property
    def is_plain(self) -> bool:
        """Whether clients speak to it without TLS."""
        return self.url.startswith("http://")

    @property
    def authority(self) -> str:
        """Host and port."""
        return urlsplit(self.url).netloc

    @property
    def host(self) -> str:
        """The host alone, as clients' lists of trusted hosts have it."""
        return urlsplit(self.url).hostname or ""


Lines = Sequence[str]


def pip(place: Place) -> Lines:
    """Pip's own configuration; a plain http host that is not this machine must be trusted."""
    lines = [f"pip config set global.index-url {simple(place)}"]
    if place.is_plain and place.host not in {"127.0.0.1", "::1", "localhost"}:
        lines.append(f"pip config set global.trusted-host {place.host}")
    return lines


def uv(place: Place) -> Lines:
    """Uv takes plain http without being told to."""
    return [f"export UV_DEFAULT_INDEX={simple(place)}"]


def simple(place: Place) -> str:
    """The simple index of a mount whose upstream may or may not end there itself."""
    ends = place.mount.upstreams[0].endswith("/simple/")
    return place.url + ("/" if ends else "/simple/")


def npm(place: Place) -> Lines:
    """npm; pnpm and yarn only where the mount rewrites links."""
    lines = [f"npm config set registry {place.url}/"]
    if place.mount.rewrite_links:
        lines += [
            f"pnpm config set registry {place.url}/",
            f"export YARN_NPM_REGISTRY_SERVER={place.url}",
        ]
        if place.is_plain:
            lines.append(f"export YARN_UNSAFE_HTTP_WHITELIST={place.host}")
    else:
        lines.append("# pnpm and yarn need rewrite_links = true on a mount of their own.")
    return lines


def apt(place: Place) -> Lines:
    """A line for sources.list."""
    return [
        "# in /etc/apt/sources.list, in place of the repository's own address:",
        f"deb {place.url}/ SUITE COMPONENT",
    ]


def apt_proxy(base_url: str) -> Lines:
    """All sources with http addresses at once; no mount is needed. Those with https go to their
    own servers, since apt would ask for a tunnel."""
    quoted = f'Acquire::http::Proxy "{base_url}"; Acquire::https::Proxy "DIRECT";'
    return [
        "# for every source with an http:// address, without a mount:",
        f"echo '{quoted}' > /etc/apt/apt.conf.d/01forebay",
    ]


def hf(place: Place) -> Lines:
    """huggingface_hub and all that is built on it."""
    return [f"export HF_ENDPOINT={place.url}"]


def docker(place: Place) -> Lines:
    """containerd, podman, skopeo and Docker: each has a way of its own."""
    name = place.mount.prefix.strip("/").removeprefix("v2").strip("/")
    containerd = place.url
    if place.mount.hosts or place.mount.port is not None:
        # An origin of its own: the registry is at its root.
        name, containerd = "", f"{place.url}/v2"
    upstream = urlsplit(place.mount.upstreams[0]).netloc
    below = f"{place.authority}/{name}".rstrip("/")
    lines = [
        "# location is what the names of images begin with. For podman, skopeo and buildah",
        "# in /etc/containers/registries.conf.d/forebay.conf:",
        "[[registry]]",
        f'location = "{upstream}"',
        "[[registry.mirror]]",
        f'location = "{below}"',
        *(["insecure = true"] if place.is_plain else []),
        f"# containerd, in /etc/containerd/certs.d/{upstream}/hosts.toml:",
        f'[host."{containerd}"]',
        'capabilities = ["pull", "resolve"]',
        "override_path = true",
    ]
    if name:
        insecure = f'{{"insecure-registries": ["{place.authority}"]}}'
        lines += [
            *(["# Docker, in /etc/docker/daemon.json:", insecure] if place.is_plain else []),
            f"# for Docker: docker pull {below}/REPOSITORY",
            '# To mirror Docker\'s own hub it needs a mount of that hub with prefix = "/v2/".',
        ]
    else:
        lines += [
            "# Docker, in /etc/docker/daemon.json:",
            f'{{"registry-mirrors": ["{_root(place)}"]}}',
        ]
    return lines


def _root(place: Place) -> str:
    return f"{urlsplit(place.url).scheme}://{place.authority}"


def git_lfs(place: Place) -> Lines:
    """Clones and objects of every repository below the mount."""
    upstream = place.mount.upstreams[0]
    return [f"git config --global url.{place.url}/.insteadOf {upstream}"]


def go(place: Place) -> Lines:
    """The checksum database is asked through the same mount."""
    return [f"export GOPROXY={place.url},direct"]


def cargo(place: Place) -> Lines:
    """Cargo's own configuration."""
    return [
        "# in ~/.cargo/config.toml:",
        "[source.crates-io]",
        'replace-with = "forebay"',
        "[source.forebay]",
        f'registry = "sparse+{place.url}/"',
    ]


def maven(place: Place) -> Lines:
    """One mirror for every repository."""
    return [
        "# in ~/.m2/settings.xml, or what is in <settings> there:",
        "<settings><mirrors><mirror><id>forebay</id><mirrorOf>*</mirrorOf>",
        f"<url>{place.url}/</url></mirror></mirrors></settings>",
    ]


def conda(place: Place) -> Lines:
    """Channels by name, for conda, mamba and micromamba; ``defaults`` is not one of them."""
    return [
        f"conda config --set channel_alias {place.url}",
        "# The channel defaults is elsewhere: leave it out (nodefaults), or give it a mount of its",
        "# own and name that in default_channels.",
    ]


def dnf(place: Place) -> Lines:
    """A repository's own lines; a metalink would name other hosts."""
    return [
        "# in /etc/yum.repos.d/REPOSITORY.repo, in place of metalink or mirrorlist:",
        f"baseurl={place.url}/PATH/OF/THE/REPOSITORY/",
    ]


def login(client: str, place: Place) -> Lines:
    """Where a client's own credentials go, for a mount that wants them."""
    if place.mount.share not in {Share.PRIVATE, Share.VERIFY}:
        return []
    bare = f"{place.authority}{urlsplit(place.url).path}/"
    known = {
        "pip": "# with your login: put USER:PASSWORD@ before the host in the address",
        "uv": "# with your login: put USER:PASSWORD@ before the host in the address",
        "npm": f"npm config set //{bare}:_authToken TOKEN",
        "docker": f"# with the registry's own login: docker login {place.authority}",
        "hf": "# with your token, as ever: export HF_TOKEN=TOKEN",
    }
    return [known.get(client, "# with your login, as the client has it for this address")]


CLIENTS: Mapping[str, tuple[str, Callable[[Place], Lines]]] = {
    "pip": ("pypi", pip),
    "uv": ("pypi", uv),
    "npm": ("npm", npm),
    "apt": ("apt", apt),
    "hf": ("huggingface", hf),
    "docker": ("oci", docker),
    "git-lfs": ("git-lfs", git_lfs),
    "go": ("go", go),
    "cargo": ("cargo", cargo),
    "maven": ("maven", maven),
    "conda": ("conda", conda),
    "dnf": ("dnf", dnf),
}
"""For each client the preset that its mount has, and its lines."""


SETS_ONE = frozenset({"pip", "uv", "npm", "hf", "go", "cargo", "maven", "conda"})
"""Clients with one address for all: of several mounts the last that is set would win."""


def curl_lines(base_url: str) -> Lines:
    """Any URL: in the path, or by the proxy variable where it is http.

    Without ``-f``, with which curl 7 takes the 416 that says "you have it all" for a failure.
    """
    return [
        f"curl -C - -LO {base_url}/https://HOST/PATH",
        "# or for every http:// address:",
        f"export http_proxy={base_url}",
    ]


def lines_for(
    client: str,
    base_url: str,
    mounts: Sequence[Mount],
    chosen: str | None = None,
    port_scheme: str = "http",
) -> list[str]:
    """What to set for a client; ``chosen`` is a mount's name, ``port_scheme`` what is spoken at
    mounts' own ports. Raises ``LookupError`` with a sentence where no mount suits it."""
    if client == "curl":
        return list(curl_lines(base_url))
    if client not in CLIENTS:
        raise LookupError(f"{client!r} is not known; these are: {', '.join([*CLIENTS, 'curl'])}.")
    preset, write = CLIENTS[client]
    suited = [m for m in mounts if m.preset == preset and m.upstreams]
    shown = [m for m in suited if m.name == chosen] if chosen is not None else suited
    if suited and not shown:
        names = ", ".join(m.name for m in suited)
        raise LookupError(f"No mount {chosen!r} is for {client}; these are: {names}.")
    others = shown[1:] if client in SETS_ONE else []
    lines: list[str] = []
    for mount in shown[:1] if others else shown:
        place = place_of(mount, base_url, port_scheme)
        lines += [f"# {mount.name}: {mount.upstreams[0]}", *write(place), *login(client, place)]
    lines += [
        f"# or {mount.name}: {mount.upstreams[0]}, by forebay env {client} --mount {mount.name}"
        for mount in others
    ]
    if client == "apt":
        lines += apt_proxy(base_url)
    if not lines:
        raise LookupError(
            f'No mount has preset = "{preset}". Add one to the config file:\n\n'
            f'[[mounts]]\nname = "{client}"\npreset = "{preset}"\n'
            'upstream = "https://THE-REGISTRY/"'
        )
    return lines


def place_of(mount: Mount, base_url: str, port_scheme: str = "http") -> Place:
    """Where clients reach the mount: at a port or host of its own, if it has one. What stands in
    front of the service, and may speak TLS for it, does not stand in front of such a port."""
    parts = urlsplit(base_url)
    if mount.port is not None:
        host = parts.hostname or ""
        name = f"[{host}]" if ":" in host else host
        return Place(mount, f"{port_scheme}://{name}:{mount.port}")
    if mount.hosts:
        port = f":{parts.port}" if parts.port else ""
        return Place(mount, f"{parts.scheme}://{mount.hosts[0]}{port}")
    return Place(mount, base_url + mount.prefix.rstrip("/"))


def env(
    client: Annotated[str, typer.Argument(help=f"One of {', '.join([*CLIENTS, 'curl'])}.")],
    config: ConfigOption = None,
    server: ServerOption = None,
    mount: Annotated[
        str | None,
        typer.Option("--mount", help="The mount to use, where several are for this client."),
    ] = None,
) -> None:
    """Print what to set so that a client goes through Forebay."""
    settings = settings_or_fail(config)
    mounts = settings.mount_table(preset_settings())
    try:
        base_url = server_url(settings, server)
        lines = lines_for(client, base_url, mounts, mount, scheme_of(settings))
    except LookupError as missing:
        fail(str(missing.args[0]))
    typer.echo("\n".join(lines))
