"""`forewarn evaluate`: how good training and limits are on labelled files, as page and JSON."""

import json
from collections.abc import Sequence
from pathlib import Path

import click

from gateway.cli.record_options import (
    ManyFiles,
    day_first_option,
    events_option,
    failure_options,
    orders_options,
    split,
)
from gateway.cli.sentences import say
from gateway.cli.tables import SUFFIXES


@click.command(cls=ManyFiles)
@click.option(
    "--data",
    "data",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="Labelled files, or folders of them. May be repeated.",
)
@click.option(
    "--train", "train_files", multiple=True, type=click.Path(path_type=Path),
    help="Healthy files to train on [default: the --train-rows of --data].",
)  # fmt: skip
@click.option(
    "--train-rows",
    metavar="START:END",
    help="Rows of each file to train on, not judged: 0:400, 0:25%.",
)
@click.option("--each", is_flag=True, help="A model for each file by its own --train-rows.")
@click.option(
    "--label",
    metavar="COL[,COL]",
    help="Label columns; above 0 is anomalous [default: the one that is called so].",
)
@click.option(
    "--fault-from", metavar="ROW", help="Instead of --label: first faulty row of a file: 160, 50%."
)
@click.option(
    "--healthy", multiple=True, metavar="NAME", help="With --fault-from: files without a fault."
)
@click.option(
    "--kind",
    type=click.Choice(["anomaly", "failure", "rul"]),
    default="anomaly",
    show_default=True,
    help="Of model; failure and rul take --train FILES and judge --data.",
)
@click.option("--cap", type=float, metavar="N", help="Longest remaining life told apart (rul).")
@click.option(
    "--truth",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Rows left after the last row of each sequence [default: sequences end in failure] (rul).",
)
@click.option("--time", metavar="COL")
@day_first_option
@click.option("--group", metavar="COL")
@click.option("--ignore", metavar="A,B")
@click.option("--signals", metavar="A,B")
@events_option
@failure_options
@orders_options
@click.option("--window", metavar="30s|30rows")
@click.option("--false-alarms", default="1/30d", show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--compare", is_flag=True, help="Also PCA on rows and an autoencoder on windows.")
@click.option("--out", type=click.Path(path_type=Path), help="The HTML report to write.")
@click.option("--json", "as_json", is_flag=True, help="Print all measures as JSON.")
def command(
    *,
    data: tuple[Path, ...],
    train_files: tuple[Path, ...],
    train_rows: str | None,
    each: bool,
    label: str | None,
    fault_from: str | None,
    healthy: tuple[str, ...],
    time: str | None,
    day_first: bool | None,
    group: str | None,
    ignore: str | None,
    signals: str | None,
    window: str | None,
    false_alarms: str,
    kind: str,
    cap: float | None,
    truth: Path | None,
    seed: int,
    compare: bool,
    events: tuple[Path, ...],
    failures: Path | None,
    within: str | None,
    bearing: str | None,
    speed: str | None,
    pulses_per_turn: int | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Train by the defaults, replay causally, and compare with labels: fp32 beside int8.

    \b
    Examples:
      forewarn evaluate --data valve1/ --train-rows 0:400 --label anomaly --ignore changepoint \\
        --out report.html
      forewarn evaluate --kind rul --train fleet.csv --data new.csv --group unit --out report.html
      forewarn evaluate --kind failure --train a.csv --data b.csv --group machine \\
        --events errors.csv --failures failures.csv --within 24h
      forewarn evaluate --train healthy.npz --data worn.npz --bearing 6205 --fault-from 0
      forewarn evaluate --train d00.csv --data faults/ --fault-from 160 --healthy d00_te.csv --json
    """
    from gateway.cli import evaluate_anomaly, evaluate_heads
    from gateway.cli.columns import Columns
    from gateway.cli.event_tables import with_tables
    from gateway.cli.shaft import Orders

    if failures and kind != "failure":
        raise click.UsageError("--failures: is for --kind failure")
    columns = Columns(
        time=time,
        day_first=day_first,
        signals=split(signals),
        ignore=split(ignore),
        labels=split(label),
        group=group,
        orders=Orders.asked(bearing, speed, pulses_per_turn),
    )
    if kind == "anomaly":
        if events:
            raise click.UsageError("--events: is for --kind failure and rul")
        if (train_rows is None) == (not train_files):
            raise click.UsageError("give either --train FILES or --train-rows START:END")
        if label is not None and fault_from is not None:
            raise click.UsageError("give either --label COL or --fault-from ROW")
        made = evaluate_anomaly.evaluate(
            _files(data),
            _files(train_files),
            columns,
            train_rows=train_rows,
            each=each,
            fault_from=fault_from,
            healthy=healthy,
            options={"window": window, "false_alarms": false_alarms, "seed": seed},
            compare=compare,
        )
    else:
        if not train_files:
            raise click.UsageError(f"--kind {kind} needs --train FILES, and judges --data")
        if kind == "failure" and label is None and failures is None:
            raise click.UsageError(
                "--kind failure needs --label, the columns that say what failed, or --failures, a "
                "table"
            )
        made = evaluate_heads.evaluate(
            kind,
            _files(train_files),
            _files(data),
            with_tables(columns, events, failures=failures, within=within),
            options={"window": window, "seed": seed, "cap": cap},
            truth=truth,
        )
    if out is not None:
        try:
            out.write_text(made.page(), encoding="utf-8")
        except OSError as error:
            raise click.BadParameter(f"--out {out}: cannot be written: {error.strerror}") from error
    if as_json:
        click.echo(json.dumps(made.report, ensure_ascii=False))
        return
    made.show()
    for note in made.report["notes"]:
        say(f"note: {note}")
    if out is not None:
        click.echo(f"{out} written")


def _files(paths: Sequence[Path]) -> list[Path]:
    out: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES)
            if not inside:
                raise click.UsageError(f"--data {path}: no file that ends in {', '.join(SUFFIXES)}")
            out += inside
        else:
            out.append(path)
    return out
