"""A recording HTTPS receiver with a certificate authority of its own."""

import datetime as dt
import gzip
import ipaddress
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def make_certificates(folder: Path, address: str = "127.0.0.1") -> None:
    """Write `ca.pem`, `server.pem` and `server.key` for a server at `address`."""
    now = dt.datetime.now(dt.UTC)
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))

    def sign(name: str, public: ec.EllipticCurvePublicKey, *, ca: bool) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test ca")]))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=2))
            .not_valid_after(now + dt.timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()),
                critical=False,
            )
        )
        if not ca:
            names = [x509.IPAddress(ipaddress.ip_address(address)), x509.DNSName("localhost")]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(ca_key, hashes.SHA256())

    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(sign("test ca", ca_key.public_key(), ca=True).public_bytes(pem))
    (folder / "server.pem").write_bytes(sign("sink", key.public_key(), ca=False).public_bytes(pem))
    (folder / "server.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


@dataclass
class Request:
    """One request as it arrived: the path, the headers, the body still packed and unpacked."""

    path: str
    headers: dict[str, str]
    packed: bytes
    body: bytes

    @property
    def summaries(self) -> list[dict[str, Any]]:
        """The JSON array of the body."""
        rows: list[dict[str, Any]] = json.loads(self.body)
        return rows


@dataclass
class Sink:
    """What has arrived, and what to answer: statuses taken one by one, then 204."""

    url: str = ""
    requests: list[Request] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    refuse: bytes = b""
    """Bodies that hold this are answered 422."""

    def summaries(self) -> list[dict[str, Any]]:
        """Every summary that was accepted, in the order of arrival."""
        return [row for request in self.requests for row in request.summaries]


@contextmanager
def https_sink(folder: Path, address: str = "127.0.0.1") -> Iterator[Sink]:
    """Serve until the block ends, on a free port of `address`."""
    sink = Sink()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            packed = self.rfile.read(int(self.headers["Content-Length"]))
            zipped = self.headers.get("Content-Encoding") == "gzip"
            body = gzip.decompress(packed) if zipped else packed
            status = sink.answers.pop(0) if sink.answers else 204
            if sink.refuse and sink.refuse in body:
                status = 422
            if status == 204:
                sink.requests.append(Request(self.path, dict(self.headers), packed, body))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            if status == 503:
                self.send_header("Retry-After", "0")
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    make_certificates(folder, address)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    server = ThreadingHTTPServer((address, 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    sink.url = f"https://{address}:{server.server_port}/summaries"
    thread = threading.Thread(target=server.serve_forever, name="sink")
    thread.start()
    try:
        yield sink
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
