"""Answers where the request itself says that it ends here (RFC 9110 §7.6.2)."""

from __future__ import annotations

from forebay.model import CacheOutcome, CacheStatus, Fields, Request
from forebay.ports import Reply
from forebay.rules.heads import PROXY_FIELDS, forwards_left
from forebay.streaming.reader import BytesBody

_SECRET = ("authorization", "cookie", *sorted(PROXY_FIELDS))


def last_reply(request: Request) -> Reply | None:
    """The answer to a TRACE or OPTIONS that may not be forwarded; None for any other request.

    A TRACE is told what came, without what may be a secret (RFC 9110 §9.3.8).
    """
    if request.method not in {"OPTIONS", "TRACE"} or forwards_left(request.fields) != 0:
        return None
    status = CacheStatus(CacheOutcome.METHOD)
    if request.method == "OPTIONS":
        told = Fields([("allow", "GET, HEAD, OPTIONS, TRACE"), ("content-length", "0")])
        return Reply(200, told, None, status, length_bytes=0)
    query = "" if request.raw_query is None else f"?{request.raw_query}"
    lines = [f"TRACE {request.raw_path}{query} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in request.fields.without(*_SECRET)]
    body = "\r\n".join([*lines, "", ""]).encode("latin-1")
    fields = Fields([("content-type", "message/http"), ("content-length", str(len(body)))])
    return Reply(200, fields, BytesBody(body), status, length_bytes=len(body))
