"""What may be configured, from one TOML file and ``FOREBAY_…`` variables.

``load`` reads and checks everything; ``Settings`` is the checked result; ``SettingsError``
lists what is wrong in sentences. Sizes are ``int`` bytes and durations ``float`` seconds by
the time anyone reads an attribute, whatever spelling they had (``forebay.units``).
"""

from __future__ import annotations

from forebay.settings.access import AdminToken, ClientKeys, ClientToken, Limits, Tls
from forebay.settings.loading import Settings, SettingsError, load
from forebay.settings.mounts import MountTable
from forebay.settings.policy import Defaults
from forebay.settings.tables import Admin, Cache, Server, Upstream

__all__ = [
    "Admin",
    "AdminToken",
    "Cache",
    "ClientKeys",
    "ClientToken",
    "Defaults",
    "Limits",
    "MountTable",
    "Server",
    "Settings",
    "SettingsError",
    "Tls",
    "Upstream",
    "load",
]
