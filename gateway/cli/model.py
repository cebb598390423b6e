"""`forewarn model`: what a bundle says of itself, whether it may be trusted, and its signature."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli import lessons

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

    from models.bundle import Bundle

BUNDLE = click.Path(path_type=Path)


@click.group()
def command() -> None:
    """Show, verify, sign and export model bundles; decide on those that a gateway learned.

    \b
    Examples:
      forewarn model show pump.fwm
      forewarn model show forewarn.toml
      forewarn model rollback forewarn.toml press-1
      forewarn model sign pump.fwm --key plant.pem --new-key
      forewarn model verify pump.fwm --trust plant.pub.pem
      forewarn model export pump.fwm --format onnx --out pump.onnx
    """


for _command in (lessons.promote, lessons.rollback, lessons.baseline):
    command.add_command(_command)


@command.command()
@click.argument("path", type=BUNDLE)
@click.option("--json", "as_json", is_flag=True, help="The whole manifest, or every stage.")
def show(path: Path, *, as_json: bool) -> None:
    """Say what a bundle is: state, promise and why, signals, measured figures, signature.

    Of a gateway's configuration: where the learning of each machine stands, and why.

    \b
    Examples:
      forewarn model show pump.fwm
      forewarn model show forewarn.toml
    """
    if path.suffix == ".toml":
        lessons.show(path, as_json=as_json)
        return
    from models.bundle import read

    held = read(path)
    if as_json:
        told = held.manifest.model_dump(mode="json")
        click.echo(json.dumps(told | {"sha256": held.sha256, "signer": held.signer}))
        return
    _show(held)


@command.command()
@click.argument("path", type=BUNDLE)
@click.option("--trust", multiple=True, type=BUNDLE, help="Public key (PEM) to trust; repeat.")
@click.option("--device", default="cpu", show_default=True, help="Where to replay the vectors.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def verify(path: Path, *, trust: tuple[Path, ...], device: str, as_json: bool) -> None:
    """Check every member, the graphs, the signature, and the numbers on this machine.

    Exit code 0: all good. 1: it must not run here. 2: wrong use.

    \b
    Example:
      forewarn model verify pump.fwm --trust plant.pub.pem
    """
    from models.bundle import read
    from models.errors import BundleError, DeviceError
    from models.runtime import open_session, replay

    keys = [_public(file) for file in trust]
    problem, off, signer = "", float("nan"), None
    try:
        held = read(path, trusted=keys)
        signer = held.signer
        session = open_session(held, device)
        off = replay(session, held.golden, held.manifest.golden_tolerance).worst
        session.close()
    except (BundleError, DeviceError) as error:
        problem = str(error)
    if as_json:
        told = {"good": not problem, "problem": problem, "signer": signer, "off": _number(off)}
        click.echo(json.dumps(told))
    elif problem:
        click.echo(f"refused: {problem}", err=True)
    else:
        signed = f"signed by {signer[:16]}…" if signer else "unsigned"
        where = " and trusted" if keys else ""
        click.echo(
            f"{path}: good, {signed}{where}; golden vectors on {device} use {100 * off:.1f} % of "
            "the tolerance"
        )
    sys.exit(1 if problem else 0)


@command.command()
@click.argument("path", type=BUNDLE)
@click.option("--key", required=True, type=BUNDLE, help="Ed25519 private key (PEM).")
@click.option("--new-key", is_flag=True, help="Make the key first, and its public half beside it.")
@click.option("--out", type=BUNDLE, help="Write here instead of in place.")
def sign(path: Path, *, key: Path, new_key: bool, out: Path | None) -> None:
    """Sign a bundle, in place unless --out is given.

    \b
    Example:
      forewarn model sign pump.fwm --key plant.pem --new-key
    """
    from models import bundle

    private = _make_key(key) if new_key else _private(key)
    held = bundle.sign(path, private, out=out)
    click.echo(f"{out or path}: signed by {held.signer}")


@command.command()
@click.argument("path", type=BUNDLE)
@click.option(
    "--format",
    "form",
    type=click.Choice(["onnx", "onnx-fp32", "tflite"]),
    default="onnx",
    show_default=True,
    help="onnx is the int8 graph.",
)
@click.option("--out", required=True, type=BUNDLE, help="The file to write.")
def export(path: Path, *, form: str, out: Path) -> None:
    """Take the graph out of a bundle, for a model server or an accelerator's own compiler.

    \b
    Example:
      forewarn model export pump.fwm --format onnx --out pump.onnx
    """
    from models.bundle import read

    held = read(path)
    if form == "tflite":
        try:
            from models import tflite
        except ModuleNotFoundError as error:
            raise click.UsageError(
                f"--format tflite needs an extra: pip install 'forewarn[tflite]' ({error.name})"
            ) from error
        data = tflite.export(held)
    else:
        data = held.int8 if form == "onnx" else held.fp32
    try:
        out.write_bytes(data)
    except OSError as error:
        raise click.BadParameter(f"--out {out}: cannot be written: {error.strerror}") from error
    click.echo(f"{out}: {len(data)} bytes, outputs {', '.join(held.manifest.outputs)}")


def _show(held: "Bundle") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    manifest = held.manifest
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in _rows(held):
        table.add_row(f"[bold]{name}[/bold]", value)
    console = Console(highlight=False)
    console.print(table)
    signals = Table("signal", "unit", "low", "high", box=None, title_justify="left")
    for signal in manifest.signals:
        ends = ("" if end is None else f"{end:.6g}" for end in (signal.low, signal.high))
        signals.add_row(escape(signal.name), escape(signal.unit), *ends)
    console.print(signals)


def _rows(held: "Bundle") -> list[tuple[str, str]]:
    from rich.markup import escape

    from models.ewma import Ewma
    from models.strays import Strays

    manifest, window = held.manifest, held.manifest.window
    cell, ewma = "", Ewma.of(manifest)
    if window.period_s and not window.rows:
        every_s = window.hop_cells * window.period_s
        cell = f" of {window.period_s:g} s, judged every {every_s:g} s by a gateway"
    rows = [
        ("bundle", manifest.id),
        ("kind", manifest.kind + (f" of {manifest.asset_class}" if manifest.asset_class else "")),
        ("state", manifest.state),
        ("window", f"{window.cells} {'rows' if window.rows else 'cells'}{cell}"),
        ("features", f"{len(manifest.features)} of {len(manifest.signals)} signals"),
        ("outputs", ", ".join(dict.fromkeys(manifest.outputs + manifest.labels))),
        ("created", f"{manifest.created:%Y-%m-%d %H:%M %Z}"),
        ("signature", held.signer or "unsigned"),
        ("size", f"{len(held.int8) / 1e3:.0f} kB int8, {len(held.fp32) / 1e3:.0f} kB fp32"),
    ]
    limit = manifest.limit
    if limit is not None:
        promise = "supported" if limit.supported else "not supported"
        sure = "" if limit.confidence is None else f" (confidence {limit.confidence:.2g})"
        rows.append(("limit", f"{limit.value:.6g}, {limit.how}"))
        rows.append(("promise", f"{limit.false_alarms} false alarms: {promise}{sure}"))
        if limit.reason:
            rows.append(("why", limit.reason))
        strays = Strays.of(manifest)
        lasts = [f"what lasts counts, over {ewma.cells:.0f} cells"] if ewma else []
        lasts += [f"what strays to one side, over {strays.cells:.0f}"] if strays else []
        rows.append(("verdict", " and ".join(lasts) or "of each window alone"))
    notes = manifest.detail.get("notes", ())
    rows += [("found" if not i else "", str(note)) for i, note in enumerate(notes)]
    for name, held_part in (("measured", manifest.metrics), ("int8 and fp32", manifest.parity)):
        rows += [(name if not i else "", line) for i, line in enumerate(_flat(held_part))]
    return [(name, escape(value)) for name, value in rows]


def _flat(part: dict[str, Any], prefix: str = "") -> list[str]:
    """Numbers of a nested table, one a line; lists are left to --json."""
    out: list[str] = []
    for name, value in part.items():
        if isinstance(value, dict):
            out += _flat(value, f"{prefix}{name}: ")
        elif isinstance(value, float):
            out.append(f"{prefix}{name} {value:.4g}")
        elif not isinstance(value, list):
            out.append(f"{prefix}{name} {value}")
    return out


def _number(value: float) -> float | None:
    return None if value != value else value  # noqa: PLR0124 - NaN has no place in JSON


def _make_key(path: Path) -> "Ed25519PrivateKey":
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    public = key.public_key().public_bytes(
        form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo
    )
    beside = path.with_suffix(".pub.pem")
    try:
        # Never over a key that is there: what it signed could not be signed again.
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "wb") as out:
            out.write(private)
        beside.write_bytes(public)
    except OSError as error:
        raise click.BadParameter(f"--key {path}: cannot be made: {error.strerror}") from error
    click.echo(f"{path}: new private key, keep it safe; {beside}: give this to the gateways")
    return key


def _private(path: Path) -> "Ed25519PrivateKey":
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise click.BadParameter(
            f"--key {path}: must be an Ed25519 private key as PEM without a password ({error}); "
            "make one with --new-key"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise click.BadParameter(f"--key {path}: must be Ed25519, was {type(key).__name__}")
    return key


def _public(path: Path) -> "Ed25519PublicKey":
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise click.BadParameter(
            f"--trust {path}: must be a public key as PEM ({error})"
        ) from error
    if not isinstance(key, Ed25519PublicKey):
        raise click.BadParameter(f"--trust {path}: must be Ed25519, was {type(key).__name__}")
    return key
