"""Replays a record through a bundle as the gateway would have: each row sees only rows up to it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from models.errors import BundleError, RecordError
from models.ewma import Ewma
from models.features.plan import FeaturePlan
from models.follow import Bounds, Follow, turn_of
from models.manifest import DEADBAND, Manifest
from models.record import RUNNING, Record
from models.runtime import open_session
from models.sensors import Sensors
from models.start import Start
from models.strays import RESIDUAL, Blame, Strays, eased
from models.windows import Grid, features, rows_per_cell

COVERAGE_MIN = 0.5
"""With fewer of its cells filled, a window gets no verdict."""
HELD_CELLS_MAX = 1 << 14
CHUNK_ROWS = 8192
TOP = 3


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """The verdict on each of `n` rows.

    Attributes:
        score: float32[n], with what is remembered of the rows before; NaN before the first full
            window and where there is too little data.
        limit: float32[n], what the score is compared with; lower while the verdict stands.
        coverage: float32[n], share of cells that hold a sample; NaN before the first full window.
        contribution: float32[n, k], share of the score by signal.
        direction: int8[n, k], +1 higher than expected, -1 lower, 0 changed otherwise.
        signals: The `k` signals.
        features: float32[n, d], in the order of the manifest.
    """

    score: NDArray[np.float32]
    limit: NDArray[np.float32]
    coverage: NDArray[np.float32]
    contribution: NDArray[np.float32]
    direction: NDArray[np.int8]
    signals: tuple[str, ...]
    features: NDArray[np.float32]

    @property
    def anomalous(self) -> NDArray[np.bool_]:
        """bool[n], the score is above the limit."""
        out: NDArray[np.bool_] = np.nan_to_num(self.score, nan=0.0) > self.limit
        return out

    def top(self, row: int) -> tuple[str, ...]:
        """The signals that carry the score of one row, the strongest first."""
        share = self.contribution[row]
        if not np.isfinite(self.score[row]):
            return ()
        order = np.argsort(-share, kind="stable")[:TOP]
        return tuple(self.signals[i] for i in order if share[i] >= 0.1) or (
            self.signals[int(order[0])],
        )


def grid_of(manifest: Manifest) -> Grid:
    """The grid that a model was trained on."""
    window = manifest.window
    period_s = window.period_s
    stale = int(manifest.detail.get("stale_cells", 3))
    if window.stale_s is not None and period_s:
        stale = max(1, round(window.stale_s / period_s))
    held = held_cells(manifest)
    return Grid(window.rows, period_s, window.cells, window.hop_cells, stale, held)


def held_cells(manifest: Manifest) -> tuple[int, ...]:
    """For each signal, the cells that a sample of it fills; empty where they do not differ.

    Raises:
        BundleError: The bundle holds something else.
    """
    held = manifest.detail.get("held_cells") or ()
    if held and (
        len(held) != len(manifest.signals)
        or not all(isinstance(cells, int) and 0 < cells <= HELD_CELLS_MAX for cells in held)
    ):
        raise BundleError(
            f"{manifest.id}: detail.held_cells must be a number of cells for each signal, 1 to"
            f" {HELD_CELLS_MAX}, was {held!r}; train the model anew"
        )
    return tuple(held)


def score(
    bundle: Bundle,
    record: Record,
    *,
    device: str = "cpu",
    precision: Literal["int8", "fp32"] = "int8",
    follow: bool = False,
) -> Scored:
    """Score every row of a record.

    Args:
        bundle: An anomaly model.
        record: Must have the model's signals; other columns are ignored.
        device: As for `models.runtime.open_session`.
        precision: Which of the bundle's graphs runs.
        follow: Follow slow healthy change as the gateway does, each sequence from a fresh start.

    Raises:
        RecordError: A signal is missing or in another unit; the model is of another kind; or there
            is nothing to follow by.
    """
    manifest = bundle.manifest
    if manifest.kind != "anomaly" or manifest.limit is None:
        raise RecordError(f"{bundle.id}: must be an anomaly model, was {manifest.kind}")
    fit_signals(manifest, record.names, record.units)
    plan = FeaturePlan.from_manifest(manifest)
    mine = record.select(plan.signals).without(manifest.detail.get("no_value", {}))
    grid = grid_of(manifest).every_cell()
    if not grid.rows and mine.time_s is None:
        raise RecordError(
            f"{bundle.id}: windows are {grid.cells} x {grid.period_s} s, so the record needs a "
            "time column; name it with --time"
        )
    n, k = mine.values.shape
    out = np.full(n, np.nan, np.float32)
    contribution = np.full((n, k), np.nan, np.float32)
    direction = np.zeros((n, k), np.int8)
    held_sensors = manifest.detail.get("sensors")
    sensors = Sensors.unpack(held_sensors) if held_sensors else None
    x, coverage = features(mine, plan, grid, sensors=sensors)
    cover = coverage.mean(axis=1)
    cells = 1.0 / rows_per_cell(mine, grid)
    still = stood(record, manifest, grid)
    ready = (cover >= COVERAGE_MIN) & ~still
    begins = _begins(record, ready, still)
    ewma, start, strays = Ewma.of(manifest), Start.of(manifest), Strays.of(manifest)
    blame = Blame.of(manifest.features, plan.signals) if strays is not None else None
    session = open_session(bundle, device, precision=precision)
    try:
        for at, machine in _chunks(
            ready, mine, _bounds(bundle, mine) if follow else None, ewma, strays
        ):
            follower = machine.follower
            seen = np.ascontiguousarray(x[at])
            if follower is not None:
                seen = follower.corrected(np.zeros(len(at), np.int64), seen)
            made = session.run(seen)
            if start is not None:
                weighed = start.along(machine.since, made["score"], begins[at], cells)
                if strays is not None:
                    made[RESIDUAL] = eased(made[RESIDUAL], made["score"], weighed)
                made["score"] = weighed
            out[at] = (
                made["score"] if ewma is None else ewma.along(machine.level, made["score"], cells)
            )
            contribution[at] = made["contribution"]
            direction[at] = np.sign(made["direction"]).astype(np.int8)
            if strays is not None and blame is not None:
                lasts, levels = strays.along(machine.astray, made[RESIDUAL], made["score"], cells)
                by = np.flatnonzero(lasts > out[at])
                out[at] = np.fmax(out[at], lasts)
                share, side = blame.blamed(strays.astray(levels[by]))
                contribution[at[by]], direction[at[by]] = share, side
            if follower is not None:
                assert mine.time_s is not None
                t_ns = (mine.time_s[at] * 1e9).astype(np.int64)
                # By each window alone: a season must be followed before what lasts of it counts.
                alone = made["score"] / np.float32(manifest.limit.value)
                over = out[at] > manifest.limit.value
                none = np.zeros(len(at), np.int64)
                follower.saw(none, t_ns, alone, direction[at], alarmed=over)
    finally:
        session.close()
    limit = np.full(n, manifest.limit.value, np.float32)
    for _, rows in mine.sequences():
        limit[rows] = held(out[rows], manifest.limit.value)
    return Scored(out, limit, cover, contribution, direction, plan.signals, x)


def stood(record: Record, manifest: Manifest, grid: Grid) -> NDArray[np.bool_]:
    """bool[n], the machine stood still within the row's window, or just before it.

    Raises:
        RecordError: The model judges a machine only while it runs, and nothing tells that here.
    """
    rule, n = manifest.detail.get("running"), len(record)
    out = np.zeros(n, np.bool_)
    if not rule:
        return out
    if RUNNING not in record.names:
        raise RecordError(
            f"{manifest.id}: judges a machine only while {rule}, so the record needs {RUNNING!r}"
        )
    runs = np.nan_to_num(record.values[:, record.names.index(RUNNING)]) > 0
    reach = grid.cells + grid.stale_cells
    for _, rows in record.sequences():
        at = np.arange(len(rows), dtype=np.float64)
        if not grid.rows and record.time_s is not None and grid.period_s:
            at = record.time_s[rows] / grid.period_s
        last = np.maximum.accumulate(np.where(runs[rows], -1, np.arange(len(rows))))
        out[rows] = (last >= 0) & (at - at[np.maximum(last, 0)] < reach)
    return out


def _begins(
    record: Record, ready: NDArray[np.bool_], still: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """bool[n], the first row of a run that can be judged: of a sequence, or after a standstill."""
    out = np.zeros(len(record), np.bool_)
    for _, rows in record.sequences():
        mine, stops = rows[ready[rows]], np.cumsum(still[rows])[ready[rows]]
        out[mine] = np.diff(stops, prepend=-1) > 0
    return out


def _bounds(bundle: Bundle, record: Record) -> Bounds:
    bounds = Bounds.of(bundle.manifest)
    if bounds is None or record.time_s is None:
        lacks = "this record has no time" if bounds else "its training measured no spreads"
        raise RecordError(f"{bundle.id}: cannot follow slow change: {lacks}")
    return bounds


@dataclass(frozen=True, slots=True, eq=False)
class _Machine:
    """What is known of the machine of one sequence, carried on from part to part.

    Attributes:
        follower: What follows its slow change; None where nothing does.
        level: float64[1], how strange it has been.
        astray: float64[1, 2, f], how far its signals have strayed.
        since: float64[1], cells since its start.
    """

    follower: Follow | None
    level: NDArray[np.float64]
    astray: NDArray[np.float64]
    since: NDArray[np.float64]


def _chunks(
    ready: NDArray[np.bool_],
    record: Record,
    bounds: Bounds | None,
    ewma: Ewma | None,
    strays: Strays | None,
) -> Iterator[tuple[NDArray[np.int64], _Machine]]:
    """The rows to score, some of one sequence at a time, and what is known of its machine.

    Where change is followed, one step of it at a time.
    """
    for _, rows in record.sequences():
        mine = rows[ready[rows]]
        machine = _Machine(
            follower=Follow(bounds, 1) if bounds is not None else None,
            level=ewma.begin(1) if ewma is not None else np.empty(0),
            astray=strays.begin(1) if strays is not None else np.empty(0),
            since=np.full(1, np.inf),
        )
        cut = np.arange(CHUNK_ROWS, len(mine), CHUNK_ROWS)
        if machine.follower is not None:
            assert record.time_s is not None
            cut = np.flatnonzero(np.diff(turn_of((record.time_s[mine] * 1e9).astype(np.int64)))) + 1
        for part in np.split(mine, cut):
            if len(part):
                yield part, machine


def held(score: NDArray[np.float32], limit: float) -> NDArray[np.float32]:
    """The limit that applies to each row of one sequence, lower while a verdict stands.

    Args:
        score: float32[n], oldest first; NaN takes a verdict back.
        limit: At which a verdict begins.

    Returns:
        float32[n], `limit` or `limit` less the deadband.

    >>> held(np.array([1, 3, 1.7, 1.5, 1.7], np.float32), 2.0)
    array([2. , 2. , 1.6, 1.6, 2. ], dtype=float32)
    """
    low = np.float32((1.0 - DEADBAND) * limit)
    known = np.nan_to_num(score, nan=0.0)
    # What a row decides by itself: above the limit begins, at or below the lower one ends.
    decided = np.where(known > np.float32(limit), 1, np.where(known <= low, 0, -1))
    at = np.maximum.accumulate(np.where(decided >= 0, np.arange(len(score)), -1))
    on = np.where(at >= 0, decided[np.maximum(at, 0)], 0) == 1
    before = np.concatenate([[False], on[:-1]]) if len(on) else on
    return np.where(before, low, np.float32(limit)).astype(np.float32)


def fit_signals(manifest: Manifest, names: tuple[str, ...], units: tuple[str, ...]) -> None:
    """Refuse a model for other signals or units than those that are there.

    Raises:
        RecordError: Names every signal that is missing and every unit that differs.
    """
    there = dict(zip(names, units, strict=True))
    missing = [s.name for s in manifest.signals if s.name not in there]
    odd = [
        f"{s.name} is in {there[s.name]}, the model wants {s.unit}"
        for s in manifest.signals
        if s.unit and there.get(s.name, "") and there[s.name] != s.unit
    ]
    wrong = ([f"no signal {', '.join(missing)}"] if missing else []) + odd
    if wrong:
        raise RecordError(
            f"{manifest.id}: does not fit: {'; '.join(wrong)} (there are {', '.join(names)})"
        )
