"""The whole door as one ASGI application, from a service and a token."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, cast

from forebay.errors import ForebayError
from forebay.service import Service
from forebay.web.asgi import App, Receive, Scope, Send
from forebay.web.auth import AdminGuard, AdminKey
from forebay.web.behind import Behind
from forebay.web.door import Door
from forebay.web.entrance import Entrance
from forebay.web.fastlane import FastLane
from forebay.web.limits import DoorLimits
from forebay.web.metrics import Metrics
from forebay.web.readiness import Readiness
from forebay.web.ways import WaysIn

logger = logging.getLogger("forebay.web")

Hook: TypeAlias = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class AdminSide:
    """``keys`` open the admin side, each for its scopes; ``apart`` says whether it has an address
    of its own, which the protocol then knows."""

    keys: tuple[AdminKey, ...] = ()
    apart: bool = False


def make_app(
    service: Service,
    *,
    token: str,
    startup: Sequence[Hook] = (),
    shutdown: Sequence[Hook] = (),
    limits: DoorLimits | None = None,
    ways: WaysIn | None = None,
    admin: AdminSide | None = None,
    entrance: Entrance | None = None,
) -> App:
    """The ASGI application.

    ``token`` opens the admin side; an empty one raises ``ValueError``. ``startup`` hooks run in
    order before the first request, ``shutdown`` hooks in order after the last, each of them
    even where an earlier one failed. ``limits`` here bound request bodies; connections take
    theirs from the protocol. ``admin`` has further tokens, ``entrance`` says who may download, and
    how much.
    """
    admin = admin or AdminSide()
    return Application(
        service,
        admin=replace(admin, keys=(AdminKey("admin", token), *admin.keys)),
        entrance=entrance or Entrance(),
        startup=startup,
        shutdown=shutdown,
        limits=limits or DoorLimits(),
        ways=ways or WaysIn(),
    )


class Application:
    """What ``make_app`` gives. ``fast_lane`` is for a protocol that knows it, and calls this
    application with no middleware in between."""

    fast_lane: FastLane | None = None

    def __init__(
        self,
        service: Service,
        *,
        admin: AdminSide,
        entrance: Entrance,
        startup: Sequence[Hook],
        shutdown: Sequence[Hook],
        limits: DoorLimits,
        ways: WaysIn,
    ) -> None:
        self.tunnels = ways.tunnels
        """For a protocol that knows them, as ``fast_lane``."""
        metrics = Metrics()
        service.door_counts = metrics.counts
        self._readiness = Readiness()
        self._startup, self._shutdown = startup, shutdown
        self._admin = Behind(lambda: _admin(service, metrics, self._readiness))
        self.mount_ports = ways.mount_ports
        """Local ports of mounts; requests there are not for the fast lane, which knows requests
        by their octets alone."""
        self._door = Door(
            service,
            self._admin,
            AdminGuard(admin.keys),
            metrics,
            entrance,
            limits=limits,
            ways=ways,
            admin_apart=admin.apart,
        )
        if service.lane is not None:
            self.fast_lane = FastLane(
                service.lane,
                metrics,
                self._door.is_download,
                service.mounts_asked,
                service.note_served,
                entrance,
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._door(scope, receive, send)
        elif scope["type"] == "lifespan":
            startup = (*self._startup, self._begin_admin)
            await _live(receive, send, startup, self._shutdown, self._readiness)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})

    async def _begin_admin(self) -> None:
        self._admin.begin_soon()


def _admin(service: Service, metrics: Metrics, readiness: Readiness) -> App:
    """The admin side, with FastAPI, which no download needs and a start would wait for."""
    from forebay.web.admin import make_admin  # noqa: PLC0415 - see above

    return cast("App", make_admin(service, metrics, readiness))


async def _live(
    receive: Receive,
    send: Send,
    startup: Sequence[Hook],
    shutdown: Sequence[Hook],
    readiness: Readiness,
) -> None:
    """The lifespan conversation: start, wait for the end, stop."""
    await receive()
    try:
        for hook in startup:
            await hook()
    except Exception as error:
        if not isinstance(error, ForebayError):
            # One of ours says what to do: where it was raised helps nobody.
            logger.exception("the service could not start")
        await _stop(shutdown)
        await send({"type": "lifespan.startup.failed", "message": str(error)})  # and logged there
        return
    readiness.ready = True
    await send({"type": "lifespan.startup.complete"})
    await receive()
    readiness.ready = False
    failure = await _stop(shutdown)
    if failure is None:
        await send({"type": "lifespan.shutdown.complete"})
    else:
        await send({"type": "lifespan.shutdown.failed", "message": str(failure)})


async def _stop(shutdown: Sequence[Hook]) -> Exception | None:
    """Run every hook; the first failure is returned after the last has run."""
    failure: Exception | None = None
    for hook in shutdown:
        try:
            await hook()
        except Exception as error:
            logger.exception("a part of the service did not stop cleanly")
            failure = failure or error
    return failure
