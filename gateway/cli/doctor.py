"""`forewarn doctor`: what is wrong with an installation, and what to do about it."""

import asyncio
import errno
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from gateway.cli.borrowed import borrowed, came, context_for, errors_of, heard

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.core.secret import SecretRef
    from gateway.core.source import SourceConfig

FREE_GB_MIN = 1.0
"""Less than this on the data disk is worth a word whatever the log may take."""

EARLIEST_S = 1_767_225_600
"""2026-01-01 UTC: this program was not there before, so no right clock shows less."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    check: str
    state: Literal["ok", "warning", "bad"]
    text: str
    todo: str = ""


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--orders",
    nargs=2,
    metavar="SOURCE ADDRESS",
    default=None,
    help="Show Modbus registers from ADDRESS (holding:100) under each type and byte order.",
)
@click.option(
    "--listen",
    metavar="SOURCE",
    default=None,
    help="Show the bytes of SOURCE as they come, and the samples and errors they make.",
)
@click.option("--unit-id", type=click.IntRange(0, 255), help="With --orders: which unit.")
@click.option(
    "--timeout-s",
    default=10.0,
    show_default=True,
    help="How long each source may take to answer; with --listen, how long to listen.",
)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def command(
    *,
    config: Path,
    orders: tuple[str, str] | None,
    listen: str | None,
    unit_id: int | None,
    timeout_s: float,
    as_json: bool,
) -> None:
    """Look for what is wrong with the installation that CONFIG describes.

    Checks the file, its secrets, the data directory, the clock, that InfluxDB lets us in, and that
    every source answers.
    Nothing is stored and nothing is written to a machine.
    Exit code 0: nothing bad. 1: something is. 2: the file is wrong.

    \b
    Examples:
      forewarn doctor forewarn.toml
      forewarn doctor forewarn.toml --orders compressor-plc holding:100
      forewarn doctor forewarn.toml --listen scale
    """
    from gateway.cli.listen import show_wire
    from gateway.cli.orders import show_orders
    from gateway.config import load

    settings = load(config)
    if orders is not None:
        show_orders(settings, orders[0], orders[1], unit_id, as_json=as_json)
        return
    if listen is not None:
        show_wire(settings, listen, timeout_s, as_json=as_json)
        return
    findings = [
        Finding("configuration", "ok", f"{config} is valid"),
        *check_secrets(settings),
        *check_models(settings),
        *check_data_dir(settings),
        check_clock(time.time(), config.stat().st_mtime),
        *check_influx(settings),
        *asyncio.run(_check_sources(settings, timeout_s)),
    ]
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], ensure_ascii=False))
    else:
        _show(findings)
    sys.exit(1 if any(finding.state == "bad" for finding in findings) else 0)


def check_models(config: "Config") -> Iterator[Finding]:
    """Every model is there, whole, and for the signals and units of its asset."""
    from gateway.cli.check import fit
    from gateway.core.errors import ConfigError, folded

    try:
        fit(config)
    except ConfigError as error:
        for told in folded(error.faults):
            yield Finding("models", "bad", told, "the gateway would not start by this file")
        return
    wanted = {path for asset in config.settings.asset for path in (asset.bundle, *asset.bundles)}
    if wanted := wanted - {None}:
        yield Finding("models", "ok", f"{len(wanted)} fit their assets")


def check_secrets(config: "Config") -> Iterator[Finding]:
    """Every secret that the file refers to can be read."""
    from gateway.core.errors import ConfigError

    for secret in _secrets((config.settings, config.sources)):
        try:
            secret.reveal()
        except ConfigError as error:
            yield Finding("secret", "bad", str(error), "set it for the user that runs forewarn")
        else:
            yield Finding("secret", "ok", f"{secret.reference} can be read")


def _secrets(value: Any) -> Iterator["SecretRef"]:
    """Every reference to a secret within models, tuples and dicts."""
    from pydantic import BaseModel

    from gateway.core.secret import SecretRef

    if isinstance(value, SecretRef):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _secrets(getattr(value, name))
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _secrets(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _secrets(inner)


def check_data_dir(config: "Config") -> Iterator[Finding]:
    """The data directory can be written, and its disk has room for the log."""
    folder = config.data_dir
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"forewarn")
            file.flush()
    except OSError as error:
        yield Finding(
            "data_dir",
            "bad",
            f"{folder} cannot be written: {error}",
            "make room there"
            if error.errno == errno.ENOSPC
            else "give its folder to the user that runs forewarn, or set gateway.data_dir",
        )
        return
    yield Finding("data_dir", "ok", f"{folder} can be written")
    free_gb = shutil.disk_usage(there).free / 1e9
    used_gb = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e9
    wanted_gb = config.settings.store.gb_max
    if free_gb < FREE_GB_MIN:
        yield Finding(
            "disk", "bad", f"{free_gb:.2f} GB free on the disk of {folder}", "make room there"
        )
    elif free_gb + used_gb < wanted_gb:
        yield Finding(
            "disk",
            "warning",
            f"{free_gb:.1f} GB free, but the log may grow to {wanted_gb:g} GB (has {used_gb:.1f})",
            "lower store.gb_max or use a larger disk",
        )
    else:
        yield Finding("disk", "ok", f"{free_gb:.1f} GB free")


def check_clock(now_s: float, config_changed_s: float) -> Finding:
    """The wall clock is not from before this program, nor before its configuration was written.

    Args:
        now_s, config_changed_s: UTC seconds.
    """
    shown = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now_s))
    todo = "set the clock, and let it be kept by NTP (timedatectl set-ntp true)"
    if now_s < EARLIEST_S:
        return Finding("clock", "bad", f"it shows {shown} UTC, long ago", todo)
    if now_s < config_changed_s - 60:
        return Finding("clock", "bad", f"it shows {shown} UTC, before CONFIG was changed", todo)
    return Finding("clock", "ok", f"it shows {shown} UTC")


def check_influx(config: "Config") -> Iterator[Finding]:
    """InfluxDB answers, knows the database, and takes our token. Asked by a line that is a comment.

    A ping would not do: it says yes where every write is refused.
    """
    from gateway.core.errors import ConfigError
    from gateway.store.influx_link import open_link

    if config.settings.influx is None:
        return
    where = f"{config.settings.influx.url}, {config.settings.influx.database}"
    try:
        link = open_link(config.settings.influx)
    except ConfigError:
        return  # A secret that cannot be read has been told of already.
    try:
        answer = link.write(b"# forewarn doctor\n")
    finally:
        link.close()
    todo = {
        0: "is it running, and is influx.url right?",
        401: "correct influx.token (or user and password)",
        403: "give the token the right to write there",
        404: f"run forewarn influx setup {config.path.name}",
    }
    if answer.status in todo or answer.status >= 500:
        said = f"{where}: {answer.status or 'no answer'} {answer.text[:200]}".rstrip()
        yield Finding("influx", "bad", said, todo.get(answer.status, "see its own log"))
    else:
        yield Finding("influx", "ok", f"{where}: lets us in")


async def _check_sources(config: "Config", timeout_s: float) -> list[Finding]:
    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(
                _check_source(source, timeout_s, config.source_dir(source.id)),
                name=f"doctor:{source.id}",
            )
            for source in config.sources
        ]
    return [task.result() for task in running]


async def _check_source(source: "SourceConfig", timeout_s: float, kept: Path) -> Finding:
    """Whether the source opens and gives anything at all."""
    import protocols
    from gateway.cli.check import counted
    from gateway.core.batch import Batch, Quality
    from gateway.core.errors import GatewayError, LinkRefused

    name = f"source {source.id}"
    todo = "check its address, its cable, and that no other program holds the port"
    with borrowed(kept) as folder:
        context = context_for(source.id, source.kind, folder)
        try:
            async with (
                asyncio.timeout(timeout_s),
                protocols.as_source(source).open(context) as session,
            ):
                item = await session.read()
        except TimeoutError:
            why = f"no sample within {timeout_s:g} s ({heard(context)})"
            if came(context):
                todo = f"see what comes and what becomes of it: --listen {source.id}"
            return Finding(name, "bad", why, todo)
        except LinkRefused as error:
            return Finding(name, "bad", str(error), "one of the two ends must be told of the other")
        except GatewayError as error:
            return Finding(name, "bad", str(error), todo)
    if context.meter.quarantined:
        refused = "; ".join(f"{k}: {v}" for k, v in sorted(context.meter.quarantined.items())[:3])
        n = len(context.meter.quarantined)
        return Finding(name, "warning", f"{n} signals refused: {refused}", "mend their addresses")
    if isinstance(item, Batch) and (bad := int((item.quality == Quality.BAD).sum())):
        counts = f" ({', '.join(errors_of(context))})" if context.meter.errors else ""
        why = f"{bad} of {len(item)} samples {'is' if bad == 1 else 'are'} BAD{counts}"
        return Finding(name, "warning", why, f"see what came and became BAD: --listen {source.id}")
    return Finding(name, "ok", f"answers; {counted(len(item), 'sample')} at once")


def _show(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    color = {"ok": "green", "warning": "yellow", "bad": "red"}
    table = Table("check", "", "what", "what to do")
    for column in table.columns:
        column.overflow = "fold"  # An address or a fingerprint is there to be read to its end.
    for finding in findings:
        state = f"[{color[finding.state]}]{finding.state}"
        table.add_row(finding.check, state, escape(finding.text), escape(finding.todo))
    Console().print(table)
