"""`forewarn scan`: which units a Modbus link has, and what can be read of them."""

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from protocols.modbus.config import Config
    from protocols.modbus.scan import Found, Probe


_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("url")
@click.option("--units", default=None, help="Such as 1-10,255. [default: 1-4,255; serial 1-32]")
@click.option(
    "--tables",
    default="holding,input,coil,discrete",
    show_default=True,
    help="Which tables, in this order.",
)
@click.option("--addresses", default="0-499", show_default=True, help="First and last address.")
@click.option(
    "--resolution",
    type=click.IntRange(1, 125),
    default=None,
    help="Islands of fewer addresses may be missed; 1 asks each address. "
    "[default: 4; where a table holds anything 2, and 1 near it]",
)
@click.option(
    "--pause-s",
    default=0.02,
    show_default=True,
    help="Shortest pause after an answer; it is as long as the answer took.",
)
@click.option("--timeout-s", default=0.5, show_default=True, help="Longest wait for an answer.")
@click.option(
    "--identify/--no-identify",
    default=True,
    show_default=True,
    help="At last ask each unit that was found who it is (function 43).",
)
@click.option("--baudrate", default=19200, show_default=True)
@click.option("--parity", type=click.Choice(["none", "even", "odd"]), default="even")
@click.option("--stop-bits", type=click.IntRange(1, 2), default=1)
@click.option("--tls-ca", type=_FILE, help="Who may have signed the server's certificate.")
@click.option("--tls-cert", type=_FILE, help="Own certificate, with --tls-key.")
@click.option("--tls-key", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def command(*, url: str, as_json: bool, **options: Any) -> None:
    """Find units and readable ranges behind URL, and print TOML ready to paste.

    It only reads, one question at a time, and rests after each answer as long as it took: a PLC
    notices it less than its own panel. Long blocks are asked first, then every 4th address, then,
    in tables that hold anything, every 2nd, and near it each. What was not asked is named.
    Ctrl-C ends it and prints what was found by then.
    Exit code 0: something answered. 1: nothing did. 2: the URL or an option is wrong.

    \b
    Examples:
      forewarn scan modbus://192.0.2.10
      forewarn scan tcp://192.0.2.10:1502 --units 1 --addresses 0-9999
      forewarn scan rtu:///dev/ttyUSB0 --baudrate 9600 --parity none
      forewarn scan tls://192.0.2.10 --tls-ca plant-ca.pem --tls-cert own.pem --tls-key own.key
    """
    from pydantic import ValidationError

    from gateway.core.errors import LinkError
    from protocols.modbus.address import parse_url
    from protocols.modbus.config import Config
    from protocols.modbus.scan import Found, Probe, as_toml

    if "://" not in url:
        url = f"tcp://{url}"
    try:
        serial = parse_url(url).serial
    except ValueError as error:
        raise click.BadParameter(f"{error}, was {url!r}", param_hint="URL") from None
    units = _numbers(options["units"] or ("1-32" if serial else "1-4,255"), 255, "--units")
    addresses = _numbers(options["addresses"], 65535, "--addresses")
    anything = {"asset": "scan", "signal": "any", "unit_id": 1, "address": "holding:0"}
    names = ("baudrate", "parity", "stop_bits", "tls_ca", "tls_cert", "tls_key")
    try:
        config = Config.model_validate(
            {"kind": "modbus", "id": "scan", "url": url, "signals": [anything]}
            | {name: options[name] for name in names}
        )
    except ValidationError as error:
        raise click.UsageError(str(error)) from None
    found: list[Found] = []
    asked: list[Probe] = []
    began_s = time.monotonic()
    try:
        asyncio.run(
            _scan(config, units, range(addresses[0], addresses[-1] + 1), options, found, asked)
        )
    except LinkError as error:
        # Some devices hang up on a question that they do not like; what they said before counts.
        click.echo(f"forewarn scan: {error}", err=True)
    except KeyboardInterrupt:
        click.echo("forewarn scan: ended by Ctrl-C; this is what was found by then", err=True)
    requests = sum(probe.requests for probe in asked)
    if as_json:
        click.echo(json.dumps({"url": config.url, "requests": requests, "units": _report(found)}))
    elif found:
        click.echo(as_toml(config, found), nl=False)
    for unit in found:
        for note in unit.notes:
            click.echo(f"unit {unit.unit}: {note}", err=True)
    if asked:
        took_s = time.monotonic() - began_s
        click.echo(f"{url}: asked {requests:,} questions in {took_s:.1f} s", err=True)
    if asked and not found:
        look = (
            "--baudrate, --parity, A and B swapped"
            if serial
            else "--units; there may be others, up to 255"
        )
        click.echo(f"{url}: none of {len(units)} units answered; see {look}", err=True)
    sys.exit(0 if found else 1)


def _numbers(text: str, most: int, option: str) -> list[int]:
    """Read `1-10,255`."""
    numbers: list[int] = []
    try:
        for part in text.split(","):
            first, _, last = part.partition("-")
            numbers += range(int(first), int(last or first) + 1)
    except ValueError:
        numbers = []
    if not numbers or not 0 <= min(numbers) <= max(numbers) <= most:
        raise click.BadParameter(f"must be such as 1-10,{most}, was {text!r}", param_hint=option)
    return numbers


async def _scan(
    config: "Config",
    units: list[int],
    addresses: range,
    options: dict[str, Any],
    found: list["Found"],
    asked: list["Probe"],
) -> None:
    """Fill `found`, and `asked` with the one that asks."""
    from random import Random

    import structlog
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    from gateway.core.clock import SystemClock
    from gateway.core.meter import SourceMeter
    from gateway.core.signals import SignalTable
    from gateway.core.source import SourceContext
    from protocols.modbus.address import Table
    from protocols.modbus.identity import identify
    from protocols.modbus.scan import open_probe, scan

    try:
        tables = [Table[name.strip().upper()] for name in options["tables"].split(",")]
    except KeyError as error:
        known = ", ".join(table.name.lower() for table in Table)
        raise click.BadParameter(
            f"must be of {known}, was {error.args[0].lower()!r}", param_hint="--tables"
        ) from None
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed} questions, about {task.fields[left_s]:.0f} s left"),
        console=Console(stderr=True),
        transient=True,
    )
    with tempfile.TemporaryDirectory() as folder, bar:
        task = bar.add_task("connecting", total=None, left_s=0)
        context = SourceContext(
            clock=SystemClock(),
            random=Random(),
            log=structlog.get_logger(),
            signals=SignalTable(),
            meter=SourceMeter("scan", "modbus"),
            data_dir=Path(folder),
            report=lambda _condition: None,
        )
        async with open_probe(
            config, context, timeout_s=options["timeout_s"], pause_s=options["pause_s"]
        ) as probe:
            asked.append(probe)
            began_s = time.monotonic()

            def tell(doing: str, left: int) -> None:
                each_s = (time.monotonic() - began_s) / max(probe.requests, 1)
                done = probe.requests
                bar.update(
                    task, description=doing, completed=done, total=done + left, left_s=left * each_s
                )

            resolution = options["resolution"]
            await scan(probe, units, tables, addresses, tell, found, resolution=resolution)
        if options["identify"]:
            bar.update(task, description="asking who they are", left_s=0)
            said = await identify(config, [unit.unit for unit in found], options["timeout_s"])
            for unit in found:
                unit.identity = said.get(unit.unit, "")


def _report(units: list["Found"]) -> list[dict[str, Any]]:
    return [
        {
            "unit": unit.unit,
            "identity": unit.identity,
            "ranges": [
                {"table": r.table.name.lower(), "start": r.start, "count": r.count}
                for r in unit.ranges
            ],
            "notes": unit.notes,
        }
        for unit in units
    ]
