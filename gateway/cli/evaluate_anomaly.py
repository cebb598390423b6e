"""`forewarn evaluate --kind anomaly`: models of healthy rows, judged by labels beside rules."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from gateway.cli.evaluation import Evaluation
from gateway.cli.sentences import say

if TYPE_CHECKING:
    from gateway.cli.columns import Columns
    from models.bundle import Bundle
    from models.evaluate import Judged
    from models.record import Record

    Baseline = tuple[Callable[[Record], Any], float]

FILES_TOLD = 8
"""Files of which it is printed what their worst alarm says."""
WAYS: tuple[Literal["int8", "fp32"], ...] = ("int8", "fp32")


def evaluate(
    paths: Sequence[Path],
    train_files: Sequence[Path],
    columns: "Columns",
    *,
    train_rows: str | None,
    each: bool,
    fault_from: str | None,
    healthy: tuple[str, ...],
    options: dict[str, Any],
    compare: bool,
) -> Evaluation:
    """Train on healthy files or rows, judge the others: int8, fp32, trivial rules, baselines."""
    from rich.console import Console

    from gateway.cli.files import read, settled

    notes: list[str] = []
    with Console(stderr=True).status("reading") as status:
        columns = settled([*train_files, *paths][0], columns)
        whole = [read([path], columns) for path in paths]
        if fault_from is None and not columns.labels:
            columns = replace(columns, labels=(_label(whole, paths),))
            notes = [_found(whole, columns.labels[0])]
        if train_files:
            plain = replace(columns, labels=(), ignore=(*columns.ignore, *columns.labels))
            heads = [read([path], plain) for path in train_files]
        else:
            heads = [r.rows(slice(*_span(train_rows or "", len(r)))) for r in whole]
        judged: list[Judged] = []
        bundles: list[Bundle] = []
        if not each:
            status.update(f"training on {sum(map(len, heads))} rows")
            bundles.append(_train(heads, options))
            others = _baselines(bundles[0], heads, options["seed"]) if compare else {}
        for index, (path, record) in enumerate(zip(paths, whole, strict=True)):
            status.update(f"judging {path.name}")
            if each:
                own = [heads[index]]
                bundles.append(_train(own, options))
                others = _baselines(bundles[-1], own, options["seed"]) if compare else {}
            truth = _truth(record, path, fault_from, healthy)
            first = 0 if train_files else _span(train_rows or "", len(record))[1]
            judged.append(_judge(bundles[-1], record, path.name, truth, first, others))
    lengths = {p.name: len(r) for p, r in zip(paths, whole, strict=True)}
    report = _report(judged, bundles, lengths, each=each, train_rows=train_rows, heads=len(heads))
    report["notes"] = notes + report["notes"]

    def page() -> str:
        from models import report as pages

        return pages.page(report, judged, list(report["measures"]))

    return Evaluation(report, page, lambda: _show(report))


def _train(records: "list[Record]", options: dict[str, Any]) -> "Bundle":
    import tempfile

    from models.record import join
    from models.training.anomaly import train

    with tempfile.TemporaryDirectory() as folder:
        return train(join(records), **options).write(Path(folder) / "evaluated.fwm")


def _span(text: str, rows: int) -> tuple[int, int]:
    """Start and end of `0:400` or `0:25%` in a file of so many rows."""
    start, colon, end = text.partition(":")
    if not colon:
        raise click.BadParameter(f"--train-rows must be START:END, such as 0:400, was {text!r}")
    return _row(start or "0", rows), _row(end or "100%", rows)


def _row(text: str, rows: int) -> int:
    share = text.strip().endswith("%")
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError as error:
        raise click.BadParameter(f"must be a row or a percentage, was {text!r}") from error
    return round(value / 100 * rows) if share else int(value)


def _label(records: "Sequence[Record]", paths: Sequence[Path]) -> str:
    """The one label that all files have, known by its name."""
    from models.errors import RecordError

    for record, path in zip(records, paths, strict=True):
        found = sorted(record.labels)
        if found != sorted(records[0].labels) or len(found) != 1:
            raise RecordError(
                f"{path}: one label must be known by its name, the same in all files, was "
                f"{', '.join(found) or 'none'}; name it with --label, or give --fault-from ROW"
            )
    return next(iter(records[0].labels))


def _found(records: "Sequence[Record]", label: str) -> str:
    import numpy as np

    rows = sum(int(np.count_nonzero(record.labels[label] > 0)) for record in records)
    return f"{label}: taken for --label by its name; {rows} rows are anomalous by it"


def _truth(record: "Record", path: Path, fault_from: str | None, healthy: tuple[str, ...]) -> Any:
    import numpy as np

    if fault_from is None:
        labels = np.column_stack(list(record.labels.values()))
        return (np.nan_to_num(labels) > 0).any(axis=1)
    truth = np.zeros(len(record), bool)
    if not any(name == path.name or path.name.startswith(f"{name}.") for name in healthy):
        truth[_row(fault_from, len(record)) :] = True
    return truth


def _judge(
    bundle: "Bundle",
    record: "Record",
    name: str,
    truth: Any,
    first: int,
    others: "dict[str, Baseline]",
) -> "Judged":
    import numpy as np

    from gateway.cli.verdicts import verdicts
    from models.evaluate import Judged
    from models.score import score
    from models.training.rates import sampling

    scores: dict[str, Any] = {}
    flags: dict[str, Any] = {}
    limits: dict[str, float] = {}
    drivers: tuple[str, ...] = ()
    said: list[dict[str, Any]] = []
    for way in WAYS:
        made = score(bundle, record, precision=way)
        scores[way] = made.score[first:].astype(float)
        flags[way] = made.anomalous[first:]
        assert bundle.manifest.limit is not None
        limits[way] = bundle.manifest.limit.value
        seen = flags[way].nonzero()[0]
        drivers = made.top(int(seen[len(seen) // 2]) + first) if len(seen) else drivers
        if way == WAYS[0]:
            rows = np.arange(len(record)) >= first
            said = verdicts(bundle, record, made, made.anomalous & rows)
    for other, (rate, limit) in others.items():
        scores[other], limits[other] = rate(record)[first:], limit
        flags[other] = scores[other] > limit
    return Judged(
        name,
        truth[first:],
        scores,
        flags,
        limits,
        sampling(record)[0],
        drivers,
        said[0]["why"] if said else "",
    )


def _baselines(bundle: "Bundle", heads: "list[Record]", seed: int) -> "dict[str, Baseline]":
    """What the detector has to beat, trained on the same rows."""
    import numpy as np

    from models.features.plan import FeaturePlan
    from models.record import join
    from models.score import grid_of
    from models.training.baselines import autoencoder, pca
    from models.windows import features

    plan, grid = FeaturePlan.from_manifest(bundle.manifest), grid_of(bundle.manifest)
    healthy = join(heads).select(plan.signals)
    rows, row_limit = pca(healthy.values)
    nets, net_limit = autoencoder(features(healthy, plan, grid)[0].astype(float), seed)

    def by_rows(record: "Record") -> Any:
        return rows(record.select(plan.signals).values)

    def by_windows(record: "Record") -> Any:
        windows = features(record.select(plan.signals), plan, grid)[0].astype(float)
        return np.where(np.isfinite(windows).any(axis=1), nets(windows), np.nan)

    return {"PCA T2/Q on rows": (by_rows, row_limit), "autoencoder": (by_windows, net_limit)}


def _report(
    judged: "list[Judged]",
    bundles: "list[Bundle]",
    rows: dict[str, int],
    *,
    each: bool,
    train_rows: str | None,
    heads: int,
) -> dict[str, Any]:
    import numpy as np

    from models.evaluate import by_row, events, measure, sustained, trivial

    ways = list(judged[0].score)
    manifest = bundles[0].manifest
    window = manifest.window
    what = "a model for each file" if each else "one model for all"
    trained = f"rows {train_rows} of each file" if train_rows else f"{heads} healthy file(s)"
    files = []
    for file in judged:
        row = by_row(file.label, file.flag[ways[0]])
        files.append({
            "file": file.name,
            "rows": len(file.label),
            "anomalous": float(file.label.mean()),
            **row,
            "auroc": measure([file], ways[0])["auroc_mean"],
            "events": len(events(file.label)),
            "events_hit": measure([file], ways[0])["events_hit"],
            "first_verdict": int(np.argmax(file.flag[ways[0]]))
            if file.flag[ways[0]].any()
            else None,
            "first_sustained": sustained(file.flag[ways[0]], rows[file.name]),
            "drivers": ", ".join(file.drivers),
            "why": file.why,
        })  # fmt: skip
    return {
        "protocol": (
            f"{what}, trained on {trained}; {len(rows)} files judged causally; window "
            f"{window.cells} cells; limit {judged[0].limit[ways[0]]:.3g} ({manifest.state})"
        ),
        "notes": [manifest.limit.reason] if manifest.limit and manifest.limit.reason else [],
        "measures": {way: measure(judged, way) for way in ways},
        "trivial": trivial(judged),
        "files": files,
        "states": [bundle.manifest.state for bundle in bundles],
    }


def _show(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    say(report["protocol"])
    shown = {
        "f1": "F1",
        "false_alarm_rate": "false",
        "missed_alarm_rate": "missed",
        "auroc_mean": "AUROC",
        "auroc_worst": "worst",
        "events_hit": "hit",
        "detection_at_1_percent": "at 1 %",
    }
    table = Table("", *shown.values())
    for way, row in {**report["measures"], **report["trivial"]}.items():
        cells = [row.get(name) for name in shown]
        table.add_row(
            way,
            *("" if c is None else f"{c:.3f}" if isinstance(c, float) else str(c) for c in cells),
        )
    console.print(table)
    told = [file for file in report["files"] if file["why"]]
    for file in told[:FILES_TOLD]:
        say(f"{file['file']}: {file['why']}")
    if len(told) > FILES_TOLD:
        say(f"and {len(told) - FILES_TOLD} more files: --json and --out tell of all")
