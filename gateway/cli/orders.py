"""Shows Modbus registers under each type and byte order, for `forewarn doctor --orders`."""

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.borrowed import context_for

if TYPE_CHECKING:
    from gateway.config import Config
    from protocols.modbus.orders import Reading


def show_orders(
    config: "Config", source_id: str, address: str, unit_id: int | None, *, as_json: bool
) -> None:
    """Show some registers under each type and byte order."""
    from gateway.core.errors import GatewayError
    from protocols.modbus.address import parse_address
    from protocols.modbus.config import Config as Modbus

    source = next((s for s in config.sources if s.id == source_id), None)
    if not isinstance(source, Modbus):
        known = ", ".join(s.id for s in config.sources if isinstance(s, Modbus)) or "there is none"
        raise click.BadParameter(
            f"SOURCE must be a Modbus source ({known}), was {source_id!r}", param_hint="--orders"
        )
    try:
        place = parse_address(address)
    except ValueError as error:
        raise click.BadParameter(
            f"ADDRESS {error}, was {address!r}", param_hint="--orders"
        ) from None
    if place.table.bits:
        raise click.BadParameter("ADDRESS must be a register", param_hint="--orders")
    unit = source.unit_id if unit_id is None else unit_id
    try:
        wire, why, found = asyncio.run(_read_orders(source, unit, address))
    except GatewayError as error:
        click.echo(f"forewarn doctor: {error}", err=True)
        sys.exit(1)
    if not wire:
        click.echo(f"unit {unit}, {place}: nothing to read ({why})", err=True)
        sys.exit(1)
    if as_json:
        rows = [reading.as_table() for reading in found]
        click.echo(json.dumps({"unit": unit, "bytes": wire.hex(" "), "readings": rows}))
    else:
        _show_readings(f"unit {unit}, {place}: {wire.hex(' ', 2)}", wire, found)


async def _read_orders(source: Any, unit: int, address: str) -> tuple[bytes, str, list["Reading"]]:
    from protocols.modbus.address import parse_address
    from protocols.modbus.orders import readings
    from protocols.modbus.scan import open_probe, read_registers

    place = parse_address(address)
    with tempfile.TemporaryDirectory() as folder:
        context = context_for(source.id, source.kind, Path(folder))
        async with open_probe(
            source, context, timeout_s=source.timeout_s, pause_s=source.turnaround_s
        ) as probe:
            wire, why = await read_registers(probe, unit, place.table, place.start)
    return wire, why, readings(wire) if wire else []


def _show_readings(title: str, wire: bytes, found: list["Reading"]) -> None:
    """A row a type, a column an order; what machines usually show is marked."""
    from rich.console import Console
    from rich.table import Table

    from protocols.modbus.orders import text_of
    from protocols.modbus.values import ORDER_NAMES, letters

    heads = [f"{order}\n{letters(order, 4)}" for order in ORDER_NAMES]
    table = Table("type", *heads, title=title, title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for name in dict.fromkeys(reading.type for reading in found):
        cells = {reading.order: reading for reading in found if reading.type == name}
        table.add_row(name, *(_cell(cells.get(order)) for order in ORDER_NAMES))
    table.add_row("string", text_of(wire, "big"), "", "", text_of(wire, "byte_swap"))
    console = Console()
    console.print(table)
    console.print(f"bits 15 to 0 of the first register: {int.from_bytes(wire[:2], 'big'):016b}")
    if any(reading.likely for reading in found):
        console.print("* a number that machines show; give its type and order to the signal")


def _cell(reading: "Reading | None") -> str:
    if reading is None:
        return ""
    if reading.value is None:
        return "[dim]no number[/]"
    whole = reading.value.is_integer() and abs(reading.value) < 2**53
    text = f"{reading.value:.0f}" if whole else f"{reading.value:.7g}"
    return f"[bold green]{text} *[/]" if reading.likely else f"[dim]{text}[/]"
