"""Learns what healthy is from a record, sets the limit, and writes one bundle."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from models import bundle
from models.errors import ModelError, RecordError
from models.features.catalogue import CATALOGUE, recent_cells
from models.features.plan import FeaturePlan
from models.graph import Graph
from models.quantise import golden_rows, quantise, run
from models.record import Record
from models.sensors import Sensors
from models.training import conditions, limits
from models.training import grid as grids
from models.training.conditions import Conditions
from models.training.detector import CLIP, POWER, Detector
from models.training.parity import Parity, measure
from models.training.screen import Screened, screen
from models.windows import Grid, features, lay

WINDOWS_MAX = 30_000
"""Windows to learn from; a longer record is thinned evenly."""
EXPLAINING, KNOWN = "explaining", "known"
assert POWER == 4, "the graph takes the square root twice"

FAULT_TIMES = 8.0
"""A stretch that scores so many times the usual is no healthy machine, and is trained around."""
FAULT_SHARE_MAX = 0.25
"""If more than this is strange, no part can be told to be the healthy one."""
CLIP_SCORED = 1e4
"""Standard deviations at which a feature counts no further; keeps its fourth power finite."""


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A model that is ready to be written.

    Attributes:
        manifest: Without the members' hashes, which writing adds.
        int8: The graph that runs.
        fp32: The graph that it was made from.
        golden: For the check at load.
        notes: What training found in the record, in words.
    """

    manifest: bundle.Manifest
    int8: bytes
    fp32: bytes
    golden: bundle.Golden
    notes: tuple[str, ...]

    def write(self, path: Path | str) -> bundle.Bundle:
        """Write the bundle."""
        return bundle.write(path, self.manifest, self.int8, self.fp32, self.golden)


def train(
    record: Record,
    *,
    window: str | None = None,
    hop: str | None = None,
    false_alarms: str = "1/30d",
    seed: int = 0,
    precision: str = "int8",
    asset_class: str = "",
    name: str = "anomaly",
    created: datetime | None = None,
    detail: dict[str, Any] | None = None,
) -> Trained:
    """Train on healthy rows.

    Args:
        record: Healthy rows of one kind of machine; sequences may be several machines or runs.
        window: `30s`, `30rows`; None to choose from the record.
        hop: The same for the step.
        false_alarms: The promise, such as `1/30d`.
        seed: Makes the golden rows and the limit's confidence reproducible.
        precision: What the int8 member holds: `int8`, or `fp32` where int8 is not wanted.
        asset_class: Kind of machine, for the manifest.
        name: Begins the bundle's id.
        created: For the manifest; now if None.
        detail: Goes into the manifest as it is (derived signals, categories).

    Raises:
        RecordError: The record does not allow it.
        ModelError: int8 would decide otherwise than fp32.
    """
    limits.budget_s(false_alarms)
    screened = screen(record)
    grid = grids.choose(screened.record, window=window, hop=hop)
    plan = plan_of(screened.record, grid)
    sequences, per_window, notes = _windows(screened, plan, grid)
    notes = [*screened.notes, *notes]
    floor, blocks = floors(plan, screened.step), blocks_of(plan)
    reach = max(1, per_window)
    scores = limits.held_out(sequences, floor, blocks, reach)
    sequences, scores, found = _around_faults(sequences, scores, floor, blocks, reach)
    notes += found
    count = conditions.choose(sequences, floor, blocks, reach)
    if count > 1:
        scores = limits.held_out(sequences, floor, blocks, reach, count)
    states = conditions.fit_conditions(sequences, floor, blocks, count, reach)
    model = states.whole
    if len(states.parts) > 1:
        notes.append(f"{len(states.parts)} operating conditions are told apart")
    longest = max(map(len, sequences))
    window_s = None if grid.period_s is None else grid.period_s * grid.cells
    chosen = limits.limit(
        scores,
        windows=longest / per_window + 1 if per_window else float(longest),
        per_window=max(1, per_window),
        window_s=window_s,
        promise=false_alarms,
        seed=seed,
    )
    x = np.concatenate(sequences)
    chosen, notes = _check_forward(chosen, sequences, floor, blocks, reach, count, notes)
    chosen, notes = _check_steady(chosen, model, plan, notes, found)
    fp32 = graph_of(states, plan)
    int8, parity = _int8(fp32, sequences, model, chosen.value, precision, seed)
    healthy = _healthy(plan, screened.record, x)
    golden = _golden(fp32, int8, x, seed)
    when = created or datetime.now(UTC)
    data_sha256 = _hash(screened.record)
    manifest = bundle.Manifest(
        id=f"{name}-{when:%Y%m%dT%H%M%S}-{data_sha256[:8]}",
        kind="anomaly",
        asset_class=asset_class,
        created=when,
        state="active" if chosen.supported else "shadow",
        signals=_signals(screened.record),
        window=bundle.Window(
            rows=grid.rows,
            period_s=grid.period_s,
            cells=grid.cells,
            hop_cells=grid.hop_cells,
            stale_s=None if grid.period_s is None else grid.period_s * grid.stale_cells,
        ),
        features=plan.names,
        limit=bundle.Limit(
            value=chosen.value,
            false_alarms=false_alarms,
            supported=chosen.supported,
            confidence=round(chosen.confidence, 3),
            how=chosen.how,
            reason=chosen.reason,
        ),
        outputs=OUTPUTS,
        metrics={
            "rows": len(record),
            "windows": int(sum(map(len, sequences))),
            "sequences": len(sequences),
            "held_out_maxima": [round(v, 4) for v in chosen.held_out[:64]],
            "held_out_median": round(float(np.nanmedian(np.concatenate(scores))), 4),
        },
        parity=parity.as_json(),
        detail={
            **(detail or {}),
            "healthy": healthy,
            "notes": notes,
            "stale_cells": grid.stale_cells,
            "conditions": [round(share, 4) for share in states.share],
            "sensors": _sensors(screened, grid).pack(),
            "independent": {
                name: round(float(value), 1)
                for name, value in zip(plan.names, model.independent, strict=True)
            },
        },
        data_sha256=data_sha256,
        libraries={name: version(name) for name in ("numpy", "onnx", "onnxruntime", "scipy")},
    )
    return Trained(manifest, int8, fp32.SerializeToString(), golden, tuple(notes))


OUTPUTS = ("score", "contribution", "direction")


def plan_of(record: Record, grid: Grid) -> FeaturePlan:
    """Mean and spread of each signal, over the window and over its newest eighth."""
    if grid.cells < 4:
        kinds: tuple[str, ...] = ("mean",)
    elif grid.cells < 16:
        kinds = ("mean", "spread")
    else:
        kinds = ("mean", "spread", "recent_mean", "recent_spread")
    # A word's index has no spread that means anything; that it changes is in its mean.
    names = tuple(
        f"{signal}:{kind}"
        for kind in kinds
        for signal in record.names
        if not (kind.endswith("spread") and signal in record.categories)
    )
    return FeaturePlan(record.names, names, grid.period_s or 1.0, grid.cells, grid.hop_cells)


def blocks_of(plan: FeaturePlan) -> tuple[NDArray[np.bool_], ...]:
    """Which features belong to the whole window, and which to its newest part."""
    recent = np.array([name.rpartition(":")[2].startswith("recent_") for name in plan.names])
    return (~recent, recent) if bool(recent.any()) else (~recent,)


def floors(plan: FeaturePlan, step: NDArray[np.float64]) -> NDArray[np.float64]:
    """The least standard deviation of each feature: what rounding alone makes of it."""
    at = {name: index for index, name in enumerate(plan.signals)}
    out = np.empty(len(plan.names))
    for index, name in enumerate(plan.names):
        signal, _, kind = name.rpartition(":")
        cells = recent_cells(plan.cells) if kind.startswith("recent_") else plan.cells
        # Rounding errors are uniform over a step; a mean over cells averages them out.
        out[index] = step[at[signal]] / np.sqrt(12.0 * cells)
    return np.maximum(out, 1e-12)


def _windows(
    screened: Screened, plan: FeaturePlan, grid: Grid
) -> tuple[list[NDArray[np.float32]], int, list[str]]:
    """Features of each unbroken stretch, and how many of them fall into one window's length."""
    record = screened.record
    every = max(1, -(-len(record) // (grid.hop_cells * WINDOWS_MAX)))
    x, coverage = features(record, plan, replace_hop(grid), every=every * grid.hop_cells)
    usable = np.isfinite(x).mean(axis=1) >= 0.5
    full = np.isfinite(coverage).any(axis=1)
    notes = []
    lost = float(np.mean(~usable[full])) if bool(full.any()) else 0.0
    if lost > 0.01:
        notes.append(f"{lost:.0%} of the windows hold too few samples and are left out")
    out = []
    for _, rows in record.sequences():
        # A window that reaches into rows to leave out is left out as well.
        bad = np.convolve(screened.leave[rows], np.ones(grid.cells))[: len(rows)] > 0
        good = rows[usable[rows] & ~bad]
        if len(good):
            out.append(x[good])
    if sum(map(len, out)) < 3:
        raise RecordError(
            f"data: too few whole windows of {grid.cells} cells, had {sum(map(len, out))}; give "
            "more rows, or a shorter --window"
        )
    return out, max(1, round(grid.cells / (every * grid.hop_cells))), notes


def replace_hop(grid: Grid) -> Grid:
    """The same grid at every cell; training thins by itself."""
    return replace(grid, hop_cells=1)


def _around_faults(
    sequences: list[NDArray[np.float32]],
    scores: list[NDArray[np.float64]],
    floor: NDArray[np.float64],
    blocks: tuple[NDArray[np.bool_], ...],
    reach: int,
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float64]], list[str]]:
    """Leave out stretches that are far from all the rest, and hold out again."""
    usual = float(np.nanmedian(np.concatenate(scores)))
    strange = [np.nan_to_num(s) > FAULT_TIMES * usual for s in scores]
    share = sum(int(s.sum()) for s in strange) / sum(map(len, strange))
    if share == 0:
        return sequences, scores, []
    if share > FAULT_SHARE_MAX:
        text = (
            f"{share:.0%} of the windows are far from the rest: not one healthy state; train on a"
            " stretch that is known to be healthy (--rows)"
        )
        return sequences, scores, [text]
    kept = []
    for sequence, mark in zip(sequences, strange, strict=True):
        near = np.convolve(mark, np.ones(2 * reach + 1), mode="same") > 0
        kept.append(sequence[~near])
    kept = [s for s in kept if len(s)]
    if sum(map(len, kept)) < 3:
        return sequences, scores, []
    peak = max(float(np.nanmax(s)) for s in scores) / usual
    text = (
        f"{share:.1%} of the windows score up to {peak:.0f} times the usual, as a fault would; they"
        " were left out of training (is the record healthy throughout?)"
    )
    return kept, limits.held_out(kept, floor, blocks, reach), [text]


def _check_forward(
    chosen: limits.Limit,
    sequences: Sequence[NDArray[np.float32]],
    floor: NDArray[np.float64],
    blocks: tuple[NDArray[np.bool_], ...],
    reach: int,
    count: int,
    notes: list[str],
) -> tuple[limits.Limit, list[str]]:
    """Would a model of the first 70 % have raised alarms in the last 30 %?"""
    early = [s[: int(0.7 * len(s))] for s in sequences]
    late = [s[int(0.7 * len(s)) + reach :] for s in sequences]
    early = [s for s in early if len(s)]
    if sum(map(len, early)) < 3 or not sum(map(len, late)):
        return chosen, notes
    model = conditions.fit_conditions(early, floor, blocks, count, reach)
    flagged = np.concatenate([model.score(s) for s in late if len(s)]) > chosen.value
    if flagged.mean() > 0.005 and chosen.supported:
        reason = f"a model of the first 70 % flags {flagged.mean():.1%} of the last 30 %"
        chosen = replace(chosen, supported=False, reason=reason)
    return chosen, [
        *notes,
        f"checked forward: a model of the first 70 % flags {flagged.mean():.1%} of the last 30 %",
    ]


def _check_steady(
    chosen: limits.Limit, model: Detector, plan: FeaturePlan, notes: list[str], found: list[str]
) -> tuple[limits.Limit, list[str]]:
    """Name the signals whose level is still on its way, and refuse the promise if most are."""
    level = [i for i, name in enumerate(plan.names) if name.endswith(":mean")]
    drifting = [plan.names[i].rpartition(":")[0] for i in level if model.independent[i] < 6]
    if drifting:
        shown = ", ".join(drifting[:6]) + (" …" if len(drifting) > 6 else "")
        notes = [*notes, f"still drifting when the record ended, so it counts for less: {shown}"]
    if chosen.supported and len(drifting) > 0.5 * len(level):
        reason = f"most signals still drift: {', '.join(drifting[:6])}"
        chosen = replace(chosen, supported=False, reason=reason)
    if chosen.supported and found:
        chosen = replace(chosen, supported=False, reason=f"the record may hold a fault: {found[0]}")
    return chosen, notes


def graph_of(states: Conditions, plan: FeaturePlan) -> onnx.ModelProto:
    """The detector as a graph: x -> score, contribution, direction.

    With several operating conditions, all three are those of the condition that finds the window
    least strange.
    """
    graph = Graph("anomaly", len(plan.names))
    whole = states.whole
    z, present = graph.prepare(whole.centre, whole.scale, clip=CLIP_SCORED)
    there = graph.node("Cast", present, to=onnx.TensorProto.FLOAT)
    score, share, direction = _condition(graph, z, present, there, whole, states.parts[0], plan, 0)
    for index, part in enumerate(states.parts[1:], 1):
        made = _condition(graph, z, present, there, whole, part, plan, index)
        better = graph.node("Less", made[0], score)
        score = graph.node("Where", better, made[0], score)
        share = graph.node("Where", better, made[1], share)
        direction = graph.node("Where", better, made[2], direction)
    score = graph.node("Squeeze", score, graph.constant([1], np.int64))
    graph.output(score, "score", ["n"])
    graph.output(share, "contribution", ["n", len(plan.signals)])
    graph.output(direction, "direction", ["n", len(plan.signals)])
    return graph.model()


def _condition(
    graph: Graph,
    z: str,
    present: str,
    there: str,
    whole: Detector,
    model: Detector,
    plan: FeaturePlan,
    index: int,
) -> tuple[str, str, str]:
    """Score [n, 1], contribution and direction [n, k] of one operating condition."""
    if model is not whole:
        # From deviations from all healthy windows to those from this condition's.
        z = graph.node("Mul", z, graph.constant(whole.scale / model.scale))
        z = graph.node("Add", z, graph.constant((whole.centre - model.centre) / model.scale))
        z = graph.node("Where", present, z, graph.constant(0.0))
        z = graph.node("Clip", z, graph.constant(-CLIP_SCORED), graph.constant(CLIP_SCORED))
    low, high = graph.constant(-CLIP), graph.constant(CLIP)
    known = graph.node("Clip", z, low, high, name=f"{KNOWN}{index}")
    # What is missing is what the others let expect, so that it explains as it would have.
    expected = graph.node("MatMul", known, graph.constant(model.expected))
    filled = graph.node("Where", present, known, expected)
    bounded = graph.node("Clip", filled, low, high, name=f"{EXPLAINING}{index}")
    explained = graph.node("MatMul", bounded, graph.constant(model.others))
    own = graph.node("Mul", z, graph.constant(model.own))
    residual = graph.node("Add", own, explained)
    residual = graph.node("Where", present, residual, graph.constant(0.0))
    square = graph.node("Mul", residual, residual)
    fourth = graph.node("Mul", square, square)
    norms, shares = [], []
    for block in model.blocks:
        total = graph.node("MatMul", fourth, graph.constant(block.astype(float)[:, None]))
        count = graph.node("MatMul", there, graph.constant(block.astype(float)[:, None]))
        norms.append(graph.node("Sqrt", graph.node("Sqrt", graph.node("Div", total, count))))
        owner = np.zeros((len(plan.names), len(plan.signals)))
        for column, (signal, *_) in enumerate(plan.owners):
            owner[column, plan.signals.index(signal)] = float(block[column])
        part = graph.node("MatMul", fourth, graph.constant(owner))
        shares.append(graph.node("Div", part, graph.node("Max", total, graph.constant(1e-30))))
    score, share = norms[0], shares[0]
    if len(norms) == 2:
        score = graph.node("Sqrt", graph.node("Mul", *norms))
        share = graph.node("Mul", graph.node("Add", *shares), graph.constant(0.5))
    return score, share, _direction(graph, residual, fourth, plan)


def _direction(graph: Graph, residual: str, fourth: str, plan: FeaturePlan) -> str:
    """+1 or -1 by the mean's residual where the mean says more than the spread, else 0."""
    level = np.zeros((len(plan.names), len(plan.signals)))
    wobble = np.zeros_like(level)
    for index, name in enumerate(plan.names):
        signal, _, kind = name.rpartition(":")
        target = wobble if kind == "spread" else level if kind == "mean" else None
        if target is not None:
            target[index, plan.signals.index(signal)] = 1.0
    mean = graph.node("MatMul", residual, graph.constant(level))
    loud = graph.node("MatMul", fourth, graph.constant(level))
    noise = graph.node("MatMul", fourth, graph.constant(wobble))
    says = graph.node("GreaterOrEqual", loud, noise)
    return graph.node("Where", says, graph.node("Sign", mean), graph.constant(0.0))


def _int8(
    fp32: onnx.ModelProto,
    sequences: Sequence[NDArray[np.float32]],
    model: Detector,
    limit: float,
    precision: str,
    seed: int,
) -> tuple[bytes, Parity]:
    """The int8 graph that agrees with fp32, per channel or per tensor, whichever agrees better."""
    plain = fp32.SerializeToString()
    if precision == "fp32":
        return plain, Parity(0.0, 0.0, "fp32 as asked")
    if not bool(np.any(model.others)):
        return plain, Parity(0.0, 0.0, "nothing to quantise: one signal has no others")
    exact = [
        node.output[0]
        for node in fp32.graph.node
        if node.op_type == "MatMul" and not node.input[0].startswith((EXPLAINING, KNOWN))
    ]
    x = np.concatenate(sequences)
    best: tuple[Parity, bytes] | None = None
    for per_channel in (True, False):
        made = quantise(
            fp32,
            x[: 1 << 14],
            per_channel=per_channel,
            ranges={
                node.input[0]: CLIP
                for node in fp32.graph.node
                if node.op_type == "MatMul" and node.input[0].startswith((EXPLAINING, KNOWN))
            },
            keep_fp32=exact,
        ).SerializeToString()
        how = "per channel" if per_channel else "per tensor"
        seen = measure(plain, made, sequences, model.scale, limit, how=how, seed=seed)
        if best is None or seen.worst < best[0].worst:
            best = seen, made
    assert best is not None
    if best[0].worst > 1:
        raise ModelError(
            f"int8: must lose at most 0.01 AUROC and 1 % of decisions on the worst sequence, was "
            f"{best[0].auroc_loss:.4f} and {best[0].decisions_changed:.2%}; train with --precision"
            " fp32"
        )
    return best[1], best[0]


def _golden(fp32: onnx.ModelProto, int8: bytes, x: NDArray[np.float32], seed: int) -> bundle.Golden:
    rows = golden_rows(x, seed=seed)
    # Beyond the healthy range too, since that is where it matters.
    spread = np.nanstd(x, axis=0)
    rows = np.concatenate([rows, rows[: len(rows) // 2] + 5 * spread]).astype(np.float32)
    return bundle.Golden(rows, run(int8, rows), run(fp32, rows))


def _sensors(screened: Screened, grid: Grid) -> Sensors:
    """What the sensors did in the rows that were learned from."""
    record = screened.record.rows(np.flatnonzero(~screened.leave))
    tables = [
        lay(record.values[at], None if record.time_s is None else record.time_s[at], grid).table
        for _, at in record.sequences()
    ]
    return Sensors.learn(tables, grid.cells)


def _healthy(plan: FeaturePlan, record: Record, x: NDArray[np.float32]) -> list[dict[str, object]]:
    units = dict(zip(record.names, record.units, strict=True))
    low, high = np.nanquantile(x, [0.01, 0.99], axis=0)
    out: list[dict[str, object]] = []
    for index, name in enumerate(plan.names):
        signal, _, kind = name.rpartition(":")
        unit = CATALOGUE[kind].unit
        text = units[signal] if unit == "same" else unit
        out.append(
            {"feature": name, "unit": text, "low": float(low[index]), "high": float(high[index])}
        )
    return out


def _signals(record: Record) -> tuple[bundle.Signal, ...]:
    low, high = np.nanquantile(record.values, [0.001, 0.999], axis=0)
    return tuple(
        bundle.Signal(
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
