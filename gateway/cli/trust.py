"""`forewarn trust`: whose certificate is that, and may the gateway believe it?"""

import asyncio
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.sentences import say

if TYPE_CHECKING:
    from cryptography import x509

TIMEOUT_S = 10.0


@click.command()
@click.argument("url")
@click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path),
    help="Pin for every source of this file with this URL; forewarn.toml here if there is one.",
)
@click.option(
    "--into", type=click.Path(path_type=Path, file_okay=False), help="Pin in this folder instead."
)
@click.option("--yes", is_flag=True, help="Pin without asking; for scripts that know the server.")
@click.option("--json", "as_json", is_flag=True, help="Show it machine-readably; pins with --yes.")
def command(*, url: str, config: Path | None, into: Path | None, yes: bool, as_json: bool) -> None:
    """Show the certificate of the OPC UA server at URL, and pin it if you say so.

    Compare the SHA-256 with what the server itself shows before you say yes: that is the whole
    point. Exit code 0: pinned, or shown with --json. 1: not pinned.

    \b
    Examples:
      forewarn trust opc.tcp://10.0.0.5:4840
      forewarn trust opc.tcp://10.0.0.5:4840 --config plant.toml --yes
      forewarn trust opc.tcp://10.0.0.5:4840 --into data/sources/press-1/trusted
    """
    from protocols.opcua.certificates import application_uris, fingerprint, pin

    certificate, offers = asyncio.run(_fetch(url))
    folders = [into] if into else _folders(url, config)
    shown = {
        "subject": certificate.subject.rfc4514_string(),
        "application_uri": ", ".join(application_uris(certificate)),
        "issuer": certificate.issuer.rfc4514_string(),
        "not_before": f"{certificate.not_valid_before_utc:%Y-%m-%d}",
        "not_after": f"{certificate.not_valid_after_utc:%Y-%m-%d}",
        "sha256": fingerprint(certificate),
        "offers": ", ".join(offers),
    }
    if as_json:
        click.echo(json.dumps({**shown, "folders": [str(f) for f in folders]}, ensure_ascii=False))
        if not yes:
            return
    else:
        for name, text in shown.items():
            click.echo(f"{name.replace('_', ' '):<16} {text}")
    if not folders:
        say(
            f"nothing pinned: no source of a configuration has the URL {url}; "
            "name the file by --config or a folder by --into",
            err=True,
        )
        sys.exit(1)
    if not yes and not click.confirm("Does the server itself show this SHA-256, and trust it?"):
        say(
            "nothing pinned: a source that asks for security does not connect to "
            f"{url} until this certificate is. Look up the SHA-256 in the server's own tool or "
            "display: if it is the same, run this again and answer y; if not, something else "
            "answers at that address: find out what",
            err=True,
        )
        sys.exit(1)
    for folder in folders:
        path = pin(certificate, folder)
        if not as_json:
            click.echo(f"pinned {path}")


async def _fetch(url: str) -> "tuple[x509.Certificate, list[str]]":
    """The server's certificate, and what security it offers."""
    from gateway.core.errors import LinkRefused
    from protocols.opcua.certificates import first_certificate
    from protocols.opcua.discover import endpoints_of
    from protocols.opcua.security import offered

    endpoints = await endpoints_of(url, timeout_s=TIMEOUT_S)
    blobs = [bytes(endpoint.ServerCertificate or b"") for endpoint in endpoints]
    blob = next((blob for blob in blobs if blob), b"")
    if not blob:
        raise LinkRefused(f"{url}: the server has no certificate; it offers {offered(endpoints)}")
    return first_certificate(blob), offered(endpoints)


def _folders(url: str, config: Path | None) -> list[Path]:
    """The trust folder of each source of the file that has the URL; their own certificates too.

    The server will ask the same question of the gateway: what it must accept is made and shown.
    """
    from gateway.config import load
    from protocols.opcua import Config
    from protocols.opcua.certificates import fingerprint, own_identity

    path = config or Path("forewarn.toml")
    if config is None and not path.exists():
        return []
    settings = load(path)
    folders = []
    for source in settings.sources:
        if isinstance(source, Config) and source.url.rstrip("/") == url.rstrip("/"):
            folder = settings.source_dir(source.id)
            folders.append(folder / source.trust_dir)
            if source.security_policy != "None" and not source.certificate:
                own = own_identity(folder, source.id, source.application_uri, datetime.now(UTC))
                click.echo(
                    f"accept at the server   {own.application_uri}\n"
                    f"  with SHA-256         {fingerprint(own.certificate)}",
                    err=True,
                )
    return folders
