"""Making a connection: to a checked address, with the certificate checked by name."""

from __future__ import annotations

import asyncio
import errno
import os
import ssl

import certifi

from forebay.errors import Overloaded, UpstreamTimeout, UpstreamUnreachable
from forebay.rules.urls import Url
from forebay.upstream.guard import Guard
from forebay.upstream.slabs import Slabs
from forebay.upstream.wire import Wire

MIN_TRY_SECONDS = 1.0
"""What each of several addresses gets at least before the next one is tried."""


_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


def default_tls() -> ssl.SSLContext:
    """Certificates are checked against the system's roots and certifi's together.

    The system's may have an operator's own; certifi's are there when the system has none.
    """
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context


class Dialer:
    """Opens connections. ``connect_timeout_seconds`` bounds resolving, connecting and TLS."""

    def __init__(
        self, guard: Guard, *, connect_timeout_seconds: float, tls: ssl.SSLContext | None = None
    ) -> None:
        self._guard = guard
        self._timeout_seconds = connect_timeout_seconds
        self._tls = tls
        self._slabs = Slabs()

    async def dial(self, url: Url, *, unguarded: bool) -> Wire:
        """A connection to the origin of ``url``, at one of the addresses the guard gives.

        Raises ``TargetForbidden``, ``UpstreamUnreachable`` or ``UpstreamTimeout``.
        """
        try:
            async with asyncio.timeout(self._timeout_seconds):
                addresses = await self._guard.check(url.host, url.port, unguarded=unguarded)
                return await self._try_each(addresses, url)
        except TimeoutError:
            self._guard.forget(url.host)
            raise UpstreamTimeout("No connection to the upstream could be made in time.") from None
        except UpstreamUnreachable:
            self._guard.forget(url.host)
            raise

    async def _try_each(self, addresses: tuple[str, ...], url: Url) -> Wire:
        share = max(MIN_TRY_SECONDS, self._timeout_seconds / len(addresses))
        for address in addresses[:-1]:
            try:
                async with asyncio.timeout(share):
                    return await self._connect(address, url)
            except (TimeoutError, UpstreamUnreachable):
                continue
        return await self._connect(addresses[-1], url)

    async def _connect(self, address: str, url: Url) -> Wire:
        loop = asyncio.get_running_loop()
        secure = url.scheme == "https"
        if secure and self._tls is None:
            self._tls = default_tls()
        try:
            _, wire = await loop.create_connection(
                lambda: Wire(self._slabs),
                address,
                url.port,
                ssl=self._tls if secure else None,
                server_hostname=url.host if secure else None,
            )
        except ssl.SSLCertVerificationError as error:
            why = error.verify_message.rstrip(".")
            raise UpstreamUnreachable(
                f"The upstream's certificate is not accepted: {why}."
            ) from None
        except (ssl.SSLError, OSError) as error:
            if error.errno in _OUT_OF_DESCRIPTORS:
                raise Overloaded("No more connections can be opened here now; try again.") from None
            why = f": {os.strerror(error.errno)}" if error.errno and error.errno > 0 else ""
            raise UpstreamUnreachable(
                f"No connection to the upstream could be made{why}."
            ) from None
        return wire
