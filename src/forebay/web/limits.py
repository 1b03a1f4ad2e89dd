"""What one connection may cost us: every wait has a deadline and every buffer a bound."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DoorLimits:
    """Bounds of one client connection; sizes in bytes, times in seconds.

    The values are chosen, not measured.
    """

    max_target_bytes: int = 16 * 1024
    """Longest request target, else 414. Room for a signed URL inside a URL."""
    max_head_bytes: int = 64 * 1024
    """Request line and fields together, else 431."""
    max_fields: int = 128
    """Field lines in one head, else 431."""
    head_seconds: float = 15.0
    """From the first byte of a request (or from the accept) to the end of its head, however
    steadily the bytes drip, else 408."""
    body_stall_seconds: float = 60.0
    """Silence in the middle of a request body."""
    stall_seconds: float = 60.0
    """A client that accepts no byte for this long is dropped."""
    min_rate_bytes: float = 1000.0
    """Bytes a second that a client must take, over ``stall_seconds`` in which more wait, and send
    of a request body, over ``body_stall_seconds``."""
    half_close_seconds: float = 2.0
    """How long a client that has closed its sending side may wait for the next byte of its
    answer. Only after a byte of ours does the network tell a half-closed client from one that
    has gone, so that a longer patience would keep readers for nobody."""
    linger_seconds: float = 2.0
    """After a refusal, how long what the client still sends is read and dropped, lest a reset
    overtake the answer (RFC 9112 §9.6)."""
    max_connections: int = 10_000
    """Connections of clients at once in a process, resting ones included; further ones get 503."""
    max_pipelined: int = 256
    """Requests that wait behind the one being answered; apt sends ten, load generators 64."""
