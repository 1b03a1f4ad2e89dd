"""Everything of uvicorn's inside that our protocol leans on, in one place.

uvicorn documents none of it, so a new release may move it. ``missing_surface`` says what has
gone; its test fails with these names in the message, and whoever starts the server can fall
back to uvicorn's own protocol, on which the same responses stream by copying.
"""

from __future__ import annotations

import inspect

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = [
    "CONSTRUCTOR_PARAMETERS",
    "FLOW_METHODS",
    "PROTOCOL_ATTRIBUTES",
    "PROTOCOL_METHODS",
    "FlowControl",
    "HttpToolsProtocol",
    "missing_surface",
]

CONSTRUCTOR_PARAMETERS = ("config", "server_state", "app_state", "_loop")

PROTOCOL_METHODS = (
    "connection_made",
    "connection_lost",
    "data_received",
    "eof_received",
    "on_message_begin",
    "on_url",
    "on_header",
    "on_headers_complete",
    "on_body",
    "on_message_complete",
    "on_response_complete",
    "shutdown",
    "timeout_keep_alive_handler",
    "_start_asgi_task",
    "_unset_keepalive_if_required",
)

PROTOCOL_ATTRIBUTES = (
    "app",
    "connections",
    "cycle",
    "flow",
    "headers",
    "limit_concurrency",
    "loop",
    "parser",
    "pipeline",
    "root_path",
    "scope",
    "server_state",
    "tasks",
    "timeout_keep_alive_task",
    "transport",
    "ws_protocol_class",
)
"""Set by the constructor; ``url`` comes with the first request."""

FLOW_METHODS = ("drain", "pause_reading", "resume_reading", "pause_writing", "resume_writing")


def missing_surface(protocol: HttpToolsProtocol | None = None) -> list[str]:
    """Names that this uvicorn no longer has; attributes only where an instance is given."""
    parameters = inspect.signature(HttpToolsProtocol.__init__).parameters
    missing = [f"HttpToolsProtocol({n}=)" for n in CONSTRUCTOR_PARAMETERS if n not in parameters]
    missing += [
        f"HttpToolsProtocol.{name}()"
        for name in PROTOCOL_METHODS
        if not callable(getattr(HttpToolsProtocol, name, None))
    ]
    missing += [
        f"FlowControl.{name}()"
        for name in FLOW_METHODS
        if not callable(getattr(FlowControl, name, None))
    ]
    if protocol is not None:
        missing += [
            f"HttpToolsProtocol().{name}"
            for name in PROTOCOL_ATTRIBUTES
            if not hasattr(protocol, name)
        ]
    return missing
