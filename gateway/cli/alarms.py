"""`forewarn alarms`: see and handle the alarms of a running gateway, over its REST interface."""

import json
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from gateway.cli.remote import Gateway, options

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Duration(click.ParamType[float]):
    """`30m`, `8h`, `2d`."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        text = str(value)
        try:
            return float(text[:-1]) * UNITS[text[-1]]
        except (ValueError, KeyError, IndexError):
            self.fail(f"must be a number with s, m, h or d, was {text!r}", param, ctx)


@click.group()
@options
@click.pass_context
def command(ctx: click.Context, *, url: str, token_file: Path | None) -> None:
    """List, acknowledge, shelve and judge the alarms of a running gateway.

    It needs a token: `forewarn user token CONFIG NAME --role operator` prints one.

    \b
    Examples:
      forewarn alarms list
      forewarn alarms ack pump-1 anomaly --note "on my way"
      forewarn alarms shelve pump-1 anomaly --for 8h
      forewarn alarms feedback pump-1 anomaly false --note "door was open"
      forewarn alarms export --days 30 > alarms.csv
    """
    ctx.obj = Gateway.at("alarms", url, token_file)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@click.pass_obj
def list_(gateway: Gateway, *, as_json: bool) -> None:
    """Show every alarm that is not normal. Exit code 1 when any waits to be acknowledged."""
    body = gateway.ask("alarms")
    rows = json.loads(body)
    if as_json:
        click.echo(body.decode())
    elif not rows:
        click.echo("No alarms.")
    for row in rows if not as_json else ():
        since = row["active_since_ns"]
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since / 1e9)) if since else ""
        word = ("low", "medium", "high")[row["priority"] - 1]
        name = f"{row['asset'] or 'gateway'} {row['alarm']}"
        click.echo(f"{word:6}  {row['state']:16}  {at:19}  {name}: {row['text']}")
    sys.exit(1 if any(row["state"].endswith("_unacked") for row in rows) else 0)


def _command(
    gateway: Gateway,
    verb: str,
    asset: str,
    alarm: str,
    note: str,
    *,
    occurrence: int = 0,
    **more: Any,
) -> None:
    asset = "" if asset == "gateway" else asset
    target = {"asset": asset, "alarm": alarm, "occurrence": occurrence}
    gateway.ask("alarms/command", {"verb": verb, "targets": [target], "note": note} | more)
    click.echo("Done.")


@command.command()
@click.argument("asset")
@click.argument("alarm")
@click.option("--note", default="", help="Why, in your words.")
@click.pass_obj
def ack(gateway: Gateway, asset: str, alarm: str, *, note: str) -> None:
    """Acknowledge an alarm. ASSET is `gateway` for the gateway's own."""
    _command(gateway, "ack", asset, alarm, note)


@command.command()
@click.argument("asset")
@click.argument("alarm")
@click.option("--for", "duration_s", type=Duration(), help="30m, 8h, 2d; else until it has gone.")
@click.option("--note", default="", help="Why, in your words.")
@click.pass_obj
def shelve(
    gateway: Gateway, asset: str, alarm: str, *, duration_s: float | None, note: str
) -> None:
    """Put an alarm aside for a time, or until it has gone once."""
    if duration_s is None:
        _command(gateway, "shelve_once", asset, alarm, note)
    else:
        _command(gateway, "shelve", asset, alarm, note, duration_s=duration_s)


@command.command()
@click.argument("asset")
@click.argument("alarm")
@click.option("--note", default="", help="Why, in your words.")
@click.pass_obj
def unshelve(gateway: Gateway, asset: str, alarm: str, *, note: str) -> None:
    """Take an alarm off the shelf."""
    _command(gateway, "unshelve", asset, alarm, note)


@command.command()
@click.argument("asset")
@click.argument("alarm")
@click.argument("verdict", type=click.Choice(["real", "false", "known"]))
@click.option("--note", default="", help="What you saw.")
@click.option("--episode", type=int, default=0, help="An earlier episode; else the last.")
@click.pass_obj
def feedback(
    gateway: Gateway, asset: str, alarm: str, verdict: str, *, note: str, episode: int
) -> None:
    """Say whether an alarm was real, false, or known beforehand."""
    _command(gateway, "feedback", asset, alarm, note, verdict=verdict, occurrence=episode)


@command.command()
@click.option("--days", type=click.FloatRange(0, 366, min_open=True), default=30.0)
@click.option("--asset", default="", help="Of one asset only.")
@click.pass_obj
def export(gateway: Gateway, *, days: float, asset: str) -> None:
    """Write the history as CSV."""
    query = urlencode({"span_s": days * 86_400, "asset": asset})
    sys.stdout.buffer.write(gateway.ask(f"alarms/export?{query}"))
