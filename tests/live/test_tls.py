"""TLS of the service's own: cold and hot, old versions refused, certificates that change."""

from __future__ import annotations

import asyncio
import datetime
import random
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from forebay.web.tls import Certificates
from tests.fakes.origin import Origin
from tests.live.running import Running, running

BODY = random.Random(5).randbytes(3_000_000)
FRESH = ("cache-control", "max-age=600")


def make_pair(directory: Path, name: str = "cache.test") -> tuple[Path, Path]:
    """A certificate that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = directory / "certificate.pem", directory / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return make_pair(tmp_path)


@pytest.fixture
def certificates(pair: tuple[Path, Path]) -> Certificates:
    return Certificates(*pair)


@pytest.fixture
async def secure(
    tmp_path: Path, origin: Origin, certificates: Certificates, no_leaks: None
) -> AsyncIterator[Running]:
    server = {
        "ssl_context_factory": lambda *_: certificates.context,
    }
    async with running(tmp_path / "cache", origin, server=server) as service:
        yield service


def curl(service: Running, certificate: Path, path: str, *options: str) -> bytes:
    """What curl gets, which trusts this certificate and no other."""
    program = shutil.which("curl")
    if program is None:
        pytest.skip("there is no curl here")
    resolve = f"cache.test:{service.port}:127.0.0.1"
    address = f"https://cache.test:{service.port}{path}"
    done = subprocess.run(
        [program, "-sS", "--fail", "--cacert", str(certificate), "--resolve", resolve, *options,
         address],
        capture_output=True, check=True, timeout=30,
    )  # fmt: skip
    return done.stdout


async def test_curl_gets_the_same_bytes_cold_and_hot_whole_and_in_part(
    secure: Running, origin: Origin, pair: tuple[Path, Path]
) -> None:
    origin.add("/large", body=BODY, etag='"1"', headers=[FRESH])
    origin.add("/small", body=BODY[:999], etag='"1"', headers=[FRESH])
    for _ in range(3):
        got = await asyncio.to_thread(curl, secure, pair[0], secure.path("/large"))
        assert got == BODY
        got = await asyncio.to_thread(curl, secure, pair[0], secure.path("/small"))
        assert got == BODY[:999]
    part = await asyncio.to_thread(curl, secure, pair[0], secure.path("/large"), "-r", "7-99999")
    assert part == BODY[7:100_000]
    assert len(origin.requests) == 2


def handshake(port: int, highest: ssl.TLSVersion) -> tuple[str | None, bytes | None]:
    """Version and certificate of a handshake with at most this version."""
    import socket
    import warnings

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = highest
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    with (
        socket.create_connection(("127.0.0.1", port), 10) as plain,
        context.wrap_socket(plain) as wrapped,
    ):
        return wrapped.version(), wrapped.getpeercert(binary_form=True)


async def test_nothing_older_than_tls_1_2_is_spoken(secure: Running) -> None:
    for version, spoken in ((ssl.TLSVersion.TLSv1_3, "TLSv1.3"), (ssl.TLSVersion.TLSv1_2,
                                                                  "TLSv1.2")):  # fmt: skip
        assert (await asyncio.to_thread(handshake, secure.port, version))[0] == spoken
    with pytest.raises(OSError, match=r"(?i)ssl|reset|alert|protocol"):
        await asyncio.to_thread(handshake, secure.port, ssl.TLSVersion.TLSv1_1)


async def test_a_new_certificate_is_served_and_a_broken_one_is_not(
    secure: Running, certificates: Certificates, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    async def served() -> bytes | None:
        return (await asyncio.to_thread(handshake, secure.port, ssl.TLSVersion.TLSv1_3))[1]

    async def looked() -> bool:
        """As ``keep_up`` does it, without its pause."""
        return await asyncio.to_thread(
            lambda: certificates.have_changed() and certificates.reload()
        )

    first = await served()
    assert not await looked()
    make_pair(tmp_path)
    assert await looked()
    second = await served()
    assert second != first
    other = tmp_path / "other"
    other.mkdir()
    make_pair(other)
    (other / "key.pem").replace(pair[1])
    assert not await looked()
    pair[0].write_bytes(b"half a certifi")
    assert not await looked()
    pair[0].unlink()
    assert not await looked()
    assert await served() == second


@pytest.mark.parametrize("broken", ["certificate", "key", "both"])
def test_files_that_are_no_pair_are_refused_with_their_names(tmp_path: Path, broken: str) -> None:
    files = make_pair(tmp_path)
    for file in files:
        if broken in {file.stem, "both"}:
            file.write_text("no PEM")
    with pytest.raises(ValueError, match=r"not a certificate and its key") as caught:
        Certificates(*files)
    assert all(str(file) in str(caught.value) for file in files)


def test_a_key_with_a_password_is_told_and_never_asked_for(tmp_path: Path) -> None:
    certificate, key = make_pair(tmp_path)
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        loaded.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(ValueError, match="without"):
        Certificates(certificate, key)
