"""What ``forebay serve`` tells the person who started it."""

from __future__ import annotations

import ipaddress

import forebay
from forebay.cli.common import main_url, scheme_of
from forebay.settings import ClientKeys, Settings
from forebay.settings.mounts import URL_MOUNT_NAME
from forebay.units import describe_size

_OPEN = ClientKeys()
_EXAMPLE_URL = "https://example.org/"


def banner(settings: Settings) -> str:
    """Where the service listens, what it was told, what to beware of, and what to try."""
    address = main_url(settings)
    facts = [
        ("cache", _cache(settings)),
        ("config", str(settings.config or "none; the defaults and the environment")),
        ("admin token", _token(settings)),
        ("admin side", settings.admin.listen)
        if settings.admin.listen
        else ("dashboard", f"{address}/-/"),
        *(("mount" if not n else "", line) for n, line in enumerate(_mounts(settings))),
    ]
    lines = [
        f"Forebay {forebay.__version__} listens on {_listens(settings)}",
        *(f"  {title:<12} {text}" for title, text in facts),
    ]
    if needs_warning(settings):
        lines += ["", *_WARNING]
    lines += ["", "Try it twice, and look at Cache-Status:", f"  {_try(settings, address)}", ""]
    return "\n".join(lines)


_WARNING = (
    "WARNING: whoever reaches this port can have any public address fetched through it.",
    "  Name the hosts in [upstream] allow_hosts, or ask for client_tokens in [defaults], or set",
    "  [defaults] url_in_path = false, or listen on 127.0.0.1.",
)


def needs_warning(settings: Settings) -> bool:
    """Whether strangers may reach the port and name any public host."""
    named = settings.upstream.allow_hosts or settings.clients().get(URL_MOUNT_NAME, _OPEN) != _OPEN
    open_to_all = settings.defaults.url_in_path and not named
    return open_to_all and not _is_loopback(settings.server.host)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listens(settings: Settings) -> str:
    host, port = settings.server.host, settings.server.port
    shown = f"[{host}]" if ":" in host else host
    workers = settings.server.workers
    return f"{scheme_of(settings)}://{shown}:{port}" + (
        f" with {workers} workers" if workers > 1 else ""
    )


def _cache(settings: Settings) -> str:
    limit = settings.cache.max_size
    most = "no limit on its size" if limit is None else f"at most {describe_size(limit)}"
    free = describe_size(settings.cache.min_free)
    return f"{settings.cache.dir.absolute()} ({most}; {free} of the disk stays free)"


def _token(settings: Settings) -> str:
    if settings.admin.token is not None:
        return "as configured"
    return str(settings.token_path.absolute())


def _mounts(settings: Settings) -> list[str]:
    lines = []
    for mount in settings.mount_table():
        if mount.name != URL_MOUNT_NAME:
            way = f":{mount.port}/" if mount.port is not None else mount.prefix
            lines.append(f"{way} → {', '.join(mount.upstreams)}")
        elif settings.upstream.allow_hosts:
            lines.append(f"/https://HOST/… for {', '.join(settings.upstream.allow_hosts)}")
        else:
            lines.append("/https://HOST/… for every public host")
    return lines or ["none: nothing can be downloaded"]


def _try(settings: Settings, address: str) -> str:
    named = [mount for mount in settings.mount_table() if mount.upstreams]
    exact = [host for host in settings.upstream.allow_hosts if not host.startswith("*")]
    if settings.defaults.url_in_path and not settings.upstream.allow_hosts:
        path = "/" + _EXAMPLE_URL
    elif named:
        path = named[0].prefix
    else:
        path = f"/https://{exact[0] if exact else 'HOST'}/"
    return f"curl -i {address}{path}"
