"""Trains on healthy rows and writes one bundle."""

import hashlib
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import majority, pairs
from models.bundle import Golden
from models.features.burst import base_of
from models.features.catalogue import CATALOGUE
from models.features.plan import FeaturePlan
from models.manifest import Limit, Manifest, Signal, Window
from models.quantise import golden_rows, run
from models.record import Record
from models.sensors import Sensors
from models.strays import RESIDUAL
from models.training.detail import explained, following, operating
from models.training.detector_int8 import int8_of
from models.training.grid import judged_cells
from models.training.learn import learn
from models.training.limits import Say, nobody
from models.training.nameplate import NAMELESS, Nameplate
from models.training.screen import Screened
from models.training.trained import Trained
from models.windows import Grid, lay


def train(
    record: Record,
    *,
    window: str | None = None,
    hop: str | None = None,
    false_alarms: str = "1/30d",
    seed: int = 0,
    precision: str = "int8",
    nameplate: Nameplate = NAMELESS,
    say: Say = nobody,
) -> Trained:
    """Train on healthy rows.

    Args:
        record: Healthy rows of one kind of machine; sequences may be several machines or runs.
        window: `30s`, `30rows`; None to choose from the record.
        hop: The same for the step.
        false_alarms: The promise, such as `1/30d`.
        seed: Makes the golden rows and the limit's confidence reproducible.
        precision: What the int8 member holds: `int8`, or `fp32` where int8 is not wanted.
        nameplate: What the bundle is to say of itself.
        say: Is told how far it is.

    Raises:
        RecordError: The record does not allow it.
        ModelError: int8 would decide otherwise than fp32.
    """
    learned = learn(record, window=window, hop=hop, false_alarms=false_alarms, seed=seed, say=say)
    plan, grid, states, chosen = learned.plan, learned.grid, learned.states, learned.limit
    x = np.concatenate(learned.sequences)
    say("comparing int8 with float32")
    fp32, int8, parity = int8_of(learned, precision=precision, seed=seed)
    healthy = _healthy(plan, learned.screened.record, x[:, : states.whole.judged])
    golden = _golden(fp32, int8, x, seed)
    manifest = Manifest(
        **nameplate.fields("anomaly", _hash(learned.screened.record)),
        state="active" if chosen.supported else "shadow",
        signals=_signals(learned.screened.record),
        window=Window(
            rows=grid.rows,
            period_s=grid.period_s,
            cells=grid.cells,
            hop_cells=grid.hop_cells if hop else judged_cells(grid),
            stale_s=None if grid.period_s is None else grid.period_s * grid.stale_cells,
            recent_cells=grid.recent_cells or None,
        ),
        features=plan.names,
        limit=Limit(
            value=chosen.value,
            false_alarms=false_alarms,
            supported=chosen.supported,
            confidence=round(chosen.confidence, 3),
            how=chosen.how,
            reason=str(chosen.doubt or ""),
        ),
        outputs=OUTPUTS if learned.strays is None else (*OUTPUTS, RESIDUAL),
        metrics={
            "rows": len(record),
            "windows": int(sum(map(len, learned.sequences))),
            "sequences": len(learned.sequences),
            "held_out_maxima": [round(v, 4) for v in chosen.held_out[:64]],
            "held_out_median": round(float(np.nanmedian(np.concatenate(learned.scores))), 4),
        },
        parity=parity.as_json(),
        detail={
            **nameplate.detail,
            "healthy": healthy,
            "notes": list(learned.notes),
            "fixed": learned.screened.fixed,
            "doubt": asdict(chosen.doubt) if chosen.doubt else None,
            "stale_cells": grid.stale_cells,
            "held_cells": list(grid.held_cells),
            "usual": plan.usual,
            "levels": plan.levels,
            "conditions": [round(share, 4) for share in states.share],
            "operating": operating(states, plan),
            "follow": following(states, plan),
            "ewma": learned.ewma.pack() if learned.ewma else None,
            "strays": learned.strays.pack() if learned.strays else None,
            "start": learned.start.pack() if learned.start else None,
            "explained": [round(float(v), 4) for v in explained(states, plan)],
            **_neighbours(plan, x, learned.screened.record),
            "sensors": _sensors(learned.screened, grid).pack(),
            "independent": {
                name: round(float(value), 1)
                for name, value in zip(plan.names, states.whole.independent, strict=False)
                if np.isfinite(value)
            },
        },
        libraries={name: version(name) for name in ("numpy", "onnx", "onnxruntime", "scipy")},
    )
    return Trained(manifest, int8, fp32, golden, learned.notes)


OUTPUTS = ("score", "contribution", "direction")


def _golden(fp32: bytes, int8: bytes, x: NDArray[np.float32], seed: int) -> Golden:
    rows = golden_rows(x, seed=seed)
    # Beyond the healthy range too, since that is where it matters.
    spread = np.nanstd(x, axis=0)
    rows = np.concatenate([rows, rows[: len(rows) // 2] + 5 * spread]).astype(np.float32)
    return Golden(rows, run(int8, rows), run(fp32, rows))


def _sensors(screened: Screened, grid: Grid) -> Sensors:
    """What the sensors did in the rows that were learned from."""
    record = screened.record.rows(np.flatnonzero(~screened.leave))
    tables = [
        lay(record.values[at], None if record.time_s is None else record.time_s[at], grid).table
        for _, at in record.sequences()
    ]
    return Sensors.learn(tables, grid.cells)


def _neighbours(plan: FeaturePlan, x: NDArray[np.float32], record: Record) -> dict[str, Any]:
    """Which sensors tell on each other; parts of one waveform share its sensor, and are none."""
    units = ["" if base_of(n) else u for n, u in zip(record.names, record.units, strict=True)]
    level = [plan.names.index(f"{signal}:mean") for signal in plan.signals]
    levels = x[:, level].astype(np.float64)
    return {
        "pairs": [pair.pack() for pair in pairs.find(levels, units)],
        "majority": majority.find(levels, units).pack(),
    }


def _healthy(plan: FeaturePlan, record: Record, x: NDArray[np.float32]) -> list[dict[str, object]]:
    units = dict(zip(record.names, record.units, strict=True))
    low, high = np.nanquantile(x, [0.01, 0.99], axis=0)
    out: list[dict[str, object]] = []
    for index, name in enumerate(plan.names[: x.shape[1]]):
        signal, _, kind = name.rpartition(":")
        unit = CATALOGUE[kind].unit
        text = units[signal] if unit == "same" else unit
        out.append(
            {"feature": name, "unit": text, "low": float(low[index]), "high": float(high[index])}
        )
    return out


def _signals(record: Record) -> tuple[Signal, ...]:
    low, high = np.nanquantile(record.values, [0.001, 0.999], axis=0)
    return tuple(
        Signal(
            name=name,
            unit=unit,
            low=float(low[index]),
            high=float(high[index]),
            categories=record.categories.get(name, ()),
        )
        for index, (name, unit) in enumerate(zip(record.names, record.units, strict=True))
    )


def _hash(record: Record) -> str:
    digest = hashlib.sha256("\n".join(record.names).encode())
    digest.update(np.ascontiguousarray(record.values).tobytes())
    if record.time_s is not None:
        digest.update(np.ascontiguousarray(record.time_s).tobytes())
    return digest.hexdigest()
