"""Certificates made for a test, and a raw peer that speaks TLS."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.raw import Ended, RawPeer
from tests.support.waiting import DEADLINE_SECONDS


@dataclass(frozen=True)
class Files:
    """Where a certificate and its key lie."""

    cert: Path
    key: Path

    @property
    def settings(self) -> dict[str, object]:
        return {"tls.cert_file": self.cert, "tls.key_file": self.key}

    def take(self, other: Files) -> None:
        """Put another certificate in this one's place, as tools that renew do: by renaming."""
        for mine, its in ((self.cert, other.cert), (self.key, other.key)):
            new = mine.with_suffix(".new")
            new.write_bytes(its.read_bytes())
            new.replace(mine)


def make(folder: Path, name: str = "served", *, days: int = 30, password: bytes | None = None) -> Files:
    """Make a self-signed certificate for this machine, valid from a year ago for `days` from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = datetime.now(UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=365))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = Files(folder / f"{name}.pem", folder / f"{name}.key")
    files.cert.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    files.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption(),
        )
    )
    return files


def trusting(*certificates: Files) -> ssl.SSLContext:
    """What a client that trusts these certificates connects with."""
    context = ssl.create_default_context()
    for one in certificates:
        context.load_verify_locations(one.cert)
    return context


class TlsPeer(RawPeer):
    """A raw peer behind TLS, that takes from its socket only what a test reads."""

    def __init__(self, port: int, context: ssl.SSLContext, *, receive_buffer: int = 0) -> None:
        super().__init__(port, receive_buffer=receive_buffer)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")

    async def handshake(self) -> TlsPeer:
        """Greet.

        Raises:
            ssl.SSLError: The gateway, or its certificate, is refused.
            Ended: The gateway closed the connection instead.
        """
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                self._incoming.write(await super()._receive())
            else:
                await self._flush()
                return self

    async def send_bytes(self, data: bytes) -> None:
        self.tls.write(data)
        await self._flush()

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await super().send_bytes(self._outgoing.read())

    async def _receive(self, within: float = DEADLINE_SECONDS) -> bytes:
        while True:
            try:
                if found := self.tls.read(1 << 16):
                    return found
                raise Ended
            except ssl.SSLZeroReturnError:
                raise Ended from None
            except ssl.SSLWantReadError:
                self._incoming.write(await super()._receive(within))


async def served_name(port: int, *trusted: Files) -> str:
    """Return the name in the certificate that a new connection gets."""
    peer = TlsPeer(port, trusting(*trusted))
    try:
        await peer.handshake()
        der = peer.tls.getpeercert(binary_form=True)
    finally:
        peer.close()
    assert der is not None
    return x509.load_der_x509_certificate(der).subject.rfc4514_string().removeprefix("CN=")
