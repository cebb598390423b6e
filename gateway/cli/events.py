"""`forewarn events`: tell a running gateway what happened to machines, over its REST interface."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from gateway.cli.remote import Gateway, options

SENT_MAX = 400
"""Events in one request; a body may have 64 KiB."""


def _moment(_: click.Context, __: click.Parameter, text: str | None) -> str | None:
    """What `--at` says, with its zone."""
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"must be as 2026-03-01 11:00:00, was {text!r}") from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).isoformat()


@click.group()
@options
@click.pass_context
def command(ctx: click.Context, *, url: str, token_file: Path | None) -> None:
    """Tell what happened to machines (errors, repairs), and list it.

    Machines, logs and codes are those of [[event_log]]. It needs a token: `forewarn user token
    CONFIG NAME --role operator` prints one.

    \b
    Examples:
      forewarn events add press-1 repair bearing --note "outer ring"
      forewarn events import errors.csv --group machine --whole
      forewarn events list --asset press-1
      forewarn events take-back press-1 repair bearing --at "2026-03-01 11:00:00"
    """
    ctx.obj = Gateway.at("events", url, token_file)


@command.command()
@click.argument("asset")
@click.argument("log")
@click.argument("code")
@click.option("--at", callback=_moment, help="When, in UTC; now if not given.")
@click.option("--note", default="", help="For the audit trail.")
@click.pass_obj
def add(gateway: Gateway, asset: str, log: str, code: str, *, at: str | None, note: str) -> None:
    """Tell that CODE of LOG happened to ASSET."""
    event = {"asset": asset, "log": log, "code": code, "at": at}
    answer = json.loads(gateway.ask("events", {"events": [event], "note": note}))
    click.echo("Done." if answer["new"] else "It was known already.")


@command.command("take-back")
@click.argument("asset")
@click.argument("log")
@click.argument("code")
@click.option("--at", callback=_moment, required=True, help="When, in UTC, as `list` shows it.")
@click.option("--note", default="", help="For the audit trail.")
@click.pass_obj
def take_back(gateway: Gateway, asset: str, log: str, code: str, *, at: str, note: str) -> None:
    """Take back that CODE of LOG happened to ASSET: models judge as if it never had.

    Who said it, and who took it back, stays written down: `list --taken-back` shows it.
    """
    event = {"asset": asset, "log": log, "code": code, "at": at}
    gateway.ask("events/take-back", {"events": [event], "note": note})
    click.echo("Taken back.")


@command.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--group", help="Column of the machine, as its [[asset]] is called.")
@click.option("--asset", help="Whose events they are, where no column says it.")
@click.option("--time", help="Column of the time; found by itself if there is one.")
@click.option("--log", help="Which log; the name of the column of codes if not given.")
@click.option("--ignore", default="", help="Columns to leave out.")
@click.option(
    "--whole", is_flag=True, help="FILE holds all that ever happened: what is not in it, did not."
)
@click.pass_obj
def import_(
    gateway: Gateway,
    file: Path,
    *,
    group: str | None,
    asset: str | None,
    time: str | None,
    log: str | None,
    ignore: str,
    whole: bool,
) -> None:
    """Tell all events of FILE, a table as for `forewarn train --events`; it may be told again.

    Without --whole, what happened before the gateway watched is as unknown as before, but for the
    codes that are in FILE. Machines and codes that the gateway does not have are left alone.
    """
    from gateway.cli.columns import Columns
    from gateway.cli.event_tables import event_table
    from gateway.cli.record_options import split
    from models.events import Facts

    if (group is None) is (asset is None):
        raise click.UsageError("needs --group, the column of the machine, or --asset, one machine")
    held = event_table(file, Columns(group=group, time=time, ignore=split(ignore)))
    if isinstance(held, Facts):
        raise click.UsageError(f"{file}: must have a time column; name it with --time")
    name = log or held.column
    known = {
        each["asset"]: set(each["codes"])
        for each in json.loads(gateway.ask("events/logs"))
        if each["log"] == name
    }
    if not known:
        raise click.UsageError(f"{file}: the gateway has no event log {name!r}; name it with --log")
    machines = [asset or machine for machine in held.machine]
    rows = list(zip(machines, held.code, held.time_s.tolist(), strict=True))
    told = [
        {
            "asset": machine,
            "log": name,
            "code": code,
            "at": datetime.fromtimestamp(at_s, UTC).isoformat(),
        }
        for machine, code, at_s in rows
        if code in known.get(machine, ())
    ]
    new = 0
    for start in range(0, len(told), SENT_MAX):
        part = told[start : start + SENT_MAX]
        answer = gateway.ask("events", {"events": part, "note": f"import of {file.name}"})
        new += json.loads(answer)["new"]
    mine = [machine for machine in known if machine in set(machines)]
    for start in range(0, len(mine) if whole else 0, SENT_MAX):
        logs = [{"asset": machine, "log": name} for machine in mine[start : start + SENT_MAX]]
        gateway.ask("events", {"whole": logs, "note": f"import of {file.name}"})
    click.echo(f"{name}: {new} new of {len(told)} events, of {len(mine)} machines.")
    _left(rows, known, whole=whole)


def _left(rows: list[tuple[str, str, float]], known: dict[str, set[str]], *, whole: bool) -> None:
    """Say what was left alone, and what stays unknown."""
    seen = {machine for machine, _, _ in rows}
    codes = {code for machine, code, _ in rows if machine in known and code not in known[machine]}
    for what, names in (
        ("machines that have no such log here", seen - known.keys()),
        ("codes that are not configured", codes),
        ("not in the file, so unknown as before", known.keys() - seen if whole else set()),
    ):
        if names:
            few = ", ".join(sorted(names)[:5])
            click.echo(f"note: {what}: {few}{', …' if len(names) > 5 else ''}", err=True)


@command.command("list")
@click.option("--asset", default="", help="Of one machine only.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 10_000))
@click.option("--taken-back", is_flag=True, help="Those that were taken back, too.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@click.pass_obj
def list_(gateway: Gateway, *, asset: str, limit: int, taken_back: bool, as_json: bool) -> None:
    """Show the newest events and who told them, and from when on each log is complete."""
    query = urlencode({"asset": asset, "limit": limit, "taken_back": taken_back})
    events = json.loads(gateway.ask(f"events?{query}"))
    logs = [each for each in json.loads(gateway.ask("events/logs")) if asset in ("", each["asset"])]
    if as_json:
        click.echo(json.dumps({"logs": logs, "events": events}, ensure_ascii=False))
        return
    for each in logs:
        click.echo(f"{each['asset']} {each['log']}: {_known(each)}; {', '.join(each['codes'])}")
    for event in events:
        told = f"{event['asset']} {event['log']} {event['code']}"
        by = f", told by {event['told_by']}" if event["told_by"] else ""
        gone = f", taken back by {event['taken_back_by']}" if event["taken_back_ns"] else ""
        click.echo(f"{_utc(event['t_ns'])}  {told}{by}{gone}")


def _known(log: dict[str, Any]) -> str:
    if log["whole"]:
        return "all that ever happened is known"
    if log["since_ns"] is None:
        return "nobody has watched yet"
    return f"complete from {_utc(log['since_ns'])} on, not before"


def _utc(t_ns: int) -> str:
    """To the microsecond where it has one, as `--at` takes it."""
    seconds, micros = divmod(t_ns // 1000, 10**6)
    fraction = f".{micros:06}" if micros else ""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}{fraction}Z"
