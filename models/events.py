"""Turns what happened to machines into signals and labels of rows; signals know no later event."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

AGO_H_MAX = 90 * 24.0
"""What never happened, and what is longer ago than this, are alike."""

CODES_MAX = 64

Floats = NDArray[np.float64]
_NEVER: Floats = np.zeros(0)


def lay(at: Floats, t: Floats, before: float) -> tuple[NDArray[np.int64], Floats]:
    """What one code says at some times: how many since the time before, and when the last was.

    Args:
        at: float64[m], when it happened, ascending.
        t: float64[n], ascending, on the same clock.
        before: The time before the first of `t`.

    Returns:
        int64[n], how many of the events lie in (t before, t], and float64[n], the time of the last
        one up to `t`; -inf where there was none.
    """
    until = np.searchsorted(at, t, side="right")
    count = np.diff(until, prepend=np.searchsorted(at, before, side="right"))
    return np.maximum(count, 0), np.concatenate([[-np.inf], at])[until]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The rows that events are laid on.

    Attributes:
        time_s: float64[n], ascending within a machine; NaN where unknown.
        machine: int64[n], as an index into `machines`.
        machines: Their names, as the events have them.
    """

    time_s: Floats
    machine: NDArray[np.int64]
    machines: tuple[str, ...]

    def each(self) -> Iterator[tuple[str, NDArray[np.int64]]]:
        """Each machine that has rows with a time, and these rows."""
        known = np.flatnonzero(~np.isnan(self.time_s))
        order = known[np.argsort(self.machine[known], kind="stable")]
        edges = np.searchsorted(self.machine[order], np.arange(len(self.machines) + 1))
        for name, (start, end) in zip(self.machines, pairwise(edges.tolist()), strict=True):
            if end > start:
                yield name, order[start:end]


@dataclass(frozen=True, slots=True, eq=False)
class Log:
    """Events of one kind: errors, repairs, failures.

    Attributes:
        column: What the codes are, as the table names it: errorID.
        codes: The codes that become signals.
        time_s: float64[m].
        machine: object[m], the machine's name.
        code: object[m].
    """

    column: str
    codes: tuple[str, ...]
    time_s: Floats
    machine: NDArray[np.object_]
    code: NDArray[np.object_]

    @property
    def names(self) -> tuple[str, ...]:
        """Two signals a code: how many since the row before, and the hours since the last one."""
        return tuple(
            n for c in self.codes for n in (f"{self.column}.{c}", f"{self.column}.{c}.ago_h")
        )

    @property
    def units(self) -> tuple[str, ...]:
        return ("", "h") * len(self.codes)

    @property
    def categories(self) -> dict[str, tuple[str, ...]]:
        return {}

    def times(self, *, codes: bool) -> dict[tuple[str, str], Floats]:
        """Machine and code (or "", for any) -> when it happened there, ascending."""
        held: dict[tuple[str, str], list[float]] = {}
        for at, machine, code in zip(self.time_s, self.machine, self.code, strict=True):
            held.setdefault((machine, code if codes else ""), []).append(at)
        return {key: np.sort(times) for key, times in held.items()}

    def signals(self, rows: Rows) -> Floats:
        """float64[n, 2c], in the order of `names`; NaN where a row's time is unknown.

        An event counts from its own time on. The first row of a machine counts those of its own
        time alone; hours go back beyond it, and are `AGO_H_MAX` at most.
        """
        times = self.times(codes=True)
        out = np.full((len(rows.time_s), 2 * len(self.codes)), np.nan)
        for machine, mine in rows.each():
            t = rows.time_s[mine]
            for i, code in enumerate(self.codes):
                at = times.get((machine, code), _NEVER)
                count, last = lay(at, t, np.nextafter(t[0], -np.inf))
                out[mine, 2 * i] = count
                out[mine, 2 * i + 1] = np.minimum((t - last) / 3600, AGO_H_MAX)
        return out

    def coming(self, rows: Rows, within_s: float, code: str | None = None) -> Floats:
        """float64[n], 1 where an event comes after a row, `within_s` at most; NaN where none is
        known to come, but the machine's rows end before that could be seen."""
        times = self.times(codes=code is not None)
        out = np.full(len(rows.time_s), np.nan)
        for machine, mine in rows.each():
            t = rows.time_s[mine]
            at = np.append(times.get((machine, code or ""), _NEVER), np.inf)
            comes = at[np.searchsorted(at, t, side="right")] - t <= within_s
            seen = t + within_s <= t.max()
            out[mine] = np.where(comes, 1.0, np.where(seen, 0.0, np.nan))
        return out


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """What stays as it is for each machine: its age, its model.

    Attributes:
        names: The `k` facts.
        units: The `k` units; "" where unknown.
        values: Machine -> float64[k]; NaN where unknown.
        categories: Fact -> its words; the value is the index of the word.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    values: dict[str, Floats]
    categories: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def signals(self, rows: Rows) -> Floats:
        """float64[n, k], NaN for a machine that the table does not have."""
        unknown = np.full(len(self.names), np.nan)
        held = np.stack([self.values.get(machine, unknown) for machine in rows.machines])
        return np.asarray(held[rows.machine], np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Failures:
    """What is to be foretold: any failure, or each of some modes.

    Attributes:
        log: When which machine failed.
        within_s: How long before it the label holds.
        modes: One label each; a single one, named as the log's column, where empty.
    """

    log: Log
    within_s: float
    modes: Sequence[str] = ()

    def labels(self, rows: Rows) -> dict[str, Floats]:
        """Label -> float64[n], as `Log.coming`."""
        if not self.modes:
            return {self.log.column: self.log.coming(rows, self.within_s)}
        return {mode: self.log.coming(rows, self.within_s, mode) for mode in self.modes}
