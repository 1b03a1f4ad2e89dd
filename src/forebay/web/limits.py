"""What one connection may cost us, every wait and every buffer bounded; and which side it is on."""

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


@dataclass(frozen=True, slots=True)
class AdminAddress:
    """Where the admin side listens: a port, at one address of ours or (with an empty ``host``) at
    all of them; or with ``path`` a unix socket."""

    port: int = 0
    host: str = ""
    path: str | None = None

    def is_of(self, socket_name: object) -> bool:
        """Whether a connection whose own end has this name (``getsockname``) came in here."""
        if not isinstance(socket_name, tuple):
            name = socket_name.decode() if isinstance(socket_name, bytes) else socket_name
            return self.path is not None and name == self.path
        return (
            self.path is None
            and socket_name[1] == self.port
            and self.host in {"", socket_name[0].removeprefix("::ffff:")}
        )
