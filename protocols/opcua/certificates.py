"""Certificates on disk: our own, made on first use, and those of servers that a person trusts."""

import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.core.errors import ConfigError, LinkRefused

OWN_NAME = "own.der"
OWN_KEY_NAME = "own.key.pem"
REJECTED_NAME = "rejected"
OWN_LIFETIME = timedelta(days=5 * 365)
KEY_BITS = 2048
FILE_BYTES_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the gateway is to a server.

    Attributes:
        certificate: Its certificate.
        key_pem: The private key of it.
        application_uri: As it stands in the certificate, and must be said to the server.
    """

    certificate: x509.Certificate
    key_pem: bytes
    application_uri: str

    @property
    def certificate_der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)


def own_identity(folder: Path, source_id: str, application_uri: str, now: datetime) -> Identity:
    """The gateway's own certificate in `folder`; a new one where there is none that is of use.

    One that has ended, or speaks of another ApplicationURI than the configuration, is of no use:
    no server would take it.
    """
    path, key_path = folder / OWN_NAME, folder / OWN_KEY_NAME
    if path.exists() and key_path.exists():
        certificate = read_certificate(path)
        uris = application_uris(certificate)
        wanted = application_uri or (uris[0] if uris else "")
        if wanted in uris and now < certificate.not_valid_after_utc:
            return Identity(certificate, key_path.read_bytes(), wanted)
    uri = application_uri or f"urn:{socket.gethostname()}:forewarn:{source_id}".replace(" ", "-")
    key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    key_pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    certificate = _self_signed(key, uri, now)
    folder.mkdir(parents=True, exist_ok=True)
    key_path.unlink(missing_ok=True)
    key_path.touch(mode=0o600)
    key_path.write_bytes(key_pem)
    path.write_bytes(certificate.public_bytes(serialization.Encoding.DER))
    return Identity(certificate, key_pem, uri)


def given_identity(path: Path, key_pem: bytes, application_uri: str) -> Identity:
    """A certificate that the plant issued for the gateway.

    Raises:
        ConfigError: It cannot be read, has no ApplicationURI, or has another than configured.
    """
    certificate = read_certificate(path)
    uris = application_uris(certificate)
    if not uris:
        raise ConfigError(f"{path}: has no ApplicationURI (a URI among its alternative names)")
    if application_uri and application_uri not in uris:
        raise ConfigError(f"application_uri: must be the certificate's, {uris[0]}")
    return Identity(certificate, key_pem, application_uri or uris[0])


def _self_signed(key: rsa.RSAPrivateKey, uri: str, now: datetime) -> x509.Certificate:
    """An application instance certificate as OPC UA Part 6, 6.2.2 wants it."""
    host = socket.gethostname()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Forewarn@{host}"[:64])])
    public = key.public_key()
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=True,
        key_encipherment=True,
        data_encipherment=True,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # A server whose clock is behind takes it too.
        .not_valid_after(now + OWN_LIFETIME)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri), x509.DNSName(host)]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )


def read_certificate(path: Path) -> x509.Certificate:
    """Read a PEM or DER file.

    Raises:
        ConfigError: It cannot be read, or is neither.
    """
    try:
        data = path.read_bytes()[:FILE_BYTES_MAX]
        if data.lstrip().startswith(b"-----"):
            return x509.load_pem_x509_certificate(data)
        return x509.load_der_x509_certificate(data)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: no certificate can be read: {error}") from error


def first_certificate(blob: bytes) -> x509.Certificate:
    """The server's own certificate of the chain that it sends.

    Raises:
        LinkRefused: There is none, or it cannot be read.
    """
    if len(blob) < 4 or blob[:2] != b"\x30\x82":
        raise LinkRefused("the server sends no certificate; it cannot be told from an impostor")
    length = 4 + int.from_bytes(blob[2:4], "big")
    try:
        return x509.load_der_x509_certificate(blob[:length])
    except ValueError as error:
        raise LinkRefused(f"the server's certificate cannot be read: {error}") from error


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 in pairs, as servers and browsers show it."""
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def application_uris(certificate: x509.Certificate) -> list[str]:
    """The URIs among its alternative names."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return []
    return names.value.get_values_for_type(x509.UniformResourceIdentifier)


def pin(certificate: x509.Certificate, folder: Path) -> Path:
    """Trust exactly this certificate from now on; give the file that says so."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{certificate.fingerprint(hashes.SHA256()).hex()}.der"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.DER))
    return path


def check_server(
    certificate: x509.Certificate, *, url: str, server_uri: str, folder: Path, now: datetime
) -> None:
    """Let pass a server that a person trusts, and none else.

    Trusted is a certificate that lies in `folder`, or that one lying there issued; a revocation
    list lying there is heeded.

    Raises:
        LinkRefused: With what to do.
    """
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise LinkRefused(
            f"{url}: the server's certificate holds from "
            f"{certificate.not_valid_before_utc:%Y-%m-%d} to "
            f"{certificate.not_valid_after_utc:%Y-%m-%d}; renew it there, or set the clock"
        )
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < KEY_BITS:
        raise LinkRefused(f"{url}: the server's key has {key.key_size} bits; {KEY_BITS} are needed")
    trusted = list(_certificates(folder))
    if any(certificate == known for known in trusted):
        return
    issuers = [known for known in trusted if _issued(certificate, known, now)]
    if not issuers:
        raise LinkRefused(
            f"{url}: the server's certificate is not trusted; compare its SHA-256 "
            f"{fingerprint(certificate)} with the server's own, then run: forewarn trust {url}"
        )
    if _revoked(certificate, issuers, folder):
        raise LinkRefused(f"{url}: the server's certificate was revoked by its issuer")
    if server_uri not in application_uris(certificate):
        raise LinkRefused(
            f"{url}: the server calls itself {server_uri}, its certificate "
            f"{', '.join(application_uris(certificate)) or 'nothing'}; "
            f"pin it by: forewarn trust {url}"
        )


def _certificates(folder: Path) -> Iterator[x509.Certificate]:
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in (".der", ".pem", ".crt", ".cer"):
            yield read_certificate(path)


def _issued(certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> bool:
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints)
        if not constraints.value.ca or not issuer.not_valid_before_utc <= now:
            return False
        certificate.verify_directly_issued_by(issuer)
    except (x509.ExtensionNotFound, ValueError, TypeError, InvalidSignature):
        return False
    return now <= issuer.not_valid_after_utc


def _revoked(
    certificate: x509.Certificate, issuers: Sequence[x509.Certificate], folder: Path
) -> bool:
    for path in sorted(folder.glob("*.crl")):
        data = path.read_bytes()[:FILE_BYTES_MAX]
        try:
            pem = data.lstrip().startswith(b"-----")
            listed = x509.load_pem_x509_crl(data) if pem else x509.load_der_x509_crl(data)
        except ValueError as error:
            raise ConfigError(f"{path}: no revocation list can be read: {error}") from error
        if any(listed.issuer == issuer.subject for issuer in issuers):
            entry = listed.get_revoked_certificate_by_serial_number(certificate.serial_number)
            if entry is not None:
                return True
    return False


def utc(t_ns: int) -> datetime:
    """UTC ns as certificates count."""
    return datetime.fromtimestamp(t_ns / 1e9, UTC)
