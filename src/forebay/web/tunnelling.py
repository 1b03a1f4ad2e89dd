"""The connection that becomes one end of a tunnel (RFC 9110 §9.3.6), where there are any."""

from __future__ import annotations

from forebay.errors import ForebayError
from forebay.model import Fields, Request
from forebay.web import log
from forebay.web.connection import ClientConnection
from forebay.web.cycle import ANSWERED
from forebay.web.heads import Refusal
from forebay.web.problems import problem_of
from forebay.web.tunnel import ESTABLISHED, Tunnel, Tunnels, authority_of


class TunnellingConnection(ClientConnection):
    """One client connection, which answers CONNECT where ``Application.tunnels`` says how."""

    def _begins_tunnel(self) -> bool:
        tunnels: Tunnels | None = getattr(self.app, "tunnels", None)
        if tunnels is None or self.is_admin_side:
            return False
        self._begin_tunnel(tunnels)
        return True

    def _begin_tunnel(self, tunnels: Tunnels) -> None:
        authority = authority_of(self.url)
        if authority is None:
            self._raise(Refusal(400, "CONNECT names a host and a port, like example.org:443."))
        if self._running is not None or not tunnels.has_room:
            self._raise(Refusal(503, "No tunnel can be opened on this connection now."))
        fields = Fields(
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in self.headers
        )
        host = self.client[0] if self.client else ""
        try:
            tunnels.admit(Request("CONNECT", "/", None, fields, client_host=host, absolute=True))
        except ForebayError as error:
            problem = problem_of(error)
            self._raise(Refusal(problem.status, error.detail, problem.fields))
        self._early = bytearray()
        self.cycle = ANSWERED  # type: ignore[assignment]  # nothing of this request is to come
        self.flow.pause_reading()
        tunnels.open_count += 1
        task = self.loop.create_task(self._open_tunnel(tunnels, *authority))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _open_tunnel(self, tunnels: Tunnels, host: str, port: int) -> None:
        """Connect, tell the client, and hand its transport over; or say why not."""
        begin = self.loop.time()

        def note(status: int, sent_bytes: int, note: str) -> None:
            tunnels.open_count -= 1
            client, name = self.client[0] if self.client else "", f"{host}:{port}"
            duration = self.loop.time() - begin
            log.write(
                log.AccessLine(client, "CONNECT", name, status, sent_bytes, duration, "-", note)
            )

        def closed(sent_bytes: int, error: Exception | None) -> None:
            note(200, sent_bytes, "tunnel")
            self.connection_lost(error)

        try:
            tunnel = Tunnel(tunnels.dialer.idle_seconds, closed)
            try:
                await tunnels.dialer.connect(host, port, lambda: tunnel.far)
            except BaseException:
                tunnel.abandon()
                raise
        except ForebayError as error:
            self._early = None
            status = problem_of(error).status
            note(status, 0, error.detail)
            self._refuse(Refusal(status, error.detail))
            return
        except BaseException:
            tunnels.open_count -= 1
            self.transport.abort()
            raise
        self.transport.set_protocol(tunnel.client)
        tunnel.client.connection_made(self.transport)
        if self.transport.is_closing():
            # The client's end is already told to this protocol, not to the tunnel.
            tunnel.client.connection_lost(None)
            return
        tunnel.client.write(ESTABLISHED)
        tunnel.far.write(bytes(self._early or b""))
        self.flow.resume_reading()
