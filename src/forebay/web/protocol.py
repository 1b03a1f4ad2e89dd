"""``ForebayHttpProtocol``: the connection as it should be, tunnels, and the fast lane.

    uvicorn … --http forebay.web.protocol:ForebayHttpProtocol --no-proxy-headers

A hit is answered from within ``data_received``, without a task: a small one in one write, a large
one from its file (``filecycle``), and where the request's octets are known without being parsed.
That is so only where the protocol calls our application itself: with a middleware in between, as
uvicorn's for proxies is unless switched off, every request goes the ordinary way.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from forebay.web.asgi import Scope
from forebay.web.cycle import ANSWERED
from forebay.web.fastlane import Express, FileAnswer
from forebay.web.filecycle import FileCycle
from forebay.web.limits import AdminAddress, DoorLimits
from forebay.web.tunnelling import TunnellingConnection


def protocol_with(
    limits: DoorLimits, admin_address: AdminAddress | None = None
) -> type[ForebayHttpProtocol]:
    """The protocol class with other limits, for uvicorn's ``http=``; ``admin_address`` is where
    the admin side listens, if that is not where downloads are."""
    changed = {"limits": limits, "admin_address": admin_address}
    return type("ForebayHttpProtocol", (ForebayHttpProtocol,), changed)


class ForebayHttpProtocol(TunnellingConnection):
    """One client connection, with the fast lane where the application has one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._express: Express | None = None
        self._answered_time = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        fast_lane = getattr(self.app, "fast_lane", None)
        # Where a limit is set, every answer counts and is for the ordinary way to refuse.
        own_port = self.server is not None and self.server[1] in getattr(
            self.app, "mount_ports", ()
        )
        is_for_hits = not (own_port or self.is_admin_side)
        if fast_lane is not None and self.limit_concurrency is None and is_for_hits:
            host = self.client[0] if self.client else ""
            self._express = Express(fast_lane, host, may_send_files=self._has_zero_copy())

    def data_received(self, data: bytes) -> None:
        express = self._express
        if express is None:
            super().data_received(data)
            return
        if self._is_idle():
            response = express.answer_octets(data)
            if response is not None and self._give_at_once(response):
                return
        express.begin(data)
        super().data_received(data)
        express.end(in_message=self._in_message(data))

    def _answer_at_once(self) -> bool:
        if self._express is None or not self._is_idle():
            return False
        return self._give_at_once(self._express.answer_parsed(cast("Scope", self.scope)))

    def _is_idle(self) -> bool:
        """Whether an answer that is given now overtakes nothing and is taken by the client."""
        return (
            self._running is None
            and not (self.pipeline or self._deaf or self._half_closed)
            and not self.transport.is_closing()
            and not self.transport.get_write_buffer_size()
        )

    def _give_at_once(self, response: bytes | FileAnswer | None) -> bool:
        """Give a whole response, if there is one, and rest until the next request."""
        if response is None:
            return False
        if isinstance(response, FileAnswer):
            return self._send_file(response)
        if self._deadline is not None:
            self._disarm_deadline()
        self.cycle = ANSWERED  # type: ignore[assignment]  # has what is read of a cycle that is over
        self.write(response)
        self._rest()
        return True

    def _rest(self) -> None:
        self.server_state.total_requests += 1
        self._answered_time = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_handler()

    @property
    def resting_since(self) -> float:
        """The same, where answers given at once have left the timer as it was."""
        return max(super().resting_since, self._answered_time)

    def _send_file(self, answer: FileAnswer) -> bool:
        """Let a file leave, if there is room; what comes meanwhile waits behind it as behind any
        other answer."""
        if not self.descriptors.take(1):
            answer.decline()  # The ordinary way says that there is no room.
            return False
        self._disarm_deadline()
        self._unset_keepalive_if_required()
        cycle = FileCycle(self, answer, self._file_sent)
        self.cycle = self._running = cycle  # type: ignore[assignment]  # has the same face
        cycle.begin()
        return True

    def _file_sent(self, cycle: FileCycle) -> None:
        if self.pipeline or not cycle.keep_alive or self.transport.is_closing():
            self.cycle_complete(cycle)  # type: ignore[arg-type]
            return
        self._running = None
        self._rest()

    def timeout_keep_alive_handler(self) -> None:
        """Close, unless an answer was given at once since the timer was set: moving a timer for
        each of those would cost more than looking at the clock."""
        left_seconds = self._answered_time + self.timeout_keep_alive - self.loop.time()
        if left_seconds > 0:
            self.timeout_keep_alive_task = self.loop.call_later(
                left_seconds, self.timeout_keep_alive_handler
            )
        else:
            super().timeout_keep_alive_handler()

    def _in_message(self, data: bytes) -> bool:
        """Whether what follows these octets, the last that were parsed, belongs to a request
        that has begun, as far as their end can tell: true where in doubt."""
        broken_off = self._in_head or (self.cycle is not None and self.cycle.more_body)
        return broken_off or not data.endswith(b"\r\n\r\n")
