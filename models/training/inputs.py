"""Chooses what a failure or remaining-life model sees of a record: signals, features, derived ones.

Nothing here knows a machine. Signals that never move are left out, sparse counts are treated as
events, words as categories, operating conditions are found and taken out, and products and
differences of signals (which is what much of physics is) are tried and kept if they help on rows
that were held out.
"""

import warnings
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from models.errors import RecordError
from models.features.plan import FeaturePlan
from models.features.regimes import Regimes
from models.graph import Graph
from models.heads import describe
from models.record import Record
from models.training.screen import is_counter
from models.windows import Grid

Features = NDArray[np.float32]
Pairs = tuple[tuple[int, int], ...]

ROW_NUMBERS_MIN = 20
CLIP = 30_000.0
"""Standardised features beyond this are alike; half precision still holds the number."""
EVENT_ZEROS = 0.9
"""A signal that is 0 in so many rows, and a whole number elsewhere, counts events."""
PAIR_SIGNALS_MAX = 10
STATE = ("level", "level_4", "level_16", "noise", "rise", "rise_2")
EVENT = ("total", "total_4", "since")


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """What goes into the learners, and the part of the graph that makes it.

    Attributes:
        plan: The features that the gateway computes; the graph's input.
        grid: Where the window's cells lie.
        products: Pairs of columns whose product is added.
        differences: Pairs of columns whose difference is added.
        words: Column -> number of words, for categories; each word becomes a column.
        offset: float64[e], of the standardisation of all columns; what is missing counts as that.
        scale: float64[e].
    """

    plan: FeaturePlan
    grid: Grid
    products: Pairs = ()
    differences: Pairs = ()
    words: dict[int, int] = field(default_factory=dict)
    offset: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    scale: NDArray[np.float64] = field(default_factory=lambda: np.ones(0))

    def columns(self, x: Features) -> Features:
        """float32[n, e], as the graph computes them, before standardisation; NaN where missing."""
        parts = [x]
        for pairs, combine in ((self.products, np.multiply), (self.differences, np.subtract)):
            if pairs:
                first, second = (list(side) for side in zip(*pairs, strict=True))
                parts.append(combine(x[:, first], x[:, second]))
        parts += [
            (x[:, [column]] == np.arange(count, dtype=np.float32)).astype(np.float32)
            for column, count in self.words.items()
        ]
        return np.concatenate(parts, axis=1)

    def standard(self, x: Features) -> Features:
        """float32[n, e], what the learners see."""
        centred = self.columns(x) - self.offset.astype(np.float32)
        known = np.where(np.isnan(centred), np.float32(0), centred)
        z: Features = np.clip(known * (1 / self.scale).astype(np.float32), -CLIP, CLIP)
        return z

    def fitted(self, x: Features) -> "Inputs":
        """With offset and scale of these rows."""
        held = self.columns(x).astype(np.float64)
        with np.errstate(all="ignore"), warnings.catch_warnings():
            # A product of two signals that are never there together is nothing but missing.
            warnings.simplefilter("ignore", RuntimeWarning)
            mean, spread, top = (
                np.nan_to_num(each(held, axis=0))
                for each in (np.nanmean, np.nanstd, lambda a, axis: np.nanmax(np.abs(a), axis))
            )
        floor = 1e-6 * np.maximum(top, 1e-30)
        return replace(self, offset=mean, scale=np.where(spread > floor, spread, 1.0))

    def emit(self, graph: Graph) -> str:
        """Add to a graph; the name of z float32[n, e], which is `prepared`."""
        parts = [graph.x]
        for pairs, operator in ((self.products, "Mul"), (self.differences, "Sub")):
            if pairs:
                first, second = zip(*pairs, strict=True)
                a = graph.node("Gather", graph.x, graph.constant(first, np.int64), axis=1)
                b = graph.node("Gather", graph.x, graph.constant(second, np.int64), axis=1)
                parts.append(graph.node(operator, a, b))
        for column, count in self.words.items():
            one = graph.node("Gather", graph.x, graph.constant([column], np.int64), axis=1)
            same = graph.node("Equal", one, graph.constant(np.arange(count)))
            parts.append(graph.node("Cast", same, to=TensorProto.FLOAT))
        joined = graph.node("Concat", *parts, axis=1) if len(parts) > 1 else graph.x
        return graph.prepare(joined, self.offset, self.scale, clip=CLIP)[0]


def choose(
    record: Record,
    grid: Grid,
    *,
    regimes: Regimes | None,
    rows: NDArray[np.bool_],
) -> tuple[Inputs, Features, NDArray[np.bool_], list[str]]:
    """The signals and features of a record that can say anything, and their values.

    Args:
        record: All candidate signals.
        grid: Where the cells lie.
        regimes: Operating conditions of the record's signals, to take out.
        rows: bool[n], rows to compute.

    Returns:
        Inputs without pairs; x float32[n, d]; bool[n] where there are values; notes.

    Raises:
        RecordError: Nothing in the record moves.
    """
    settings = set() if regimes is None else set(regimes.settings)
    seen = record.values if regimes is None else regimes.normalise(record.values)
    names: list[str] = []
    still: list[str] = []
    numbers: list[str] = []
    counters: list[str] = []
    with np.errstate(all="ignore"):
        for i, name in enumerate(record.names):
            column = seen[:, i]
            known = column[~np.isnan(column)]
            if i in settings:
                continue
            reach = float(np.ptp(known)) if len(known) else 0.0
            if reach <= 1e-9 * float(np.abs(known).max(initial=0.0)):
                still.append(name)
            elif _is_row_number(record.values[:, i]):
                numbers.append(name)
            elif len(record.groups) == 1 and _only_rises(record, i):
                counters.append(name)
            elif grid.cells == 1 or name in record.categories:
                names.append(f"{name}:last")
            else:
                kinds = EVENT if _is_event(known) else STATE
                names += [f"{name}:{kind}" for kind in kinds]
    if not names:
        raise RecordError("signals: at least one must move, none did; give other columns")
    mine = tuple(
        name
        for i, name in enumerate(record.names)
        if i in settings or any(each.rpartition(":")[0] == name for each in names)
    )
    record, kept_regimes = _narrow(record, mine, regimes)
    plan = FeaturePlan(mine, tuple(names), grid.period_s or 1.0, grid.cells, 1, kept_regimes)
    x, ready = describe(record, plan, grid, keep=rows)
    moves = _moving(x[ready])
    plan = replace(plan, names=tuple(n for n, good in zip(names, moves, strict=True) if good))
    x = x[:, moves]
    notes = [f"left out, never moves: {', '.join(still)}"] if still else []
    if numbers:
        notes.append(f"left out, only numbers the rows: {', '.join(numbers)}")
    if counters:
        notes.append(
            f"left out, only counts up, so its next values are all new: {', '.join(counters)}"
        )
    words = {
        column: len(record.categories[name.rpartition(":")[0]])
        for column, name in enumerate(plan.names)
        if 2 < len(record.categories.get(name.rpartition(":")[0], ())) <= 32
    }
    return Inputs(plan, grid, words=words), x, ready, notes


def _is_row_number(column: NDArray[np.float64]) -> bool:
    """Whether a column goes up by the same step from each row to the next: it names rows."""
    step = np.diff(column)
    return len(step) >= ROW_NUMBERS_MIN and bool((step == step[0]).all()) and step[0] != 0


def _only_rises(record: Record, signal: int) -> bool:
    """Whether a signal of one sequence counts up and never back: a date, a batch number."""
    column = record.values[:, signal]
    known = column[~np.isnan(column)]
    return is_counter(column, record.group) and bool((np.diff(known) >= 0).all())


def pair_candidates(inputs: Inputs, strength: NDArray[np.float64]) -> Pairs:
    """Pairs of columns worth multiplying and subtracting: levels of the strongest signals.

    Args:
        inputs: As chosen.
        strength: float64[d], how much each column matters by itself.
    """
    fit = [
        column
        for column, name in enumerate(inputs.plan.names)
        if name.rpartition(":")[2] in {"last", "level", "level_4"} and column not in inputs.words
    ]
    by_signal: dict[str, int] = {}
    for column in sorted(fit, key=lambda c: -strength[c]):
        by_signal.setdefault(inputs.plan.names[column].rpartition(":")[0], column)
    best = sorted(list(by_signal.values())[:PAIR_SIGNALS_MAX])
    return tuple(combinations(best, 2))


def _narrow(
    record: Record, names: tuple[str, ...], regimes: Regimes | None
) -> tuple[Record, Regimes | None]:
    """The record and its conditions with these signals only."""
    if regimes is None:
        return record.select(names), None
    at = [record.names.index(name) for name in names]
    settings = tuple(at.index(i) for i in regimes.settings)
    narrowed = Regimes(
        settings, regimes.centre, regimes.scale, regimes.mean[:, at], regimes.spread[:, at]
    )
    return record.select(names), narrowed


def _is_event(known: NDArray[np.float64]) -> bool:
    """Mostly 0, whole numbers elsewhere: a count of errors, repairs, switchings."""
    return bool(
        (known == 0).mean() >= EVENT_ZEROS
        and (known >= 0).all()
        and np.array_equal(known, np.round(known))
    )


def _moving(x: Features) -> NDArray[np.bool_]:
    """bool[d], columns that are not the same in every row."""
    with np.errstate(all="ignore"):
        spread = np.nanstd(x.astype(np.float64), axis=0)
        size = np.nanmax(np.abs(x), axis=0, initial=0.0)
    return np.asarray(np.nan_to_num(spread) > 1e-7 * np.maximum(np.nan_to_num(size), 1e-30))
