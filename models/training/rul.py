"""Learns from machines that ran until they failed how long another one has left."""

import math
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import quantise
from models.errors import RecordError
from models.features import regimes as conditions
from models.graph import Graph
from models.record import Record
from models.training import grid as grids
from models.training import learners, mixture, rates
from models.training.inputs import Features, Inputs, choose, finish
from models.training.trained import Trained
from models.windows import Grid

ROWS_MAX = 30_000
"""Rows to learn from; longer records are thinned evenly."""
CELLS = 60
"""Averages of so many cells tell wear from noise; a third of the shortest life, if that is less."""
CAP_SHARE = 0.6
"""Without --cap: the target is flat above this share of the median life."""
COVER = 0.8
"""Share of machines whose true remaining life lies between `low` and `high`."""
KNOTS = 6
EARNED_MIN = {"boosted": 0.1}
"""Share of the squared error that trees must take off: they take ten times as long as the net."""

Floats = NDArray[np.float64]


def train(
    record: Record,
    *,
    window: str | None = None,
    cap: float | None = None,
    seed: int = 0,
    precision: str = "int8",
    asset_class: str = "",
    name: str = "rul",
    created: datetime | None = None,
    detail: dict[str, Any] | None = None,
) -> Trained:
    """Train on sequences that each end in a failure.

    Args:
        record: One sequence a machine, to its end.
        window: `60rows`, `2h`; None to choose.
        cap: Largest remaining life that is told apart, in rows; None to choose from the lives.
        seed: Of everything random.
        precision: `int8`, or `fp32` where int8 is not wanted.
        asset_class: Kind of machine, for the manifest.
        name: Begins the bundle's id.
        created: For the manifest; now if None.
        detail: Goes into the manifest as it is (derived signals).

    Raises:
        RecordError: Fewer than four sequences, or nothing in them moves.
    """
    lives = np.array([len(rows) for _, rows in record.sequences()])
    if len(lives) < 4:
        raise RecordError(
            f"group: needs at least 4 sequences that ran to failure, were {len(lives)}; "
            "name the column that tells the machines apart with --group"
        )
    grid = _grid(record, window, lives)
    chosen_cap = float(cap) if cap is not None else float(np.round(CAP_SHARE * np.median(lives)))
    left = np.empty(len(record))
    for _, rows in record.sequences():
        left[rows] = np.minimum(np.arange(len(rows))[::-1], chosen_cap)
    keep = np.zeros(len(record), bool)
    keep[:: max(1, -(-len(record) // ROWS_MAX))] = True
    found = conditions.find(record.values, record.group)
    inputs, x, ready, notes = choose(record, grid, regimes=found, rows=keep)
    if found is not None:
        held = ", ".join(record.names[i] for i in found.settings)
        notes.append(f"{len(found.centre)} operating conditions, told apart by {held}")
    inputs = inputs.fitted(x[ready])
    z, y, group = inputs.standard(x[ready]), left[ready], record.group[ready]
    folds = mixture.folds_of(group)
    mixed, unseen, told = mixture.mix(
        learners.REGRESSORS, z, y, folds, task="regress", seed=seed, earned_min=EARNED_MIN
    )
    unseen = np.clip(unseen, 0, chosen_cap)
    band = _band(unseen, y, chosen_cap, len(lives))
    graph = Graph("rul", len(inputs.plan.names))
    _emit(graph, mixed, inputs, band, chosen_cap)
    metrics: dict[str, Any] = {
        "unseen_rmse": _rmse(unseen, y),
        "unseen_rmse_by_learner": {
            each: _rmse(np.clip(s, 0, chosen_cap), y) for each, s in told.items()
        },
        "unseen_covered": _covered(unseen, y, band),
        "learners": dict(zip(mixed.names, map(float, mixed.weight), strict=True)),
        "sequences": len(lives),
        "rows": len(y),
        "split": "whole sequences, 4 folds",
    }
    trained = finish(
        inputs,
        graph,
        x[ready],
        record,
        {
            "kind": "rul",
            "asset_class": asset_class,
            "state": "active",
            "outputs": ("rul",),
            "labels": ("rul", "low", "high"),
            "metrics": metrics,
            "detail": (detail or {}) | {"cap": chosen_cap, "cover": COVER, "row_s": grid.period_s},
        },
        notes,
        calm=np.asarray(y >= chosen_cap if (y >= chosen_cap).any() else y > 0, bool),
        seed=seed,
        precision=precision,
        created=created,
        name=name,
    )
    return _with_parity(trained, x[ready], y)


def _grid(record: Record, window: str | None, lives: NDArray[np.int64]) -> Grid:
    """A window of 60 rows, or a third of the shortest life; or what was asked for."""
    period_s, regular = rates.sampling(record)
    if window is None:
        cells, rows = max(1, min(CELLS, int(lives.min()) // 2)), True
    else:
        cells, rows = grids.span(window, "window", period_s)
    return Grid(rows or not regular, period_s, cells, 1, 3)


def _band(unseen: Floats, y: Floats, cap: float, machines: int) -> tuple[Floats, Floats, Floats]:
    """Knots of the predicted life, and what to add there for `low` and `high`.

    Quantiles of the error on machines not seen, in bins of the prediction: conformal, made local.
    A machine more than were seen is what counts, so few machines give a wider band.
    """
    cover = min(1.0, math.ceil((machines + 1) * COVER) / machines)
    knots = np.linspace(0, cap, KNOTS)
    low, high = np.zeros(KNOTS), np.zeros(KNOTS)
    half = cap / (KNOTS - 1)
    for i, knot in enumerate(knots):
        near = np.abs(unseen - knot) <= half
        error = (y - unseen)[near] if near.sum() >= 30 else y - unseen
        low[i], high[i] = np.quantile(error, [(1 - cover) / 2, (1 + cover) / 2])
    return knots, np.minimum(low, 0), np.maximum(high, 0)


def _covered(unseen: Floats, y: Floats, band: tuple[Floats, Floats, Floats]) -> float:
    knots, low, high = band
    above = y >= unseen + np.interp(unseen, knots, low) - 1e-9
    below = y <= unseen + np.interp(unseen, knots, high) + 1e-9
    return float((above & below).mean())


def _emit(
    graph: Graph,
    mixed: mixture.Mix,
    inputs: Inputs,
    band: tuple[Floats, Floats, Floats],
    cap: float,
) -> None:
    zero, top = graph.constant(0.0), graph.constant(cap)
    raw = mixed.emit(graph, inputs.emit(graph))
    life = graph.node("Clip", raw, zero, top)
    knots, low, high = band
    steps = graph.node("Sub", life, graph.constant(knots[None, :-1]))
    bent = graph.node("Relu", steps)
    columns = [life]
    for at_knot in (low, high):
        # A line through the knots is a sum of hinges, one at each change of slope.
        slope = np.diff(at_knot) / np.diff(knots)
        hinge = np.diff(slope, prepend=0.0)[:, None]
        moved = graph.node("MatMul", bent, graph.constant(hinge), name=graph.name_exact())
        shifted = graph.node("Add", moved, graph.constant(float(at_knot[0])))
        columns.append(graph.node("Clip", graph.node("Add", life, shifted), zero, top))
    graph.output(graph.node("Concat", *columns, axis=1), "rul", ["n", 3])


def _with_parity(trained: Trained, x: Features, y: Floats) -> Trained:
    """int8 beside fp32 on the training rows, in the manifest."""
    some = slice(None, None, max(1, len(x) // 5000))
    int8 = quantise.run(trained.int8, x[some])["rul"][:, 0]
    fp32 = quantise.run(trained.fp32, x[some])["rul"][:, 0]
    parity = {
        "rows": len(int8),
        "rmse_int8": _rmse(int8, y[some]),
        "rmse_fp32": _rmse(fp32, y[some]),
        "difference_mean": float(np.abs(int8 - fp32).mean()),
        "difference_max": float(np.abs(int8 - fp32).max()),
    }
    return replace(trained, manifest=trained.manifest.model_copy(update={"parity": parity}))


def _rmse(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean((np.asarray(a, float) - b) ** 2)))
