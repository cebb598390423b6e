"""`forewarn browse`: what does this OPC UA server have, as a tree and as TOML to paste?"""

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from protocols.opcua import Config
    from protocols.opcua.found import Found

VALUE_CHARS = 40


@click.command()
@click.argument("url")
@click.option("--under", default="", help="Node id or browse path to start from.")
@click.option("--depth", default=10, show_default=True, help="Levels below the start.")
@click.option("--limit", default=5_000, show_default=True, help="Nodes at most.")
@click.option(
    "--security-policy",
    default="None",
    show_default=True,
    help="None shows what is there to everyone on the network.",
)
@click.option("--security-mode", default="SignAndEncrypt", show_default=True)
@click.option("--username", default="", help="Anonymous if absent.")
@click.option("--password", default=None, help="By reference: env:NAME or file:/path.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Source folder with certificates: data/sources/ID. Needed with a security policy.",
)
@click.option("--toml", "only_toml", is_flag=True, help="Print the TOML only.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def command(*, url: str, only_toml: bool, as_json: bool, **options: Any) -> None:
    """Show what the OPC UA server at URL has: names, types, units, ranges, values. Reads only.

    Exit code 0: something was found. 1: there are no variables. 2: the URL or an option is wrong,
    or the server turns us away.

    \b
    Examples:
      forewarn browse opc.tcp://192.0.2.10:4840
      forewarn browse opc.tcp://192.0.2.10:4840 --under "/Objects/2:Press" --toml >> plant.toml
    """
    config = _config(url, options)
    root, whole, toml = asyncio.run(_explore(config, options))
    variables = [found for _, found in root.walk() if found.variable]
    if as_json:
        nodes = [_row(depth, found) for depth, found in root.walk()]
        click.echo(json.dumps({"complete": whole, "nodes": nodes, "toml": toml}, default=str))
    else:
        if not only_toml:
            for depth, found in root.walk():
                click.echo("  " * depth + _line(found))
            click.echo("")
        click.echo(toml)
        if not whole:
            click.echo("there is more: raise --limit or --depth, or start --under a node", err=True)
    sys.exit(0 if variables else 1)


def _config(url: str, options: dict[str, Any]) -> "Config":
    from pydantic import ValidationError

    from gateway.core.errors import ConfigError, Fault
    from protocols.opcua import Config

    table: dict[str, Any] = {
        "kind": "opcua",
        "id": "server",
        "url": url,
        "security_policy": options["security_policy"],
        "security_mode": options["security_mode"],
        "username": options["username"],
        "password": options["password"],
        "signals": [{"asset": "a", "signal": "start", "address": options["under"] or "i=85"}],
    }
    try:
        return Config.model_validate(table)
    except ValidationError as error:
        raise ConfigError(
            [
                Fault(".".join(map(str, e["loc"])), e["msg"].removeprefix("Value error, "))
                for e in error.errors()
            ]
        ) from error


async def _explore(config: "Config", options: dict[str, Any]) -> "tuple[Found, bool, str]":
    from random import Random

    import structlog

    from gateway.core.clock import SystemClock
    from gateway.core.errors import ConfigError
    from gateway.core.meter import SourceMeter
    from gateway.core.signals import SignalTable
    from gateway.core.source import SourceContext
    from protocols.opcua.explore import explore
    from protocols.opcua.found import to_toml
    from protocols.opcua.items import Item, read_server, resolve
    from protocols.opcua.opening import open_link

    with tempfile.TemporaryDirectory() as empty:
        context = SourceContext(
            clock=SystemClock(),
            random=Random(),
            log=structlog.get_logger(),
            signals=SignalTable(),
            meter=SourceMeter(config.id, config.kind),
            data_dir=options["folder"] or Path(empty),
            report=lambda _condition: None,
        )
        async with open_link(config, context) as link:
            uris, limits = await read_server(link, config)
            start = Item(config.signals[0], "start", 0)
            for _, _, reason in await resolve(link, [start], uris, limits.translate):
                raise ConfigError(f"--under {options['under']}: {reason}")
            root, whole = await explore(
                link, config, start.node, depth_max=options["depth"], nodes_max=options["limit"]
            )
        return root, whole, to_toml(root, config)


def _row(depth: int, found: "Found") -> dict[str, Any]:
    row: dict[str, Any] = {"depth": depth, "name": found.name, "address": found.address}
    if found.variable:
        row |= {"type": found.type, "unit": found.unit, "low": found.low, "high": found.high}
        row["fields"] = found.fields
        row["value"] = found.value if isinstance(found.value, int | float) else str(found.value)
    return row


def _line(found: "Found") -> str:
    if not found.variable:
        return f"{found.name}  [{found.address}]"
    value = " ".join(str(found.value).split())
    value = value if len(value) <= VALUE_CHARS else value[: VALUE_CHARS - 1] + "…"
    span = f" ({found.low:g} to {found.high:g})" if found.low is not None else ""
    unit = f" {found.unit}" if found.unit else ""
    return f"{found.name} = {value}{unit}{span}  {found.type}  [{found.address}]"
