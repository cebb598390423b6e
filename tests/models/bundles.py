"""A small real bundle for tests: random weights, both graphs, golden vectors."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from models import bundle, quantise
from models.bundle import Golden
from models.graph import Graph
from models.manifest import Limit, Manifest, Signal, Window

D = 12


def manifest(**changes: object) -> Manifest:
    given = {
        "id": "pump-0123abcd",
        "kind": "failure",
        "asset_class": "pump",
        "created": datetime(2026, 11, 20, 8, 0, tzinfo=UTC),
        "state": "active",
        "signals": tuple(Signal(name=f"s{i}", unit="K", low=0, high=1) for i in range(D)),
        "window": Window(period_s=1.0, cells=30, hop_cells=1, stale_s=5.0),
        "features": tuple(f"s{i}:mean" for i in range(D)),
        "limit": Limit(value=0.5, false_alarms="1/30d"),
        "outputs": ("probability",),
        "labels": ("bearing",),
    }
    return Manifest.model_validate(given | changes)


def parts(seed: int = 0, hidden: int = 32) -> tuple[bytes, bytes, Golden]:
    random = np.random.default_rng(seed)
    x = (100 + 5 * random.normal(size=(400, D))).astype(np.float32)
    graph = Graph("test", D)
    z, _ = graph.prepare(graph.x, np.full(D, 100.0), np.full(D, 5.0))
    for wide, narrow, activation in ((D, hidden, "Relu"), (hidden, 16, "Relu"), (16, 1, "Sigmoid")):
        weight = random.normal(size=(wide, narrow)) / np.sqrt(wide)
        z = graph.dense(z, weight, 0.1 * random.normal(size=narrow), activation)
    graph.output(z, "probability", ["n", 1])
    fp32 = graph.model()
    int8 = quantise.quantise(fp32, x)
    rows = quantise.golden_rows(x)
    golden = Golden(rows, quantise.run(int8, rows), quantise.run(fp32, rows))
    return int8.SerializeToString(), fp32.SerializeToString(), golden


def make(path: Path, **changes: object) -> bundle.Bundle:
    return bundle.write(path, manifest(**changes), *parts())
