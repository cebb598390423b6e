"""Makes a failure or remaining-life graph ready to be written: int8, golden vectors, manifest."""

import hashlib
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import quantise
from models.bundle import Golden
from models.features.plan import FeaturePlan
from models.graph import Graph
from models.manifest import Manifest, Signal, Window
from models.record import Record
from models.training.grid import judged_cells
from models.training.inputs import Features, Inputs
from models.training.trained import Trained

GOLDEN_ROWS = 48


def finish(
    inputs: Inputs,
    graph: Graph,
    x: Features,
    record: Record,
    manifest: dict[str, Any],
    notes: Sequence[str],
    *,
    calm: NDArray[np.bool_],
    seed: int,
    precision: str,
    created: datetime | None,
    name: str,
) -> Trained:
    """Quantise, make golden vectors, and fill in the part of the manifest that is not the kind's.

    Args:
        inputs: What the graph begins with.
        graph: Complete.
        x: float32[n, d], the training rows.
        record: For the signals' units and ranges, and the data's hash.
        manifest: The kind's own fields.
        notes: Go to the user.
        calm: bool[n], rows in which nothing was wrong; what is usual is told by them.
        seed: Of the golden rows.
        precision: `fp32` puts the float32 graph in the int8 member's place.
        created: For the manifest; now if None.
        name: Begins the bundle's id.
    """
    model = graph.model()
    random = np.random.default_rng(seed)
    some = x[random.choice(len(x), size=min(len(x), 4096), replace=False)]
    small = model if precision == "fp32" else quantise.quantise(model, some, ranges=graph.ranges)
    fp32, int8 = model.SerializeToString(), small.SerializeToString()
    rows = quantise.golden_rows(x, GOLDEN_ROWS, seed=seed)
    golden = Golden(rows, quantise.run(int8, rows), quantise.run(fp32, rows))
    when = created or datetime.now(UTC)
    digest = hashlib.sha256(np.ascontiguousarray(record.values).tobytes()).hexdigest()
    low, high = _range(record)
    plan = inputs.plan
    signals = tuple(
        Signal(
            name=signal,
            unit=record.units[i],
            low=low[i],
            high=high[i],
            categories=record.categories.get(signal, ()),
        )
        for signal in plan.signals
        for i in [record.names.index(signal)]
    )
    grid = inputs.grid
    detail = dict(manifest.pop("detail", {}))
    detail["stale_cells"] = grid.stale_cells
    if plan.regimes is not None:
        detail["regimes"] = plan.regimes.pack()
    else:
        detail["healthy"] = _usual(plan, x[calm], {s.name: s.unit for s in signals})
    names = plan.names
    for what, pairs in (("products", inputs.products), ("differences", inputs.differences)):
        if pairs:
            detail[what] = [[names[a], names[b]] for a, b in pairs]
    filled = Manifest(
        id=f"{name}-{when:%Y%m%dT%H%M%S}-{digest[:8]}",
        created=when,
        signals=signals,
        window=Window(
            rows=grid.rows,
            period_s=grid.period_s,
            cells=grid.cells,
            hop_cells=judged_cells(grid),
            stale_s=grid.period_s * grid.stale_cells if grid.period_s else None,
        ),
        features=plan.names,
        data_sha256=digest,
        libraries={
            each: version(each) for each in ("scikit-learn", "onnx", "onnxruntime", "numpy")
        },
        detail=detail,
        **manifest,
    )
    return Trained(filled, int8, fp32, golden, tuple(notes))


def _usual(plan: FeaturePlan, x: Features, units: dict[str, str]) -> list[dict[str, object]]:
    """Each feature's 1st and 99th percentile, for `models.explain`; none where conditions are taken
    out, whose numbers no operator reads."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        low, high = np.nan_to_num(np.nanquantile(x.astype(np.float64), [0.01, 0.99], axis=0))
    return [
        {
            "feature": name,
            "unit": units[name.rpartition(":")[0]],
            "low": float(low[i]),
            "high": float(high[i]),
        }
        for i, name in enumerate(plan.names)
    ]


def _range(record: Record) -> tuple[list[float | None], list[float | None]]:
    low: list[float | None] = []
    high: list[float | None] = []
    for column in record.values.T:
        known = column[np.isfinite(column)]
        low.append(float(known.min()) if len(known) else None)
        high.append(float(known.max()) if len(known) else None)
    return low, high
