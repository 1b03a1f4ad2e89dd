"""Asking a running Forebay, over plain HTTP and without any proxy between.

The standard library's client is enough here, and starts faster than a better one; the service
itself uses httpx, in ``upstream`` only.
"""

from __future__ import annotations

import json
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, cast

_ANSWER_TIMEOUT_SECONDS = 60.0
_MAX_PROBLEM_BYTES = 64 * 1024


class RemoteError(Exception):
    """The service could not be asked, or said no; the message is for a person.

    ``status`` is the answer's status, None where there was no answer; ``is_absent`` says that
    nobody listens at the address.
    """

    def __init__(self, message: str, status: int | None = None, *, is_absent: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.is_absent = is_absent


class Remote:
    """One running Forebay, known by its base address, or by that and a unix socket.

    ``token`` is for the admin side, ``client_token`` for downloads; ``tls`` is for a certificate
    that is not one of the system's own.
    """

    def __init__(
        self,
        base_url: str,
        token: str | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        socket_path: Path | None = None,
        client_token: str | None = None,
    ) -> None:
        self.base_url = base_url
        self._token = token
        self._client_token = client_token
        # Proxy variables are for reaching the world, and this is our own service.
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
        if socket_path is not None:
            handlers.append(_UnixHandler(socket_path, tls))
        elif tls is not None:
            handlers.append(urllib.request.HTTPSHandler(context=tls))
        self._opener = urllib.request.build_opener(*handlers)

    def open(
        self,
        address: str,
        fields: Mapping[str, str] | None = None,
        *,
        timeout_seconds: float = _ANSWER_TIMEOUT_SECONDS,
    ) -> HTTPResponse:
        """A GET whose head has come. Raises ``RemoteError`` for 4xx and 5xx as well."""
        request = urllib.request.Request(address, headers=dict(fields or {}))  # noqa: S310
        if self._client_token is not None:
            # Not where a redirect leads, which may be anywhere.
            request.add_unredirected_header("Authorization", f"Bearer {self._client_token}")
        return self._send(request, timeout_seconds)

    def ask(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """JSON from an admin address, by POST where there is a body. Raises ``RemoteError``."""
        request = urllib.request.Request(self.base_url + path)  # noqa: S310 - http(s) by server_url
        if self._token is not None:
            request.add_header("Authorization", f"Bearer {self._token}")
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        with self._send(request, _ANSWER_TIMEOUT_SECONDS) as response:
            try:
                return json.load(response)
            except ValueError:
                raise RemoteError(f"{self.base_url} does not answer as Forebay does.") from None

    def _send(self, request: urllib.request.Request, timeout_seconds: float) -> HTTPResponse:
        try:
            answer = self._opener.open(request, timeout=timeout_seconds)
        except urllib.error.HTTPError as error:
            with error:
                raise RemoteError(_refusal(error), error.code) from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, ConnectionRefusedError):
                raise RemoteError(
                    f"No Forebay answers at {self.base_url}. Start it with forebay serve, or say "
                    "with --server where it is.",
                    is_absent=True,
                ) from None
            why = getattr(error.reason, "strerror", None) or error.reason
            raise RemoteError(
                f"{self.base_url} cannot be reached: {why}.",
                is_absent=isinstance(error.reason, socket.gaierror),
            ) from None
        except (OSError, HTTPException) as error:
            raise RemoteError(f"{self.base_url} broke off: {error}.") from None
        return cast("HTTPResponse", answer)


class _UnixConnection(HTTPConnection):
    """HTTP over a unix socket, under TLS where there is a context."""

    def __init__(self, path: Path, tls: ssl.SSLContext | None, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path
        self._tls = tls

    def connect(self) -> None:
        plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            plain.settimeout(self.timeout)
            plain.connect(str(self._path))
            self.sock = plain if self._tls is None else self._tls.wrap_socket(plain)
        except BaseException:
            plain.close()
            raise


class _UnixHandler(urllib.request.AbstractHTTPHandler):
    """Opens every address through one unix socket."""

    handler_order = 100  # Before the handlers for TCP.

    def __init__(self, path: Path, tls: ssl.SSLContext | None) -> None:
        super().__init__()
        self._path = path
        self._tls = tls

    def http_open(self, request: urllib.request.Request) -> HTTPResponse:
        def connection(_host: str, *, timeout: float, **_more: Any) -> HTTPConnection:
            return _UnixConnection(self._path, self._tls, timeout)

        return self.do_open(cast("Any", connection), request)

    https_open = http_open
    http_request = urllib.request.AbstractHTTPHandler.do_request_
    https_request = urllib.request.AbstractHTTPHandler.do_request_


def _refusal(error: urllib.error.HTTPError) -> str:
    """What the service says in its problem document (RFC 9457 §3.1), or the bare status."""
    try:
        problem = json.loads(error.read(_MAX_PROBLEM_BYTES))
        detail = problem.get("detail") or problem.get("title")
    except (ValueError, AttributeError, OSError, HTTPException):
        detail = None
    return f"{error.code} {error.reason}: {detail}" if detail else f"{error.code} {error.reason}"
