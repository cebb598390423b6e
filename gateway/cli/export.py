"""`forewarn export`: what the gateway stored, as CSV or Parquet."""

import csv
import io
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from gateway.store.reader import LogReader

Rows = Iterable[tuple[Any, ...]]
WHAT = ("samples", "trends", "assessments", "alarms")
PARQUET_ROWS = 100_000


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--what", type=click.Choice(WHAT), default="samples", show_default=True, help="What to write."
)
@click.option("--quarantine", is_flag=True, help="Write what InfluxDB refused, with the reason.")
@click.option("--asset", help="Of this machine only.")
@click.option("--signal", "signals", multiple=True, metavar="NAME", help="Of this signal only.")
@click.option(
    "--from", "start", metavar="TIME", help="ISO 8601, UTC if it does not say [a day ago]."
)
@click.option("--to", "end", metavar="TIME", help="ISO 8601 [now].")
@click.option("--points", default=100_000, show_default=True, help="Most points of a trend.")
@click.option("--out", type=click.Path(path_type=Path), help="A .csv or .parquet file [stdout].")
def command(
    *,
    config: Path,
    what: str,
    quarantine: bool,
    asset: str | None,
    signals: tuple[str, ...],
    start: str | None,
    end: str | None,
    points: int,
    out: Path | None,
) -> None:
    """Write what the gateway of CONFIG stored. It may be running.

    \b
    Examples:
      forewarn export forewarn.toml --asset press-1 --from 2026-11-01 --out press.parquet
      forewarn export forewarn.toml --what trends --signal vibration
      forewarn export forewarn.toml --quarantine
    """
    from gateway.cli.stored import time_ns
    from gateway.config import load
    from gateway.store.quarantine import read_quarantine
    from gateway.store.reader import LogReader
    from gateway.store.schema import FILE_NAME

    folder = load(config).data_dir
    now = datetime.now(UTC)
    start_ns = time_ns(start, "--from", now - timedelta(days=1))
    end_ns = time_ns(end, "--to", now)
    if quarantine:
        names: tuple[str, ...] = ("time", "kind", "seq", "reason", "line")
        refused = read_quarantine(folder)
        rows: Rows = ((_iso(r.t_ns), r.kind, r.seq, r.reason, r.line) for r in refused)
        _write(names, rows, out)
        return
    reader = LogReader(folder / FILE_NAME)
    try:
        match what:
            case "samples":
                names = ("time", "asset", "signal", "unit", "value", "quality")
                rows = _samples(reader, asset, signals, start_ns, end_ns)
            case "trends":
                names = ("time", "asset", "signal", "unit", "mean", "min", "max", "count")
                rows = _trends(reader, folder, asset, signals, start_ns, end_ns, points)
            case "assessments":
                names = (
                    "time",
                    "asset",
                    "bundle",
                    "score",
                    "limit",
                    "coverage",
                    "abstained",
                    "top",
                )
                rows = _assessments(reader, asset, start_ns, end_ns)
            case _:
                names = ("time", "asset", "alarm", "priority", "state", "event", "who", "text")
                rows = _alarms(reader, asset, start_ns, end_ns)
        _write(names, rows, out)
    finally:
        reader.close()


def _chosen(
    reader: "LogReader", asset: str | None, signals: tuple[str, ...]
) -> list[tuple[int, Any]]:
    from gateway.core.errors import ConfigError

    table = list(enumerate(reader.signals().signals()))
    chosen = [
        (i, s)
        for i, s in table
        if (asset is None or s.asset == asset) and (not signals or s.name in signals)
    ]
    if not chosen:
        known = ", ".join(sorted({str(s) for _, s in table})) or "nothing yet"
        raise ConfigError(f"no such signal is stored; stored are: {known}")
    return chosen


def _samples(
    reader: "LogReader", asset: str | None, signals: tuple[str, ...], start_ns: int, end_ns: int
) -> Iterator[tuple[Any, ...]]:
    from gateway.core.batch import Quality

    chosen = dict(_chosen(reader, asset, signals))
    words = {int(q): q.name.lower() for q in Quality}
    for signal, t_ns, value, quality in reader.sample_blocks(start_ns, end_ns, list(chosen)):
        for s, t, v, q in zip(
            signal.tolist(), t_ns.tolist(), value.tolist(), quality.tolist(), strict=True
        ):
            key = chosen[s]
            yield _iso(t), key.asset, key.name, key.unit, None if v != v else v, words[q]  # noqa: PLR0124


def _trends(
    reader: "LogReader",
    folder: Path,
    asset: str | None,
    signals: tuple[str, ...],
    start_ns: int,
    end_ns: int,
    points: int,
) -> Iterator[tuple[Any, ...]]:
    from gateway.store.trend_reader import TrendReader
    from gateway.store.trend_tables import FILE_NAME

    trends = TrendReader(folder / FILE_NAME)
    try:
        for number, key in _chosen(reader, asset, signals):
            found = trends.series(number, start_ns, end_ns, points)
            for t, mean, least, greatest, n in zip(
                found.t_ns.tolist(),
                found.mean.tolist(),
                found.least.tolist(),
                found.greatest.tolist(),
                found.count.tolist(),
                strict=True,
            ):
                yield _iso(t), key.asset, key.name, key.unit, mean, least, greatest, n
    finally:
        trends.close()


def _assessments(
    reader: "LogReader", asset: str | None, start_ns: int, end_ns: int
) -> Iterator[tuple[Any, ...]]:
    for block in reader.assessments(start_ns, end_ns):
        for i, name in enumerate(block.assets):
            if asset not in (None, name):
                continue
            order = (-block.contribution[i]).argsort()[:3].tolist()
            top = " ".join(f"{block.signals[j]}={block.contribution[i, j]:.2f}" for j in order)
            score = float(block.score[i])
            yield (
                _iso(int(block.t_ns[i])),
                name,
                block.bundle,
                None if block.abstained[i] else score,
                float(block.limit[i]),
                float(block.coverage[i]),
                block.abstained[i].value,
                "" if block.abstained[i] else top,
            )


def _alarms(
    reader: "LogReader", asset: str | None, start_ns: int, end_ns: int
) -> Iterator[tuple[Any, ...]]:
    for t in reader.transitions(start_ns, end_ns):
        if asset in (None, t.asset):
            priority = t.priority.name.lower()
            yield _iso(t.t_ns), t.asset, t.alarm, priority, t.state, t.event, t.who, t.text


def _write(names: tuple[str, ...], rows: Rows, out: Path | None) -> None:
    if out is not None and out.suffix == ".parquet":
        _write_parquet(names, rows, out)
    elif out is not None:
        with out.open("w", newline="", encoding="utf-8") as file:
            _write_csv(names, rows, file)
    else:
        _write_csv(names, rows, sys.stdout)


def _write_csv(names: tuple[str, ...], rows: Rows, file: io.TextIOBase | Any) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)


def _write_parquet(names: tuple[str, ...], rows: Rows, out: Path) -> None:
    from itertools import islice

    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise click.UsageError(
            "--out: Parquet needs the train extra: pip install 'forewarn[train]'"
        ) from error
    iterator = iter(rows)
    first = list(islice(iterator, PARQUET_ROWS))
    columns: list[Any] = list(zip(*first, strict=True)) or [()] * len(names)
    table = pa.table(dict(zip(names, columns, strict=True)))
    with pq.ParquetWriter(out, table.schema) as writer:
        writer.write_table(table)
        while more := list(islice(iterator, PARQUET_ROWS)):
            arrays = [
                pa.array(column, type=field.type)
                for column, field in zip(zip(*more, strict=True), table.schema, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=table.schema))


def _iso(t_ns: int) -> str:
    """ISO 8601 with nanoseconds, UTC."""
    seconds, rest = divmod(t_ns, 1_000_000_000)
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
