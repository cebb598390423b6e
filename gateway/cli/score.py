"""`forewarn score`: what a bundle would have said of each row, knowing only the rows up to it."""

import csv
import json
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from gateway.cli.record_options import ManyFiles, data_options, row_range, split
from gateway.cli.sentences import say

if TYPE_CHECKING:
    from models.bundle import Bundle
    from models.record import Record


@click.command(cls=ManyFiles)
@click.argument("model", type=click.Path(path_type=Path))
@data_options(training=False)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The CSV to write.")
@click.option("--precision", type=click.Choice(["int8", "fp32"]), default="int8", show_default=True)
@click.option("--device", default="cpu", show_default=True, help="As `forewarn devices` names it.")
@click.option(
    "--follow", is_flag=True, help="Follow slow healthy change, as a gateway does (anomaly)."
)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable summary.")
def command(
    *,
    model: Path,
    data: tuple[Path, ...],
    out: Path,
    time: str | None,
    day_first: bool | None,
    group: str | None,
    label: str | None,
    ignore: str | None,
    rows: str | None,
    precision: Literal["int8", "fp32"],
    device: str,
    follow: bool,
    events: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Replay data through a bundle and write one row per input row, in order.

    A row's score uses only rows up to it. Rows before the first full window hold empty cells.
    `anomalous` is the verdict by the model's limit; it is taken back 20 % below it. Whether the
    gateway may alarm on it is the bundle's state. Of the five worst stretches it prints what the
    gateway's alarm would say. With --follow, levels are corrected step by step
    for the slow change that a gateway would have followed by then.

    \b
    Examples:
      forewarn score pump.fwm --data january.csv --out scores.csv
      forewarn score pump.fwm --data year.csv --follow --out scores.csv
      forewarn score fails.fwm --data new.csv --group machine --events errors.csv \\
        --events machines.csv --out coming.csv
    """
    from rich.console import Console

    from gateway.cli.columns import Columns
    from gateway.cli.event_tables import doubts, needed, with_tables
    from gateway.cli.files import read
    from gateway.cli.shaft import Orders
    from models.bundle import read as read_bundle
    from models.fixed import fixed_of
    from models.formula import Formula
    from models.record import RUNNING

    bundle = read_bundle(model)
    derive = tuple(Formula.parse(text) for text in bundle.manifest.detail.get("derive", ()))
    if rule := bundle.manifest.detail.get("running"):
        derive += (Formula.parse(f"{RUNNING} = {rule}"),)
    derived = {formula.name for formula in derive}
    columns = Columns(
        time=time,
        day_first=day_first,
        signals=tuple(s.name for s in bundle.manifest.signals if s.name not in derived),
        wanted_by="the model",
        also=tuple(fixed_of(bundle.manifest.detail)),
        ignore=split(ignore),
        group=group,
        rows=row_range(rows),
        derive=derive,
        words={s.name: s.categories for s in bundle.manifest.signals if s.categories},
        orders=Orders.kept(bundle.manifest.detail),
    )
    del label  # Labels are no input; the option is there so that one line serves both commands.
    columns = with_tables(columns, events, known=needed(bundle.manifest.detail, columns.signals))
    with Console(stderr=True).status("scoring") as status:
        record = read(data, columns)
        notes = [
            *record.notes,
            *doubts(record, columns),
            *_foreign(bundle, record),
            *_moved(bundle, record),
        ]
        status.update(f"scoring {len(record)} rows")
        names, lines, summary = _scored(bundle, record, device, precision, follow=follow)
        if not summary["judged"]:
            notes.append(_why_none(bundle, record))
        try:
            _write(out, record, names, lines)
        except OSError as error:
            raise click.BadParameter(f"--out {out}: cannot be written: {error.strerror}") from error
    for note in notes:
        say(f"note: {note}", err=True)
    if as_json:
        told = {"bundle": bundle.id, "rows": len(record), **summary, "notes": notes}
        click.echo(json.dumps(told, ensure_ascii=False))
    else:
        told = summary.pop("verdicts", ())
        say(f"{out}: {len(record)} rows" + "".join(f", {k} {v}" for k, v in summary.items()))
        for one in told:
            group = f"{one['group']}: " if one["group"] else ""
            say(
                f"{group}{one['from']} to {one['to']}, {one['rows']} rows, "
                f"{one['severity']:.1f} times its limit: {one['why']}"
            )


def _foreign(bundle: "Bundle", record: "Record") -> list[str]:
    """Signals that look as if they were in another unit than those that were learned.

    What describes a burst is in the burst's unit, of which its RMS tells; a band or an order leaves
    its range when a machine is ill.
    """
    from models.features.burst import base_of
    from models.units import foreign

    values = dict(zip(record.names, record.values.T, strict=True))
    told = (
        foreign(s.name, values[s.name], s.low, s.high)
        for s in bundle.manifest.signals
        if s.name in values and s.low is not None and s.high is not None and not s.categories
        if not (base := base_of(s.name)) or s.name == f"{base} rms"
    )
    return [text for text in told if text]


def _moved(bundle: "Bundle", record: "Record") -> Iterator[str]:
    """Signals that never changed while the model learned, and are not what they were."""
    import numpy as np

    from models.fixed import fixed_of, moved

    for name, was in fixed_of(bundle.manifest.detail).items():
        value = record.values[:, record.names.index(name)]
        rows = np.flatnonzero(moved(value, was))
        if len(rows):
            at = record.time_text[rows[0]] if record.time_text else f"row {rows[0]}"
            yield (
                f"{name}: always {was:g} while the model learned, here {value[rows[0]]:g} at {at}"
                f" ({len(rows)} rows differ); it is in no score, and what it changes is not known:"
                " if it may be so, train anew with rows of both"
            )


def _why_none(bundle: "Bundle", record: "Record") -> str:
    """Why no row got an answer."""
    import numpy as np

    missing = float(np.isnan(record.values).mean())
    if missing > 0.5:
        return f"no row could be judged: {missing:.0%} of the values are missing"
    window = bundle.manifest.window
    length = f"{window.cells} rows"
    if window.period_s and not window.rows:
        length = f"{window.cells} samples, one each {window.period_s:g} s"
    longest = int(np.bincount(record.group).max())
    return (
        f"no row could be judged: the model's window is {length}; the longest sequence here has "
        f"{longest} rows"
    )


def _scored(
    bundle: "Bundle",
    record: "Record",
    device: str,
    precision: Literal["int8", "fp32"],
    *,
    follow: bool,
) -> tuple[list[str], Iterator[Sequence[str]], dict[str, Any]]:
    """Column names, rows of text, and a summary."""
    if bundle.manifest.kind != "anomaly":
        if follow:
            raise click.UsageError("--follow: is for anomaly models")
        return _heads(bundle, record, device, precision)
    import numpy as np

    from gateway.cli.verdicts import verdicts
    from models.score import score

    made = score(bundle, record, device=device, precision=precision, follow=follow)
    anomalous = made.anomalous
    judged = np.isfinite(made.score)

    def lines() -> Iterator[Sequence[str]]:
        for i in range(len(record)):
            cover = "" if np.isnan(made.coverage[i]) else f"{made.coverage[i]:.3f}"
            if judged[i]:
                verdict = "1" if anomalous[i] else "0"
                top = "|".join(made.top(i))
                yield f"{made.score[i]:.6g}", f"{made.limit[i]:.6g}", verdict, cover, top
            else:
                yield "", "", "", cover, ""

    return (
        ["score", "limit", "anomalous", "coverage", "top_signals"],
        lines(),
        {
            "judged": int(judged.sum()),
            "anomalous": int(anomalous.sum()),
            "state": bundle.manifest.state,
            "verdicts": verdicts(bundle, record, made, anomalous),
        },
    )


def _heads(
    bundle: "Bundle", record: "Record", device: str, precision: Literal["int8", "fp32"]
) -> tuple[list[str], Iterator[Sequence[str]], dict[str, Any]]:
    import numpy as np

    # By name, because it comes with the failure and remaining-life models.
    made = import_module("models.heads").answer(bundle, record, device=device, precision=precision)
    names, values = made.columns, made.values

    def lines() -> Iterator[Sequence[str]]:
        for row in values:
            yield ["" if np.isnan(value) else f"{value:.6g}" for value in row]

    return list(names), lines(), {"judged": int((~np.isnan(values)).any(axis=1).sum())}


def _write(
    out: Path, record: "Record", names: Sequence[str], lines: Iterator[Sequence[str]]
) -> None:
    import numpy as np

    order = np.argsort(record.group, kind="stable")
    number = np.empty(len(record), int)
    number[order] = np.arange(len(record))
    starts = np.searchsorted(record.group[order], np.arange(len(record.groups)))
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["time" if record.time_text else "row", "group", *names])
        said = list(zip(range(len(record)), lines, strict=True)) if len(record.places) else None
        in_order = enumerate(lines) if said is None else (said[i] for i in record.places.argsort())
        for i, line in in_order:
            at = (
                record.time_text[i]
                if record.time_text
                else str(number[i] - starts[record.group[i]])
            )
            writer.writerow([at, record.groups[record.group[i]], *line])
