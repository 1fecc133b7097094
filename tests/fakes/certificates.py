"""A certification authority for tests: good, expired and wrong-name certificates, made once a run."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_NOW = datetime.datetime.now(datetime.UTC)
_DAY = datetime.timedelta(days=1)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@cache
def _authority() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name("Mailcanary test authority"))
        .issuer_name(_name("Mailcanary test authority"))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(_NOW - 900 * _DAY)
        .not_valid_after(_NOW + 900 * _DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return key, certificate


def _issue(names: list[str], expired: bool) -> Path:
    """A PEM file with key and certificate for these host names and addresses."""
    authority_key, authority = _authority()
    key = ec.generate_private_key(ec.SECP256R1())
    alternatives: list[x509.GeneralName] = []
    for name in names:
        try:
            alternatives.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            alternatives.append(x509.DNSName(name))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name(names[0]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOW - 400 * _DAY)
        .not_valid_after(_NOW + (-_DAY if expired else 400 * _DAY))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
        )
        .sign(authority_key, hashes.SHA256())
    )
    path = Path(mkdtemp(prefix="mailcanary-test-")) / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path


@cache
def server_context(kind: str = "good") -> ssl.SSLContext:
    """kind: good (localhost, 127.0.0.1, ::1, mx*.example.net), expired, wrong-name."""
    names = {"wrong-name": ["other.example.org"]}.get(
        kind, ["localhost", "127.0.0.1", "::1", "mx.example.net", "mx1.example.net", "mx2.example.net"]
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_issue(names, kind == "expired"))
    return context


@cache
def client_context() -> ssl.SSLContext:
    """Trusts the test authority and nobody else."""
    pem = _authority()[1].public_bytes(serialization.Encoding.PEM).decode("ascii")
    return ssl.create_default_context(cadata=pem)


@cache
def server_context_for(*names: str) -> ssl.SSLContext:
    """A good certificate of the test authority for these names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_issue(list(names), expired=False))
    return context


def authority_pem() -> bytes:
    """The certificate of the test authority."""
    return _authority()[1].public_bytes(serialization.Encoding.PEM)
