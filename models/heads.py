"""Replays a record through a failure or remaining-life model; each row sees only rows up to it."""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from models.bundle import Bundle
from models.errors import RecordError
from models.features.plan import FeaturePlan
from models.manifest import Manifest
from models.record import Record
from models.runtime import Precision, open_session
from models.windows import Grid, lay

FIRST_CELLS = 10
"""A window with so many of its cells lived through is enough for a first answer."""
CHUNK_CELLS = 1 << 22
CHUNK_ROWS = 8192


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What the head says of each of `n` rows.

    Attributes:
        columns: Names of the `m` outputs.
        values: float32[n, m]; NaN before the first answer, infinite where a life may be longer
            than any that the model tells apart.
    """

    columns: tuple[str, ...]
    values: NDArray[np.float32]


def grid_of(manifest: Manifest) -> Grid:
    """The grid that a model was trained on."""
    window = manifest.window
    stale = int(manifest.detail.get("stale_cells", 3))
    if window.stale_s is not None and window.period_s:
        stale = max(1, round(window.stale_s / window.period_s))
    return Grid(window.rows, window.period_s, window.cells, 1, stale)


def answer(
    bundle: Bundle, record: Record, *, device: str = "cpu", precision: Precision | None = None
) -> Answers:
    """Ask a failure or remaining-life model about every row.

    Args:
        bundle: Of kind `failure` or `rul`.
        record: Must have the model's signals.
        device: As for `models.runtime.open_session`.
        precision: Which of the bundle's graphs runs.

    Raises:
        RecordError: A signal is missing, or the model is of another kind.
    """
    manifest = bundle.manifest
    if manifest.kind == "anomaly":
        raise RecordError(f"{bundle.id}: must be a failure or rul model, was {manifest.kind}")
    plan = FeaturePlan.from_manifest(manifest)
    mine = record.select(plan.signals).without(manifest.detail.get("no_value", {}))
    x, ready = describe(mine, plan, grid_of(manifest))
    at = np.flatnonzero(ready)
    name = manifest.outputs[0]
    values = np.full((len(record), len(manifest.labels)), np.nan, np.float32)
    session = open_session(bundle, device, precision=precision)
    try:
        for start in range(0, len(at), CHUNK_ROWS):
            rows = at[start : start + CHUNK_ROWS]
            values[rows] = session.run(np.ascontiguousarray(x[rows]))[name]
    finally:
        session.close()
    if manifest.kind == "rul":
        values = open_ended(manifest, values)
    return Answers(_columns(manifest), values)


def open_ended(manifest: Manifest, life: NDArray[np.float32]) -> NDArray[np.float32]:
    """Remaining lives as a model means them: a `high` at its cap is "or more", so infinite.

    Args:
        manifest: Of kind `rul`.
        life: float32[n, m], as its graph gives them.
    """
    column = manifest.labels.index("high")
    out = life.copy()
    out[life[:, column] >= np.float32(manifest.detail.get("cap", np.inf)), column] = np.inf
    return out


def _columns(manifest: Manifest) -> tuple[str, ...]:
    if manifest.kind == "rul":
        return manifest.labels
    if len(manifest.labels) == 1:
        return ("probability",)
    return tuple(f"p_{label}" for label in manifest.labels)


def describe(
    record: Record, plan: FeaturePlan, grid: Grid, *, keep: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The features of each row's window, also of windows that a sequence has not yet filled.

    Args:
        record: With the plan's signals, in its order.
        plan: What to compute.
        grid: Where the cells lie.
        keep: bool[n], compute only these rows.

    Returns:
        float32[n, d], NaN where there is no answer yet, and bool[n], where there is one.
    """
    n, _ = record.values.shape
    out = np.full((n, len(plan.names)), np.nan, np.float32)
    ready = np.zeros(n, bool)
    cells = grid.cells
    step = max(1, CHUNK_CELLS // max(1, record.values.shape[1] * cells))
    first = min(cells, FIRST_CELLS)
    restart = cells + grid.stale_cells
    for _, rows in record.sequences():
        time_s = None if record.time_s is None else record.time_s[rows]
        laid = lay(record.values[rows], time_s, grid)
        broken = np.diff(laid.cell, prepend=0) >= restart
        begun = np.maximum.accumulate(np.where(broken, laid.cell, 0))
        wanted = laid.cell - begun >= first - 1
        if keep is not None:
            wanted &= keep[rows]
        at = np.flatnonzero(wanted)
        ready[rows[at]] = True
        lead = np.full((cells - 1, laid.table.shape[1]), np.nan)
        table = np.concatenate([lead, laid.table])
        view = sliding_window_view(table, cells, axis=0)
        for start in range(0, len(at), step):
            chunk = at[start : start + step]
            window = view[laid.cell[chunk]].copy()
            window[:, :, -1] = laid.value[chunk]
            out[rows[chunk]] = plan.compute(window)
    return out, ready
