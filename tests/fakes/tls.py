"""TLS for tests: a certificate for ``origin.test`` and ``*.origin.test``, and who trusts it.

Key and certificate lie beside this file in one PEM. They are of no use outside the tests:
``.test`` is nobody's domain (RFC 6761 §6.2).
"""

from __future__ import annotations

import ssl
from pathlib import Path

_PEM = Path(__file__).with_name("origin-test.pem")


def server_context() -> ssl.SSLContext:
    """For ``Origin(tls=...)``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_PEM)
    return context


def client_context() -> ssl.SSLContext:
    """For a client that trusts that certificate, and no other."""
    return ssl.create_default_context(cafile=str(_PEM))
