"""Asking a running Forebay, over plain HTTP and without any proxy between.

The standard library's client is enough here, and starts faster than a better one; the service
itself uses httpx, in ``upstream`` only.
"""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException, HTTPResponse
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
    """One running Forebay, known by its base address."""

    def __init__(self, base_url: str, token: str | None = None) -> None:
        self.base_url = base_url
        self._token = token
        # Proxy variables are for reaching the world, and this is our own service.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def open(
        self,
        address: str,
        fields: Mapping[str, str] | None = None,
        *,
        timeout_seconds: float = _ANSWER_TIMEOUT_SECONDS,
    ) -> HTTPResponse:
        """A GET whose head has come. Raises ``RemoteError`` for 4xx and 5xx as well."""
        request = urllib.request.Request(address, headers=dict(fields or {}))  # noqa: S310
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


def _refusal(error: urllib.error.HTTPError) -> str:
    """What the service says in its problem document (RFC 9457 §3.1), or the bare status."""
    try:
        problem = json.loads(error.read(_MAX_PROBLEM_BYTES))
        detail = problem.get("detail") or problem.get("title")
    except (ValueError, AttributeError, OSError, HTTPException):
        detail = None
    return f"{error.code} {error.reason}: {detail}" if detail else f"{error.code} {error.reason}"
