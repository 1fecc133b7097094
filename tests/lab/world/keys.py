"""The lab's own certificate authority and the DKIM keys of its senders."""

import base64
import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8
RAW = serialization.Encoding.Raw
NONE = serialization.NoEncryption()
DER = serialization.Encoding.DER
SPKI = serialization.PublicFormat.SubjectPublicKeyInfo


@dataclass(frozen=True)
class DkimKey:
    """A signing key: where its PEM lies, and the TXT record to publish at `selector._domainkey.domain`."""

    domain: str
    selector: str
    path: Path
    record: str


class Authority:
    """A certificate authority that lives as long as the lab."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca_file = folder / "ca.pem"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail lab CA")])
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        builder = self._builder(self._name, self._key.public_key(), 0, 30)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        certificate = builder.add_extension(usage, critical=True).sign(self._key, hashes.SHA256())
        self.ca_file.write_bytes(certificate.public_bytes(PEM))

    def _builder(
        self, name: x509.Name, public: ec.EllipticCurvePublicKey, first_day: int, last_day: int
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=first_day, hours=-1))
            .not_valid_after(now + datetime.timedelta(days=last_day))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )

    def certificate(
        self, file: str, names: Sequence[str], ips: Sequence[str] = (), first_day: int = 0, last_day: int = 30
    ) -> Path:
        """Writes FILE.pem with key, certificate and chain; days are counted from now, so -2, -1 has
        expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        alternatives = [x509.DNSName(n) for n in names]
        addresses = [x509.IPAddress(ipaddress.ip_address(ip)) for ip in ips]
        certificate = (
            self._builder(subject, key.public_key(), first_day, last_day)
            .add_extension(x509.SubjectAlternativeName([*alternatives, *addresses]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        path = self.folder / f"{file}.pem"
        private = key.private_bytes(PEM, PKCS8, NONE)
        path.write_bytes(private + certificate.public_bytes(PEM) + self.ca_file.read_bytes())
        return path


def rsa_record(key: rsa.RSAPrivateKey) -> str:
    """RFC 6376 section 3.6.1: the record of an RSA key."""
    return f"v=DKIM1; k=rsa; p={base64.b64encode(key.public_key().public_bytes(DER, SPKI)).decode()}"


def _write_private(path: Path, pem: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(pem)


def rsa_key(folder: Path, domain: str, selector: str) -> DkimKey:
    """A new 2048-bit RSA key in DOMAIN.SELECTOR.pem."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    path = folder / f"{domain}.{selector}.pem"
    _write_private(path, key.private_bytes(PEM, serialization.PrivateFormat.TraditionalOpenSSL, NONE))
    return DkimKey(domain, selector, path, rsa_record(key))


def ed25519_key(folder: Path, domain: str, selector: str) -> DkimKey:
    """A new Ed25519 key (RFC 8463) in DOMAIN.SELECTOR.pem, PKCS #8."""
    key = ed25519.Ed25519PrivateKey.generate()
    path = folder / f"{domain}.{selector}.pem"
    _write_private(path, key.private_bytes(PEM, PKCS8, NONE))
    public = key.public_key().public_bytes(RAW, serialization.PublicFormat.Raw)
    return DkimKey(domain, selector, path, f"v=DKIM1; k=ed25519; p={base64.b64encode(public).decode()}")
