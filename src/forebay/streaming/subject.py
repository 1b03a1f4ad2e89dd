"""What a transfer is about, and what it has around it: values given to each transfer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from forebay.model import Fields, Head, Identity, TransferPolicy
from forebay.ports import MirrorHealth, Upstream
from forebay.streaming.pace import Slots
from forebay.streaming.segment import Source


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every transfer shares: the network, limits, what is known of mirrors, the clocks."""

    upstream: Upstream
    health: MirrorHealth
    slots: Slots
    clock: Callable[[], float]
    """Monotonic seconds."""
    wall_clock: Callable[[], float]
    """Seconds since the epoch."""
    tells_digests: bool = False
    """Whether a digest of every whole body is wanted, to be told to clients (RFC 9530 §3)."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is being fetched: addresses, the fields to ask with, and what proves its bytes."""

    sources: tuple[Source, ...]
    fields: Fields
    head: Head
    identity: Identity
    policy: TransferPolicy
