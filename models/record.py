"""One recording of a machine: columns of numbers over time, in independent sequences."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from models.errors import RecordError

RUNNING = "running"
"""The signal that is above 0 while a machine runs, where a rule or the machine itself tells."""


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """`n` rows of `k` signals, oldest first within each group.

    Attributes:
        values: float64[n, k]; NaN where there is no usable sample.
        names: The `k` signal names.
        units: The `k` units; "" where unknown.
        time_s: float64[n], seconds on any epoch, or None where rows are only numbered.
        group: int64[n], the independent sequence of each row, as an index into `groups`.
        groups: The sequences' names, in the order of their first row.
        labels: Label name -> float64[n], 1 where the label holds, 0 where it does not, NaN unknown.
        categories: Signal name -> its words; the value is the index of the word.
        time_text: The time as the file had it, or empty.
        notes: What was guessed in reading it, for its owner.
        places: int64[n], where each row stood before they were put in order; empty if there.
        no_value: Signal name -> numbers that stood where it had none, and are NaN here.
    """

    values: NDArray[np.float64]
    names: tuple[str, ...]
    units: tuple[str, ...] = ()
    time_s: NDArray[np.float64] | None = None
    group: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    groups: tuple[str, ...] = ("",)
    labels: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    categories: dict[str, tuple[str, ...]] = field(default_factory=dict)
    time_text: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    places: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    no_value: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n, k = self.values.shape
        if not len(self.group) and n:
            object.__setattr__(self, "group", np.zeros(n, np.int64))
        if not self.units:
            object.__setattr__(self, "units", ("",) * k)
        assert len(self.names) == len(self.units) == k
        assert len(set(self.names)) == k, f"names must differ: {self.names}"
        assert len(self.group) == n
        assert self.time_s is None or len(self.time_s) == n
        assert all(len(column) == n for column in self.labels.values())

    def __len__(self) -> int:
        return len(self.values)

    def rows(self, keep: NDArray[np.int64] | NDArray[np.bool_] | slice) -> "Record":
        """The same record with some rows only; groups keep their names."""
        text = np.asarray(self.time_text, object)[keep] if self.time_text else ()
        return replace(
            self,
            values=self.values[keep],
            time_s=None if self.time_s is None else self.time_s[keep],
            group=self.group[keep],
            labels={name: column[keep] for name, column in self.labels.items()},
            time_text=tuple(text),
            places=self.places[keep] if len(self.places) else self.places,
        )

    def select(self, names: Sequence[str]) -> "Record":
        """The same record with these signals, in this order.

        Raises:
            RecordError: A signal is missing; the message names all that are and all there are.
        """
        missing = [name for name in names if name not in self.names]
        if missing:
            raise RecordError(
                f"signals: {', '.join(missing)} not in the record, which has"
                f" {', '.join(self.names) or 'none'}; name the columns as they were in training"
            )
        at = [self.names.index(name) for name in names]
        return replace(
            self,
            values=self.values[:, at],
            names=tuple(names),
            units=tuple(self.units[i] for i in at),
            categories={n: words for n, words in self.categories.items() if n in names},
        )

    def words(self) -> list[int]:
        """Which signals are categories."""
        return [i for i, name in enumerate(self.names) if name in self.categories]

    def without(self, no_value: Mapping[str, Sequence[float]]) -> "Record":
        """The same record, NaN where a signal is a number that means that it has no value."""
        if not no_value:
            return self
        values = self.values.copy()
        for at, name in enumerate(self.names):
            values[np.isin(values[:, at], no_value.get(name, ())), at] = np.nan
        return replace(self, values=values)

    def sequences(self) -> Iterator[tuple[str, NDArray[np.int64]]]:
        """Each group's name and its rows, in order; groups without rows are left out."""
        order = np.argsort(self.group, kind="stable")
        edges = np.searchsorted(self.group[order], np.arange(len(self.groups) + 1))
        for index, name in enumerate(self.groups):
            rows = order[edges[index] : edges[index + 1]]
            if len(rows):
                yield name, rows

    def oldest_first(self) -> list[NDArray[np.int64]]:
        """The rows of each run, the oldest run first, in whichever order their files were given.

        What changes slowly from run to run is told by their order.
        """
        runs = [rows for _, rows in self.sequences()]
        if self.time_s is None:
            return runs
        began = self.time_s
        return sorted(runs, key=lambda rows: float(began[rows[0]]))


def while_running(record: Record) -> Record:
    """The rows on which the signal `running` is above 0, without it; each stretch is a sequence.

    Raises:
        RecordError: There is no such signal, or the machine never runs.
    """
    others = tuple(name for name in record.names if name != RUNNING)
    runs = np.nan_to_num(record.select([RUNNING]).values[:, 0]) > 0
    if not runs.any():
        raise RecordError("running: the machine never runs in this record, so nothing is learned")
    groups: list[str] = []
    group = np.full(len(record), -1, np.int64)
    for name, rows in record.sequences():
        stretch = np.cumsum(np.diff(runs[rows].astype(np.int64), prepend=0) > 0) - 1
        group[rows] = stretch + len(groups)
        groups += [f"{name}.{i}" if i else name for i in range(int(stretch.max()) + 1)]
    kept = replace(record.select(others), group=group, groups=tuple(groups))
    return kept.rows(np.flatnonzero(runs))


def join(records: Sequence[Record]) -> Record:
    """Several records as one; each keeps its groups as sequences of their own.

    Raises:
        RecordError: The records have other signals than the first one.
    """
    assert records
    first = records[0]
    for other in records[1:]:
        if set(other.names) != set(first.names):
            odd = sorted(set(other.names) ^ set(first.names))
            raise RecordError(f"data: all files must have the same signals, differ in {odd}")
        if (other.time_s is None) != (first.time_s is None):
            raise RecordError("data: some files have a time column and some have none")
    places = [r.places if len(r.places) else np.arange(len(r)) for r in records]
    starts = np.cumsum([0] + [len(r) for r in records[:-1]])
    aligned = [record.select(first.names) for record in records]
    offsets = np.cumsum([0] + [len(record.groups) for record in records[:-1]])
    labels = sorted(set().union(*(record.labels for record in records)))
    return replace(
        first,
        values=np.concatenate([record.values for record in aligned]),
        time_s=None
        if first.time_s is None
        else np.concatenate([r.time_s for r in records if r.time_s is not None]),
        group=np.concatenate(
            [record.group + offset for record, offset in zip(records, offsets, strict=True)]
        ),
        groups=tuple(name for record in records for name in record.groups),
        labels={
            name: np.concatenate([r.labels.get(name, np.full(len(r), np.nan)) for r in records])
            for name in labels
        },
        time_text=tuple(text for record in records for text in record.time_text),
        places=np.concatenate([p + start for p, start in zip(places, starts, strict=True)])
        if any(len(r.places) for r in records)
        else first.places,
        notes=tuple(dict.fromkeys(note for record in records for note in record.notes)),
        no_value={
            name: tuple(dict.fromkeys(n for r in records for n in r.no_value.get(name, ())))
            for name in sorted(set().union(*(record.no_value for record in records)))
        },
    )
