"""Learns from machines that ran until they failed how long another one has left."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import quantise
from models.errors import RecordError
from models.features import regimes as conditions
from models.graph import Graph
from models.record import Record
from models.training import ends, learners, mixture, reach
from models.training.fading import told_share
from models.training.finish import manifest, members
from models.training.inputs import Features, Inputs
from models.training.label import lives as countdowns
from models.training.nameplate import NAMELESS, Nameplate
from models.training.trained import Trained

ROWS_MAX = 30_000
"""Rows to learn from; longer records are thinned evenly."""
FLAT_TIMES = 3.0
"""A machine's rows above the cap, which all say the same, count at most so many times the cap."""
SEQUENCES_MIN = 2
"""One to learn from and one to tell how wrong that is."""
COVER = 0.8
"""Share of machines whose true remaining life lies between `low` and `high`."""
STRETCH = {2: 2.0, 3: 1.5}
"""Machines -> how much wider than all that they were wrong by the interval is: so few show little
of what another may do (decision 058)."""
KNOTS = 6
ROWS_NEAR_MIN = 30
EARNED_MIN = {"boosted": 0.1}
"""Share of the squared error that trees must take off: they take ten times as long as the net."""
GAIN_MIN = 0.1
"""Share of the mean's squared error that a model must take off, to be more than chance."""
NO_BETTER = (
    "on machines not seen no better than always saying the mean, so in shadow: shown, but no alarms"
)

Floats = NDArray[np.float64]


def train(
    record: Record,
    *,
    window: str | None = None,
    cap: float | None = None,
    seed: int = 0,
    precision: str = "int8",
    nameplate: Nameplate = NAMELESS,
    named: Sequence[str] = (),
) -> Trained:
    """Train on sequences that each end in a failure.

    Args:
        record: One sequence a machine, to its end; or, with a label, the life that each row has
            left, in any unit (rows of a flight share their number of flights).
        window: `60rows`, `2h`; None to choose.
        cap: Largest remaining life that is told apart, in rows, or in the label's unit; None to
            choose from the lives.
        seed: Of everything random.
        precision: `int8`, or `fp32` where int8 is not wanted.
        nameplate: What the bundle is to say of itself.
        named: Signals that the user asked for by name; they stay, even if they count down.

    Raises:
        RecordError: Fewer than two sequences, several labels, or nothing in them moves.
    """
    lengths = np.array([len(rows) for _, rows in record.sequences()])
    if len(lengths) < SEQUENCES_MIN:
        raise RecordError(
            f"group: needs at least {SEQUENCES_MIN} sequences that ran to failure, were "
            f"{len(lengths)}; name the column that tells the machines apart with --group"
        )
    grids = reach.windows(record, window, lengths)
    record, notes = _with_label(record, named)
    left, lives = _left(record)
    found = conditions.find(record.values, record.group, record.words())
    if cap is None:
        share = told_share(record, left, found)
        cap = share * float(np.median(lives))
        cap = round(cap) if cap >= 10 else cap
        notes.append(
            f"lives are told apart up to {cap:g}, the last {share:.0%} of a median life, in which "
            "machines not seen show that they wear; name another with --cap"
        )
    cap = float(cap)
    left = np.minimum(left, cap)
    known = _telling(record, left, cap)
    keep = np.zeros(len(record), bool)
    keep[known[:: max(1, -(-len(known) // ROWS_MAX))]] = True
    inputs, x, ready, told = reach.farthest(record, grids, left, found, keep, seed)
    notes += told
    if found is not None:
        notes.append(conditions.told(found, record.names))
    inputs = inputs.fitted(x[ready])
    z, y, group = inputs.standard(x[ready]), left[ready], record.group[ready]
    folds = mixture.folds_of(group, whole=True)
    learned = mixture.mix(
        learners.REGRESSORS, z, y, folds, task="regress", seed=seed, earned_min=EARNED_MIN
    )
    unseen = np.clip(learned.unseen, 0, cap)
    band = _band(unseen, y, group, cap)
    graph = Graph("rul", len(inputs.plan.names))
    _emit(graph, learned.mix, inputs, band, cap)
    metrics: dict[str, Any] = {
        "unseen_rmse": _rmse(unseen, y),
        "unseen_rmse_by_learner": {
            each: _rmse(np.clip(s, 0, cap), y) for each, s in learned.by_learner.items()
        },
        "unseen_covered": _covered(unseen, y, band),
        "learners": learned.mix.shares(),
        "sequences": len(lengths),
        "rows": len(y),
        "split": f"whole sequences, {len(np.unique(folds))} folds",
    }
    flat = float(y.std())
    better = metrics["unseen_rmse"] ** 2 <= (1 - GAIN_MIN) * flat**2
    notes.append(
        f"on machines not seen wrong by {metrics['unseen_rmse']:.3g} (root mean square, of lives "
        f"up to {cap:g}; by always saying the mean {flat:.3g}); the interval holds "
        f"{metrics['unseen_covered']:.0%} of rows"
    )
    if not better:
        notes.append(NO_BETTER)
    notes += ends.unlike(learned.by_learner["boosted"], y, group, cap, record.groups)
    x = x[ready]
    told_of = manifest(
        inputs,
        record,
        x[y >= cap if (y >= cap).any() else y > 0],
        nameplate,
        kind="rul",
        state="active" if better else "shadow",
        outputs=("rul",),
        labels=("rul", "low", "high"),
        metrics=metrics,
        detail={"cap": cap, "cover": COVER, "row_s": _unit_s(record, left, inputs.grid.period_s)}
        | ({"label": next(iter(record.labels))} if record.labels else {}),
    )
    trained = Trained(told_of, *members(graph, x, precision=precision, seed=seed), tuple(notes))
    return _with_parity(trained, x, y)


def _with_label(record: Record, named: Sequence[str]) -> tuple[Record, list[str]]:
    """The record with the life that its rows have left as a label, if a column tells it.

    Raises:
        RecordError: Several labels.
    """
    if len(record.labels) > 1:
        raise RecordError(
            f"label: a remaining life needs one at most, were {', '.join(record.labels)}"
        )
    found = [name for name in countdowns(record) if name not in named]
    if not found:
        return record, []
    rest = record.select([name for name in record.names if name not in found])
    if record.labels or len(found) > 1:
        return rest, [f"left out, counts down to the end: {', '.join(found)}"]
    column = record.values[:, record.names.index(found[0])]
    note = f"{found[0]}: counts down to the end, so taken for --label, the life that is left"
    return replace(rest, labels={found[0]: column}), [note]


def _left(record: Record) -> tuple[Floats, list[float]]:
    """float64[n], the life that each row has left, NaN where unknown; and each sequence's whole."""
    parts = [rows for _, rows in record.sequences()]
    if record.labels:
        (left,) = record.labels.values()
        if not (left >= 0).any():
            raise RecordError(f"label: {', '.join(record.labels)} holds no remaining life")
        left = np.where(left >= 0, left, np.nan)
        return left, [float(np.nanmax(left[rows])) for rows in parts if (left[rows] >= 0).any()]
    left = np.empty(len(record))
    for rows in parts:
        left[rows] = np.arange(len(rows))[::-1]
    return left, [float(len(rows)) for rows in parts]


def _telling(record: Record, left: Floats, cap: float) -> NDArray[np.int64]:
    """Rows to learn from: those below the cap, and of each machine some of those above, evenly."""
    out = []
    for _, rows in record.sequences():
        flat, falling = rows[left[rows] >= cap], rows[left[rows] < cap]
        few = min(len(flat), int(FLAT_TIMES * len(falling)) or len(flat))
        out += [flat[np.linspace(0, len(flat) - 1, few).astype(np.int64)], falling]
    return np.sort(np.concatenate(out))


def _unit_s(record: Record, left: Floats, period_s: float | None) -> float | None:
    """Seconds that one of the target's unit takes: a row, or what the label counts in."""
    if period_s is None or not record.labels:
        return period_s
    falls = [
        (column.max() - column[-1]) / (len(column) - 1 - np.flatnonzero(column == column.max())[-1])
        for _, rows in record.sequences()
        for column in [left[rows][~np.isnan(left[rows])]]
        if len(column) and column[-1] < column.max()
    ]
    return period_s / float(np.median(falls)) if falls else None


def _band(
    unseen: Floats, y: Floats, group: NDArray[np.int64], cap: float
) -> tuple[Floats, Floats, Floats]:
    """Knots of the predicted life, and what to add there for `low` and `high`.

    Quantiles of the error on machines not seen, in bins of the prediction: conformal, made local.
    What comes is another machine, not another row: each machine has the same say, however long it
    lived, and one machine more than were seen is what counts, so few give a wider band.
    """
    knots = np.linspace(0, cap, KNOTS)
    low, high = np.zeros(KNOTS), np.zeros(KNOTS)
    half = cap / (KNOTS - 1)
    for i, knot in enumerate(knots):
        near = np.abs(unseen - knot) <= half
        if near.sum() < ROWS_NEAR_MIN:
            near[:] = True
        _, machine, rows = np.unique(group[near], return_inverse=True, return_counts=True)
        cover = min(1.0, COVER * (len(rows) + 1) / len(rows))
        share = 1 / rows[machine]
        ends = _quantiles((y - unseen)[near], share, (1 - cover) / 2, (1 + cover) / 2)
        low[i], high[i] = STRETCH.get(len(rows), 1.0) * np.array(ends)
    return knots, np.minimum(low, 0), np.maximum(high, 0)


def _quantiles(values: Floats, weight: Floats, *shares: float) -> list[float]:
    """The values below which these shares of the weight lie."""
    order = np.argsort(values)
    reached = np.cumsum(weight[order])
    at = np.searchsorted(reached, np.array(shares) * reached[-1] * (1 - 1e-12))
    return [float(values[order[min(i, len(order) - 1)]]) for i in at]


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
    """The life, `low` and `high`, each a line through the knots: a sum of hinges, one at each."""
    knots, low, high = band
    bent = graph.node("Relu", mixed.emit(graph, inputs.emit(graph), -knots))
    told = knots + np.stack([np.zeros(KNOTS), low, high])
    slope = np.diff(told, axis=1) / np.diff(knots)
    hinges = np.diff(slope, axis=1, prepend=0.0, append=0.0)
    lines = graph.node(
        "Gemm",
        bent,
        graph.constant(hinges.T),
        graph.constant(told[:, 0]),
        name=graph.name_exact(),
    )
    held = graph.node("Clip", lines, graph.constant(0.0), graph.constant(cap))
    graph.output(held, "rul", ["n", 3])


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
