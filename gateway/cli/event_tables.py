"""Reads the tables beside the telemetry: event logs, failures, and facts of each machine."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gateway.cli.cells import MISSING, unit_of
from gateway.cli.columns import Columns, by_number, coded, words_of
from gateway.cli.files import groups_of
from gateway.cli.moments import time_of
from gateway.cli.tables import Table, numbers, table
from gateway.cli.times import find_time, joined
from models.errors import RecordError
from models.events import AGO_H_MAX, CODES_MAX, Facts, Failures, Log
from models.record import Record


def with_tables(
    columns: Columns,
    events: Sequence[Path],
    *,
    failures: Path | None = None,
    within: str | None = None,
    known: Mapping[str, Any] | None = None,
) -> Columns:
    """The columns, with the signals of event tables and the labels of a table of failures.

    Args:
        columns: How all tables name their time and machine; with `failures`, its labels are modes.
        events: Tables of events, and of facts where there is no time column.
        failures: Table of failures.
        within: How long before a failure the label holds, as 24h.
        known: What a bundle keeps of its event tables (`detail`), to make the same signals.

    Raises:
        RecordError: Names file, rule and value.
    """
    codes = None if known is None else known.get("codes", {})
    made = tuple(event_table(path, columns, codes) for path in events)
    twice = [n for n, count in Counter(n for each in made for n in each.names).items() if count > 1]
    if twice:
        raise RecordError(f"--events: names must differ, {', '.join(twice)} is in two tables")
    if known is not None:
        lacking = [n for n in known.get("signals", ()) if not any(n in each.names for each in made)]
        if lacking:
            raise RecordError(
                f"--events: the model needs {', '.join(lacking)}, which no table given makes; "
                "give the event tables that it was trained with"
            )
    columns = replace(columns, events=made)
    if failures is None:
        return columns
    if within is None:
        raise RecordError("--failures: needs --within, how long before a failure to warn, as 24h")
    log = event_table(failures, columns, any_of=columns.labels)
    if isinstance(log, Facts):
        raise RecordError(f"{failures}: must have a time column; name it with --time")
    wrong = [mode for mode in columns.labels if mode not in log.codes]
    if wrong:
        raise RecordError(
            f"{failures}: --label: no failure {', '.join(wrong)}; there are {', '.join(log.codes)}"
        )
    modes = columns.labels
    return replace(columns, labels=(), failures=Failures(log, _seconds(within), modes))


def kept(columns: Columns) -> dict[str, Any]:
    """What a bundle keeps, so that `score` makes the same signals; empty without event tables."""
    if not columns.events:
        return {}
    logs = {each.column: list(each.codes) for each in columns.events if isinstance(each, Log)}
    return {"events": {"codes": logs, "names": [n for each in columns.events for n in each.names]}}


def needed(detail: Mapping[str, Any], signals: Sequence[str]) -> dict[str, Any]:
    """What a bundle asks of event tables: `known` of `with_tables`."""
    held = detail.get("events", {})
    return {
        "codes": held.get("codes", {}),
        "signals": [name for name in signals if name in held.get("names", ())],
    }


def check(record: Record, columns: Columns) -> None:
    """Refuse to learn from a table of which nothing meets the telemetry.

    Raises:
        RecordError: Names the table's signals.
    """
    if lost := _unmet(record, columns):
        raise RecordError(f"--events: {lost[0]}; write them alike, and name their --group")


def doubts(record: Record, columns: Columns) -> list[str]:
    """What `score` says: a machine may have had no event, but other names look the same."""
    new = [
        f"codes that the model did not learn: {', '.join(unknown)}"
        for each in columns.events
        if isinstance(each, Log) and (unknown := sorted(set(each.code) - set(each.codes))[:5])
    ]
    return _unmet(record, columns) + new


def _unmet(record: Record, columns: Columns) -> list[str]:
    out = []
    for each in columns.events:
        values = record.select(each.names).values
        ago = values[:, 1::2] if isinstance(each, Log) else values
        least = AGO_H_MAX if isinstance(each, Log) else np.inf
        if not (np.nan_to_num(ago, nan=np.inf) < least).any():
            out.append(
                f"nothing of {', '.join(each.names[:4])} is of a machine and time in --data, whose "
                f"machines are {', '.join(record.groups[:5])}"
            )
    return out


def _seconds(within: str) -> float:
    from models.training import grid

    seconds, rows = grid.span(within, "--within", 1.0)
    if rows:
        raise RecordError(f"--within: must be a time such as 24h, was {within!r}")
    return float(seconds)


def event_table(
    path: Path,
    columns: Columns,
    codes: Mapping[str, Sequence[str]] | None = None,
    *,
    any_of: Sequence[str] | None = None,
) -> Log | Facts:
    """One table: of events, or of facts where it has no time; only `codes` become signals.

    Of failures, the column that holds `any_of` them counts; without any, each row is one, and what
    else it says (a component, a remark) does not matter.

    Raises:
        RecordError: Names file, rule and value.
    """
    held = joined(table(path))
    columns = by_number(columns, held)
    if columns.group is not None and columns.group not in held.names:
        raise RecordError(
            f"{path}: must have the column {columns.group} of --group, has {', '.join(held.names)}"
        )
    time = columns.time if columns.time in held.names else None
    time = time or find_time(held, replace(columns, time=None, labels=(), signals=()))
    rest = [n for n in held.names if n not in {time, columns.group, *columns.ignore}]
    machines, machine = groups_of(held, columns.group, "")
    texts = np.array(machines, object)[machine]
    if time is None:
        return _facts(held, rest, texts, columns)
    if any_of is not None:
        held, rest = _failures(held, rest, any_of)
    if len(rest) != 1:
        raise RecordError(
            f"{path}: must have one column of codes beside {time} and the machine, has "
            f"{', '.join(rest) or 'none'}; leave others out with --ignore"
        )
    time_s, _, _ = time_of(held, time, columns.day_first)
    assert time_s is not None
    column = held.columns[held.names.index(rest[0])]
    code = np.array([f"{c:g}" if isinstance(c, float) else str(c) for c in column], object)
    for row, (at, word) in enumerate(zip(time_s, code, strict=True)):
        if np.isnan(at) or word.lower() in MISSING:
            raise RecordError(
                f"{path}: row {row + held.first_line}: must have a time and a code, was "
                f"{held.columns[held.names.index(time)][row]!s}, {word!r}; correct or delete it"
            )
    seen = tuple(sorted(set(code)))
    if len(seen) > CODES_MAX:
        raise RecordError(
            f"{path}: column {rest[0]}: must have at most {CODES_MAX} codes, had {len(seen)}; "
            "keep those that matter, or write their class instead"
        )
    mine = seen if codes is None else tuple(codes.get(rest[0], seen))
    return Log(rest[0], mine, time_s, texts, code)


def _failures(held: Table, rest: list[str], modes: Sequence[str]) -> tuple[Table, list[str]]:
    """The table with one column of codes: the one that holds the modes, or the same in each row."""
    if len(rest) == 1:
        return held, rest
    if modes:
        cells = {name: set(map(str, held.columns[held.names.index(name)])) for name in rest}
        return held, [name for name in rest if cells[name] & set(modes)] or rest
    same = np.array(["failure"] * len(held), object)
    column = next(name for name in ("failure", "failure.") if name not in held.names)
    return replace(held, names=(*held.names, column), columns=(*held.columns, same)), [column]


def _facts(held: Table, names: list[str], machines: Any, columns: Columns) -> Facts:
    twice = [str(name) for name, count in Counter(machines).items() if count > 1]
    if twice:
        raise RecordError(
            f"{held.path}: without a time column must have one row a machine, has several of "
            f"{', '.join(twice[:5])}; name its time column with --time"
        )
    words = words_of([held], replace(columns, signals=tuple(names), labels=(), time=None))
    words = {name: words[name] for name in names if name in words}
    values = np.column_stack(
        [coded(held, name, words[name]) if name in words else numbers(held, name) for name in names]
        or [np.zeros((len(held), 0))]
    )
    if not names:
        raise RecordError(f"{held.path}: must have a column beside the machine's name, has none")
    return Facts(
        tuple(names),
        tuple(unit_of(name) for name in names),
        dict(zip(map(str, machines), values, strict=True)),
        words,
    )
