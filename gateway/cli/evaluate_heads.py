"""`forewarn evaluate --kind failure|rul`: a model on rows that it has not seen, and a yardstick."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.evaluation import Evaluation
from gateway.cli.sentences import say

if TYPE_CHECKING:
    from gateway.cli.columns import Columns
    from models.bundle import Bundle
    from models.record import Record

YARDSTICK = {
    "failure": "a random forest of 300 trees on the same features",
    "rul": "gradient boosting on the same features",
}


def evaluate(
    kind: str,
    train_files: Sequence[Path],
    tests: Sequence[Path],
    columns: "Columns",
    *,
    options: dict[str, Any],
    truth: Path | None,
) -> Evaluation:
    """Train on some files, judge others, and compare: int8, fp32, yardstick."""
    from rich.console import Console

    from gateway.cli.event_tables import check
    from gateway.cli.files import read, settled
    from models.evaluate_heads import hear, measures, reliability

    with Console(stderr=True).status("reading") as status:
        columns = settled(train_files[0], columns)
        train = read(train_files, replace(columns, few_words=True))
        check(train, columns)
        status.update(f"training on {len(train)} rows")
        bundle, notes = _train(kind, train, columns, options)
        signals = bundle.manifest.signals
        counted = bundle.manifest.detail.get("label")
        if counted and not train.labels:
            told = train.values[:, train.names.index(counted)]
            train = replace(train, labels={counted: told})
        asked = replace(
            columns,
            labels=() if truth else (counted,) if counted else columns.labels,
            signals=tuple(signal.name for signal in signals),
            wanted_by="the model",
            words={s.name: s.categories for s in signals if s.categories},
        )
        test = read(tests, asked)
        status.update(f"judging {len(test)} rows")
        heard = hear(bundle, test, _truth(bundle, test, truth), train)
    report: dict[str, Any] = {
        "kind": kind,
        "protocol": f"Trained by the defaults on {len(train)} rows, judged on {len(test)} others. "
        f"Yardstick: {YARDSTICK[kind]}.",
        "notes": [*train.notes, *notes],
        "measures": {each.name: measures(each) for each in heard},
    }
    if kind == "failure":
        report["reliability"] = {
            each.name: reliability(each.true > 0.5, each.said["int8"]) for each in heard
        }

    def page() -> str:
        from models.report import plain_page
        from models.report_heads import figures

        return plain_page(report, figures(heard))

    return Evaluation(report, page, lambda: _show(report))


def _show(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    say(report["protocol"])
    for name, ways in report["measures"].items():
        columns = {key: key.replace("_", " ") for row in ways.values() for key in row}
        table = Table(name, *columns.values())
        for way, row in ways.items():
            cells = (row.get(key) for key in columns)
            table.add_row(
                way,
                *(
                    "" if each is None else f"{each:.3f}" if isinstance(each, float) else str(each)
                    for each in cells
                ),
            )
        Console().print(table)


def _train(
    kind: str, record: "Record", columns: "Columns", options: dict[str, Any]
) -> "tuple[Bundle, tuple[str, ...]]":
    from tempfile import TemporaryDirectory

    from models.training import failure, rul

    common = {"window": options["window"], "seed": options["seed"]}
    made = (
        failure.train(record, named=columns.signals, **common)
        if kind == "failure"
        else rul.train(record, cap=options["cap"], named=columns.signals, **common)
    )
    with TemporaryDirectory() as folder:
        return made.write(Path(folder) / "m.fwm"), made.notes


def _truth(bundle: "Bundle", test: "Record", truth: Path | None) -> Any:
    """float64[n, m]: the labels, or rows left to the end, or the lives that a file tells."""
    import numpy as np

    from gateway.cli.columns import Columns
    from gateway.cli.files import read
    from models.evaluate_heads import last_rows, life_left

    if bundle.manifest.kind == "failure":
        return np.stack([test.labels[label] for label in bundle.manifest.labels], axis=1)
    cap = float(bundle.manifest.detail["cap"])
    if truth is None:
        return life_left(test, cap)
    try:
        return last_rows(test, read([truth], Columns()).values[:, 0], cap)
    except ValueError as error:
        raise click.BadParameter(f"--truth {truth}: {error}") from error
