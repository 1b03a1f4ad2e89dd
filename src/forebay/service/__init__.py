"""The story of a request, from target to reply, and what operators may ask of the service."""

from __future__ import annotations

from forebay.service.service import Service

__all__ = ["Service"]
