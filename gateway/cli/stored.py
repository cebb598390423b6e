"""Takes what a gateway stored as a record to train on: from its own log, or from its InfluxDB."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import click
import numpy as np
from numpy.typing import NDArray

from gateway.alarms.feedback import Episode, episodes, unhealthy
from gateway.cli.signs import no_value_note
from gateway.config import Config, load
from gateway.core.alarm import Cause, Verdict
from gateway.core.errors import ConfigError
from gateway.flow.memory import NO_VALUE
from gateway.store.influx_link import PlainLink
from gateway.store.influx_readback import StoredInInflux
from gateway.store.readback import Stored, StoredInLog, Table
from gateway.store.reader import LogReader
from gateway.store.schema import FILE_NAME
from models.formula import Formula
from models.no_values import measured
from models.record import RUNNING, Record

VALUES_MAX = 20_000_000
"""Rows times signals, of which a training makes several copies within the 2 GB that it has."""
GAP_STEPS = 10
"""A hole of so many rows parts two sequences: nothing is known of the machine in between."""


def time_ns(text: str | None, option: str, default: datetime) -> int:
    """UTC ns of an ISO 8601 time; UTC unless it says otherwise.

    Raises:
        click.BadParameter: It is no time.
    """
    moment = default
    if text is not None:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise click.BadParameter(
                f"{option}: must be a time like 2026-11-23T14:00, was {text}"
            ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1e6) * 1000


def stored_record(
    path: Path,
    *,
    asset: str,
    source: Literal["log", "influx"],
    start: str | None,
    end: str | None,
    signals: tuple[str, ...] = (),
    corrected_s: float | None = None,
) -> Record:
    """The healthy period of one asset, in steps of its slowest signal; holes part sequences.

    What lies in an alarm of that asset is left out, unless an engineer judged it false or known. So
    is the time in which the machine stood still, where `running` tells.

    Args:
        path: The gateway's configuration file; the gateway may be running.
        asset: The machine.
        source: Where to take it from.
        start: ISO 8601; a week ago when None.
        end: ISO 8601; now when None.
        signals: Which of its signals; all when empty.
        corrected_s: Take also what was called a false alarm after `end`, and so much around it.

    Raises:
        ConfigError: Nothing is stored of it, or there is no [influx].
        StoreError: The log cannot be read.
    """
    config = load(path)
    now = datetime.now(UTC)
    start_ns = time_ns(start, "--from", now - timedelta(days=7))
    end_ns = time_ns(end, "--to", now)
    rule = _rule(config, asset)
    # The rule may need other signals than those to learn.
    wanted = None if rule else signals or None

    told = _episodes(config.data_dir)
    spans = [(start_ns, end_ns)]
    if corrected_s is not None:
        spans += _called_false(told, asset, end_ns, round(corrected_s * 1e9))
    with _stored(config, source, asset, wanted) as stored:
        comes_s = stored.intervals_s(start_ns, end_ns)
        values_hz = sum(end - start for start, end in spans) / 1e9 * len(comes_s)
        step_s, notes = _step_s(comes_s, asset, values_hz)
        table = _joined([stored.table(*span, step_s) for span in spans])
    table, no_value = _measured(table, _derived(config, asset), _no_values(config, asset))
    notes += tuple(no_value_note(*told) for told in no_value.items() if told[0] != RUNNING)
    runs = _ran(rule, table) if rule else np.ones(len(table.t_ns), dtype=bool)
    table = _chosen(table, signals, RUNNING if rule else "")
    kept = np.isfinite(table.value).any(axis=1) & runs
    kept &= ~unhealthy(told, asset, table.t_ns)
    t_ns, values = table.t_ns[kept], table.value[kept]
    if not len(t_ns):
        raise ConfigError(f"asset {asset!r}: nothing usable is stored of that time")
    step_ns = round(step_s * 1e9)
    group = np.concatenate(([0], np.cumsum(np.diff(t_ns) > GAP_STEPS * step_ns)))
    units = {
        signal.signal: signal.unit
        for configured in config.sources
        for signal in configured.signals
        if signal.asset == asset
    }
    return Record(
        values=values,
        names=table.names,
        units=tuple(units.get(name, "") for name in table.names),
        time_s=t_ns / 1e9,
        group=group.astype(np.int64),
        groups=tuple(str(i) for i in range(int(group[-1]) + 1)),
        notes=notes,
        no_value={name: told for name, told in no_value.items() if name in table.names},
    )


def _measured(
    table: Table, derived: Sequence[Formula], known: Mapping[str, Sequence[float]]
) -> tuple[Table, dict[str, tuple[float, ...]]]:
    """The table with NaN for numbers that mean none, and which these are, signal by signal.

    Args:
        table: As it was stored: until a model knew of such a number it was logged like others.
        derived: What was computed of it, which means nothing where such a number went into it.
        known: What earlier models took for none; since then the log has no more of them.
    """
    value, told = table.value.copy(), dict[str, tuple[float, ...]]()
    for at, name in enumerate(table.names):
        value[:, at], found = measured(value[:, at])
        value[np.isin(value[:, at], known.get(name, ())), at] = np.nan
        if codes := tuple(dict.fromkeys((*known.get(name, ()), *found))):
            told[name] = codes
    none = np.isnan(value) & ~np.isnan(table.value)
    for formula in derived:
        if formula.name in table.names:
            needs = [table.names.index(n) for n in formula.needs(table.names).values()]
            none[:, table.names.index(formula.name)] |= none[:, needs].any(axis=1)
    return Table(table.t_ns, table.names, np.where(none, np.nan, value)), told


def _derived(config: Config, asset: str) -> list[Formula]:
    return [
        Formula.parse(f"{each.signal} = {each.expression}")
        for each in config.settings.derive
        if each.asset == asset
    ]


def _no_values(config: Config, asset: str) -> dict[str, list[float]]:
    """Which numbers the gateway takes for none of each signal, as its log remembers."""
    path = config.data_dir / FILE_NAME
    if not path.exists():
        return {}
    with closing(LogReader(path)) as reader:
        kept = reader.state(NO_VALUE).get(asset)
    return {} if kept is None else json.loads(kept)


@contextmanager
def _stored(
    config: Config, source: Literal["log", "influx"], asset: str, signals: Sequence[str] | None
) -> Iterator[Stored]:
    if source == "log":
        with closing(LogReader(config.data_dir / FILE_NAME)) as reader:
            yield StoredInLog(reader, asset, signals)
        return
    if config.settings.influx is None:
        raise ConfigError(f"{config.path.name}: has no [influx] table to read from")
    with closing(PlainLink(config.settings.influx)) as link:
        yield StoredInInflux(link, asset, signals)


def running_rule(path: Path, asset: str) -> str:
    """When an asset runs, as its gateway is configured; "" where it counts as running always."""
    return _rule(load(path), asset)


def _rule(config: Config, asset: str) -> str:
    return next((a.running.strip() for a in config.settings.asset if a.id == asset), "")


def _called_false(
    told: Sequence[Episode], asset: str, after_ns: int, margin_ns: int
) -> list[tuple[int, int]]:
    """Spans around alarms of the machine that were called false, from `after_ns` on, apart."""
    spans: list[tuple[int, int]] = []
    for e in told:
        if e.asset == asset and e.cause is Cause.ANOMALY and e.verdict is Verdict.FALSE:
            start_ns = max(after_ns, e.start_ns - margin_ns)
            end_ns = (e.end_ns or e.start_ns) + margin_ns
            if spans and start_ns <= spans[-1][1]:
                spans[-1] = (spans[-1][0], max(spans[-1][1], end_ns))
            elif end_ns > start_ns:
                spans.append((start_ns, end_ns))
    return spans


def _joined(tables: Sequence[Table]) -> Table:
    """Tables of the same signals, one after the other."""
    return Table(
        np.concatenate([table.t_ns for table in tables]),
        tables[0].names,
        np.concatenate([table.value for table in tables]),
    )


def _chosen(table: Table, signals: tuple[str, ...], but: str) -> Table:
    """The table with those signals only, all of them when empty, and without `but`."""
    names = signals or tuple(name for name in table.names if name != but)
    keep = [table.names.index(name) for name in names]
    return Table(table.t_ns, names, table.value[:, keep])


def _ran(rule: str, table: Table) -> NDArray[np.bool_]:
    """bool[n], the machine ran, by its rule; not so where that is not known."""
    formula = Formula.parse(f"{RUNNING} = {rule}")
    columns = formula.needs(table.names)
    at = {word: table.value[:, table.names.index(name)] for word, name in columns.items()}
    return np.nan_to_num(formula.compute(at, len(table.t_ns))) > 0


def _episodes(data_dir: Path) -> list[Episode]:
    """Every alarm in the log, with what people said of it; none where there is no log."""
    path = data_dir / FILE_NAME
    if not path.exists():
        return []
    reader = LogReader(path)
    try:
        return episodes(reader.transitions())
    finally:
        reader.close()


def _step_s(
    comes_s: Mapping[str, float], asset: str, values_hz: float
) -> tuple[float, tuple[str, ...]]:
    """How often the slowest signal comes; longer where memory would not hold so many rows.

    Args:
        comes_s: From one sample of each signal to its next.
        asset: The machine.
        values_hz: Values that there are at one row a second.
    """
    if not comes_s:
        raise ConfigError(f"asset {asset!r}: nothing usable is stored of that time")
    # A thousandth is left to the jitter of the clock.
    step_s = float(f"{max(comes_s.values()):.3g}")
    turns = int(-(-values_hz // (step_s * VALUES_MAX)))
    if turns <= 1:
        return step_s, ()
    longer_s = float(f"{turns * step_s:.6g}")
    note = (
        f"{len(comes_s)} signals are too many to learn of each {step_s:g} s of that time; a row "
        f"stands for {longer_s:g} s (take a shorter time for shorter rows)"
    )
    return longer_s, (note,)
