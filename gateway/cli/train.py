"""`forewarn train`: from files of a healthy (or labelled) machine to a bundle."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from gateway.cli.record_options import (
    ManyFiles,
    data_options,
    failure_options,
    orders_options,
    row_range,
    split,
)
from gateway.cli.sentences import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.cli.columns import Columns
    from models.bundle import Bundle
    from models.record import Record


@click.command(cls=ManyFiles)
@data_options(training=True)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The bundle to write.")
@click.option(
    "--kind",
    type=click.Choice(["anomaly", "failure", "rul"]),
    default="anomaly",
    show_default=True,
    help="What the model is to answer.",
)
@failure_options
@orders_options
@click.option("--window", metavar="30s|30rows", help="Length of a window [default: from the data].")
@click.option("--hop", metavar="1s|1row", help="Step between windows [default: from the data].")
@click.option("--running", metavar="RULE", help="Learn only while it runs: speed > 50 (anomaly).")
@click.option("--cap", type=float, metavar="N", help="Longest remaining life told apart (rul).")
@click.option(
    "--false-alarms", default="1/30d", show_default=True, help="The promise to an operator."
)
@click.option("--seed", default=0, show_default=True, help="Of everything random.")
@click.option("--precision", type=click.Choice(["int8", "fp32"]), default="int8", show_default=True)
@click.option("--asset-class", default="", help="Kind of machine, kept in the bundle.")
@click.option("--asset", help="Of a gateway: the machine to learn.")
@click.option("--from", "start", metavar="TIME", help="Of a gateway: ISO 8601 [a week ago].")
@click.option("--to", "end", metavar="TIME", help="Of a gateway: ISO 8601 [now].")
@click.option(
    "--corrected",
    type=float,
    metavar="S",
    help="Of a gateway: also what was called a false alarm after --to, and S seconds around it.",
)
@click.option(
    "--stored",
    type=click.Choice(["log", "influx"]),
    default="log",
    show_default=True,
    help="Of a gateway: where to take it from.",
)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def command(
    *,
    data: tuple[Path, ...],
    out: Path,
    kind: str,
    as_json: bool,
    time: str | None,
    day_first: bool | None,
    group: str | None,
    label: str | None,
    ignore: str | None,
    signals: str | None,
    derive: tuple[str, ...],
    rows: str | None,
    asset: str | None,
    start: str | None,
    end: str | None,
    stored: Literal["log", "influx"],
    corrected: float | None,
    running: str | None,
    events: tuple[Path, ...],
    failures: Path | None,
    within: str | None,
    bearing: str | None,
    speed: str | None,
    pulses_per_turn: int | None,
    **options: Any,
) -> None:
    """Train a model and write it as a bundle.

    Exit code 0: written (its state may be `shadow`: it judges, but may not alarm yet; the reason is
    said). 2: wrong use, or the data do not allow it.

    \b
    Examples:
      forewarn train --data healthy.csv --out pump.fwm
      forewarn train --data run*.csv --rows 0:400 --ignore changepoint --label anomaly --out rig.fwm
      forewarn train --data week.csv --running "speed > 50" --out press.fwm
      forewarn train --data bursts.npz --bearing 6205 --out motor.fwm
      forewarn train --kind rul --data fleet.csv --group unit --time cycle --cap 125 --out life.fwm
      forewarn train --kind failure --data telemetry.csv --group machine --events errors.csv \\
        --events machines.csv --failures failures.csv --within 24h --out fails.fwm
      forewarn train --data forewarn.toml --asset press-1 --from 2026-11-01 --out press.fwm
    """
    from rich.console import Console

    from gateway.cli.bursts import taken_as_rows
    from gateway.cli.columns import Columns
    from gateway.cli.event_tables import check, with_tables
    from gateway.cli.files import read, settled
    from gateway.cli.shaft import Orders, without_bearing
    from gateway.cli.stored import running_rule
    from models.formula import Formula
    from models.record import RUNNING, while_running

    if running and (kind != "anomaly" or data[0].suffix == ".toml"):
        raise click.UsageError("--running: is for anomaly models of files; a gateway has its own")
    if (events or failures) and (kind == "anomaly" or data[0].suffix == ".toml"):
        raise click.UsageError("--events, --failures: are for failure and rul models of files")
    if failures and kind != "failure":
        raise click.UsageError("--failures: is for --kind failure")
    if (bearing or speed) and data[0].suffix == ".toml":
        raise click.UsageError(
            "--bearing, --speed: are for files; a gateway has its own [asset.bearing] and"
            " [asset.shaft]"
        )
    rule = (f"{RUNNING} = {running}",) if running else ()
    columns = Columns(
        time=time,
        day_first=day_first,
        signals=split(signals),
        ignore=split(ignore),
        labels=split(label),
        group=group,
        rows=row_range(rows),
        derive=tuple(Formula.parse(text) for text in (*derive, *rule)),
        few_words=kind != "anomaly",
        orders=Orders.asked(bearing, speed, pulses_per_turn),
    )
    console = Console(stderr=True)
    with console.status("reading") as status:
        if data[0].suffix == ".toml":
            record = _stored(data, columns, asset, start, end, stored, corrected)
            running = running_rule(data[0], asset or "")
        else:
            columns = with_tables(columns, events, failures=failures, within=within)
            columns = settled(data[0], columns)
            record = read(data, columns)
            check(record, columns)
            record = while_running(record) if running else record
        doing = f"training on {len(record)} rows of {len(record.names)} signals"
        status.update(doing)
        trained = _train(
            record,
            kind,
            columns,
            derive,
            running,
            options,
            lambda s: status.update(f"{doing}: {s}"),
        )
        made = trained.write(out)
    notes = (*record.notes, *trained.notes, *without_bearing(record.names))
    notes += taken_as_rows(record)
    if as_json:
        click.echo(json.dumps(_report(made, notes), ensure_ascii=False))
    else:
        _show(made, notes, out)
    sys.exit(0)


def _stored(
    data: tuple[Path, ...],
    columns: "Columns",
    asset: str | None,
    start: str | None,
    end: str | None,
    stored: Literal["log", "influx"],
    corrected: float | None,
) -> "Record":
    """What the gateway of a configuration file has stored of one asset."""
    from gateway.cli.stored import stored_record

    if len(data) > 1 or asset is None:
        raise click.UsageError(
            "--data: a gateway's configuration file stands alone, with --asset beside it"
        )
    return stored_record(
        data[0],
        asset=asset,
        source=stored,
        start=start,
        end=end,
        signals=columns.signals,
        corrected_s=corrected,
    )


def _train(
    record: "Record",
    kind: str,
    columns: "Columns",
    derive: tuple[str, ...],
    running: str | None,
    options: dict[str, Any],
    say: "Callable[[str], None]",
) -> Any:
    from importlib import import_module

    from gateway.cli.event_tables import kept
    from models.training.nameplate import Nameplate

    detail: dict[str, Any] = {"derive": list(derive)} if derive else {}
    detail |= kept(columns)
    if columns.orders is not None:
        detail |= columns.orders.detail()
    if running:
        detail["running"] = running
    if none := {
        name: list(codes) for name, codes in record.no_value.items() if name in record.names
    }:
        detail["no_value"] = none
    common = {
        "window": options["window"],
        "seed": options["seed"],
        "precision": options["precision"],
        "nameplate": Nameplate(asset_class=options["asset_class"], detail=detail),
    }
    try:
        module = import_module(f"models.training.{kind}")
    except ModuleNotFoundError as error:
        raise click.UsageError(
            f"--kind {kind} needs the train extra: pip install 'forewarn[train]' ({error})"
        ) from error
    if kind == "anomaly":
        return module.train(
            _healthy(record),
            hop=options["hop"],
            false_alarms=options["false_alarms"],
            say=say,
            **common,
        )
    if kind == "rul":
        return module.train(record, cap=options["cap"], named=columns.signals, **common)
    if not record.labels:
        raise click.UsageError(
            "--kind failure needs --label, the columns that say what failed, or --failures, a table"
        )
    return module.train(record, named=columns.signals, **common)


def _healthy(record: "Record") -> "Record":
    """The rows on which no label stands."""
    import numpy as np

    if not record.labels:
        return record
    labelled = np.nan_to_num(np.column_stack(list(record.labels.values()))) > 0
    return record.rows(np.flatnonzero(~labelled.any(axis=1)))


def _report(made: "Bundle", notes: tuple[str, ...]) -> dict[str, Any]:
    manifest = made.manifest
    return {
        "id": made.id,
        "kind": manifest.kind,
        "state": manifest.state,
        "signals": [signal.name for signal in manifest.signals],
        "window": manifest.window.model_dump(),
        "limit": None if manifest.limit is None else manifest.limit.model_dump(),
        "metrics": manifest.metrics,
        "parity": manifest.parity,
        "notes": list(notes),
    }


def _show(made: "Bundle", notes: tuple[str, ...], out: Path) -> None:
    manifest = made.manifest
    window = manifest.window
    length = (
        f"{window.cells} rows"
        if window.period_s is None or window.rows
        else f"{window.cells * window.period_s:g} s"
    )
    say(f"{out}: {manifest.kind} model of {len(manifest.signals)} signals, window {length}")
    if manifest.limit is not None:
        say(f"limit {manifest.limit.value:.3g}: {manifest.limit.how}")
    say(f"state {manifest.state}" + _why(made))
    for note in notes:
        say(f"note: {note}")


def _why(made: "Bundle") -> str:
    limit = made.manifest.limit
    if limit is None:
        return ""
    if limit.supported:
        return f": at most {limit.false_alarms} false alarms, by the healthy record"
    return f": judges but does not alarm yet; {limit.reason}"
