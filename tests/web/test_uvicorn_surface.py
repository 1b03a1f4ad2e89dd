"""The private parts of uvicorn that we lean on are still where they were."""

from __future__ import annotations

import uvicorn
from uvicorn.server import ServerState

from forebay.web.uvicorn_surface import HttpToolsProtocol, missing_surface


async def _app(scope: object, receive: object, send: object) -> None: ...


async def test_this_uvicorn_has_everything_our_protocol_leans_on() -> None:
    config = uvicorn.Config(_app, log_config=None)
    protocol = HttpToolsProtocol(config=config, server_state=ServerState(), app_state={})
    missing = missing_surface(protocol)
    assert not missing, (
        f"uvicorn {uvicorn.__version__} has moved what forebay.web.protocol leans on: {missing}; "
        "mend web/protocol.py and web/uvicorn_surface.py, or pin uvicorn below it"
    )


async def test_what_has_gone_is_named() -> None:
    config = uvicorn.Config(_app, log_config=None)
    protocol = HttpToolsProtocol(config=config, server_state=ServerState(), app_state={})
    del protocol.pipeline
    assert missing_surface(protocol) == ["HttpToolsProtocol().pipeline"]
