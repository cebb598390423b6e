"""Makes a failure or remaining-life graph ready to be written: its members, then its manifest."""

import hashlib
import warnings
from importlib.metadata import version
from typing import Any

import numpy as np

from models import quantise
from models.bundle import Golden
from models.features.plan import FeaturePlan
from models.graph import Graph
from models.manifest import Manifest, Signal, Window
from models.record import Record
from models.training.grid import judged_cells
from models.training.inputs import Features, Inputs
from models.training.nameplate import Nameplate

GOLDEN_ROWS = 48


def members(graph: Graph, x: Features, *, precision: str, seed: int) -> tuple[bytes, bytes, Golden]:
    """The int8 graph, the float32 graph that it was made from, and their golden vectors.

    Args:
        graph: Complete.
        x: float32[n, d], the training rows.
        precision: `fp32` puts the float32 graph in the int8 member's place.
        seed: Of the rows that are taken.
    """
    model = graph.model()
    random = np.random.default_rng(seed)
    some = x[random.choice(len(x), size=min(len(x), 4096), replace=False)]
    small = model if precision == "fp32" else quantise.quantise(model, some, ranges=graph.ranges)
    fp32, int8 = model.SerializeToString(), small.SerializeToString()
    rows = quantise.golden_rows(x, GOLDEN_ROWS, seed=seed)
    return int8, fp32, Golden(rows, quantise.run(int8, rows), quantise.run(fp32, rows))


def manifest(
    inputs: Inputs,
    record: Record,
    calm: Features,
    nameplate: Nameplate,
    *,
    kind: str,
    detail: dict[str, Any],
    **own: Any,
) -> Manifest:
    """The manifest of a failure or remaining-life model.

    Args:
        inputs: What the graph begins with.
        record: For the signals' units and ranges, and the data's hash.
        calm: float32[n, d], rows in which nothing was wrong; they say what is usual.
        nameplate: What is told of the model.
        kind: Of model.
        detail: What only this kind needs.
        own: The kind's other fields: state, outputs, labels, metrics.
    """
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
    detail = {**nameplate.detail, **detail, "stale_cells": grid.stale_cells}
    if plan.regimes is not None:
        detail["regimes"] = plan.regimes.pack()
    else:
        detail["healthy"] = _usual(plan, calm, {s.name: s.unit for s in signals})
    names = plan.names
    for what, pairs in (("products", inputs.products), ("differences", inputs.differences)):
        if pairs:
            detail[what] = [[names[a], names[b]] for a, b in pairs]
    return Manifest(
        **nameplate.fields(kind, digest),
        signals=signals,
        window=Window(
            rows=grid.rows,
            period_s=grid.period_s,
            cells=grid.cells,
            hop_cells=judged_cells(grid),
            stale_s=grid.period_s * grid.stale_cells if grid.period_s else None,
        ),
        features=plan.names,
        libraries={
            each: version(each) for each in ("scikit-learn", "onnx", "onnxruntime", "numpy")
        },
        detail=detail,
        **own,
    )


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
