"""Turns a learned detector into its graph, and the graph into int8 that decides the same."""

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from models.errors import ModelError
from models.features.plan import FeaturePlan
from models.graph import Graph
from models.quantise import quantise
from models.training.conditions import Conditions
from models.training.detector import CLIP, POWER
from models.training.parity import Parity, measure

EXPLAINING, KNOWN = "explaining", "known"
COARSE, FINE = "coarse_", "fine_"
assert POWER == 4, "the graph takes the square root twice"
CLIP_SCORED = 1e4
"""Standard deviations at which a feature counts no further; keeps its fourth power finite."""


def graph_of(states: Conditions, plan: FeaturePlan, *, fine: bool = False) -> onnx.ModelProto:
    """The detector as a graph: x -> score, contribution, direction.

    All conditions are computed side by side, [conditions, n, d], so that a machine of many costs
    no more calls into the runtime than a machine of one. Score, contribution and direction are
    those of the condition that finds the window least strange.

    With `fine`, deviations and weights are split into a coarse and a fine part, each of which fits
    into 8 bits, so that int8 products add up to what 16 bits would give.
    """
    graph = Graph("anomaly", len(plan.names))
    whole, parts = states.whole, states.parts
    z, present = graph.prepare(whole.centre, whole.scale, clip=CLIP_SCORED)
    # What is missing is 0 from here on. As factors: a choice costs a runtime ten times a product.
    there = graph.node("Cast", present, to=onnx.TensorProto.FLOAT)
    absent = graph.node("Sub", graph.constant(1.0), there)
    if len(parts) > 1:
        # From deviations from all healthy windows to those from each condition's.
        turned = graph.node("Mul", z, _beside(graph, [whole.scale / p.scale for p in parts]))
        shift = _beside(graph, [(whole.centre - p.centre) / p.scale for p in parts])
        z = graph.node("Mul", graph.node("Add", turned, shift), there)
        z = graph.node("Clip", z, graph.constant(-CLIP_SCORED), graph.constant(CLIP_SCORED))
    low, high = graph.constant(-CLIP), graph.constant(CLIP)
    known = graph.node("Clip", z, low, high, name=KNOWN)
    # What is missing is what the others let expect, so that it explains as it would have.
    expected = _product(graph, known, [p.expected for p in parts], fine)
    filled = graph.node("Add", known, graph.node("Mul", expected, absent))
    bounded = graph.node("Clip", filled, low, high, name=EXPLAINING)
    explained = _product(graph, bounded, [p.others for p in parts], fine)
    own = graph.node("Mul", z, _beside(graph, [p.own for p in parts]))
    residual = graph.node("Add", own, explained)
    residual = graph.node("Mul", residual, there)
    if len(parts) > 1:
        residual = _least(graph, residual, whole.blocks)
    fourth = _fourth(graph, residual)
    norms, shares = [], []
    for block in whole.blocks:
        column = graph.constant(block.astype(float)[:, None])
        total = graph.node("MatMul", fourth, column)
        count = graph.node("MatMul", there, column)
        norms.append(graph.node("Sqrt", graph.node("Sqrt", graph.node("Div", total, count))))
        owner = np.zeros((len(plan.names), len(plan.signals)))
        for at, (signal, *_) in enumerate(plan.owners):
            owner[at, plan.signals.index(signal)] = float(block[at])
        part = graph.node("MatMul", fourth, graph.constant(owner))
        shares.append(graph.node("Div", part, graph.node("Max", total, graph.constant(1e-30))))
    score, share = norms[0], shares[0]
    if len(norms) == 2:
        score = graph.node("Sqrt", graph.node("Mul", *norms))
        share = graph.node("Mul", graph.node("Add", *shares), graph.constant(0.5))
    score = graph.node("Squeeze", score, graph.constant([1], np.int64))
    graph.output(score, "score", ["n"])
    graph.output(share, "contribution", ["n", len(plan.signals)])
    graph.output(_direction(graph, residual, fourth, plan), "direction", ["n", len(plan.signals)])
    return graph.model()


def _beside(graph: Graph, rows: Sequence[NDArray[np.float64]]) -> str:
    """One row a condition, to meet [conditions, n, d]; plain where there is one condition."""
    return graph.constant(np.stack(rows)[:, None, :] if len(rows) > 1 else rows[0])


def _fourth(graph: Graph, residual: str) -> str:
    square = graph.node("Mul", residual, residual)
    return graph.node("Mul", square, square)


def _least(graph: Graph, residual: str, blocks: Sequence[NDArray[np.bool_]]) -> str:
    """[n, d], the residuals by the condition that finds the window least strange."""
    fourth = _fourth(graph, residual)
    # How much of a window is there is the same for all conditions, so sums compare like norms.
    roots = [
        graph.node("Sqrt", graph.node("Sqrt", graph.node("MatMul", fourth, column)))
        for column in (graph.constant(block.astype(float)[:, None]) for block in blocks)
    ]
    strange = graph.node("Mul", *roots) if len(roots) == 2 else roots[0]
    least = graph.node("ReduceMin", strange, axes=[0], keepdims=1)
    nearest = graph.node("LessOrEqual", strange, least)
    mine = graph.node("Cast", nearest, to=onnx.TensorProto.FLOAT)
    axis = graph.constant([0], np.int64)
    total = graph.node("ReduceSum", graph.node("Mul", residual, mine), axis, keepdims=0)
    # Two conditions that agree to the last bit are one.
    return graph.node("Div", total, graph.node("ReduceSum", mine, axis, keepdims=0))


def _product(graph: Graph, tensor: str, weights: Sequence[NDArray[np.float64]], fine: bool) -> str:
    """tensor @ weight, each condition's by its own.

    The weight's columns are brought to one scale and the product back from it, so that one int8
    scale serves all columns of all conditions as well as one each. The parts of a fine product are
    named so that int8 knows their ranges.
    """
    unit = [np.maximum(np.abs(w).max(axis=0), 1e-12) for w in weights]
    weight = np.stack([w / u for w, u in zip(weights, unit, strict=True)])
    if len(weights) == 1:
        weight = weight[0]
    if fine:
        step = CLIP / 127.0
        turns = graph.node("Round", graph.node("Mul", tensor, graph.constant(1.0 / step)))
        coarse = graph.node("Mul", turns, graph.constant(step), name=f"{COARSE}{tensor}")
        rest = graph.node("Sub", tensor, coarse, name=f"{FINE}{tensor}")
        # As int8 will round the weight; what that leaves is a weight of its own.
        rough = np.rint(weight * 127.0) / 127.0
        total = graph.node("MatMul", coarse, graph.constant(rough))
        left = graph.node("MatMul", coarse, graph.constant(weight - rough))
        total = graph.node("Add", total, left)
        total = graph.node("Add", total, graph.node("MatMul", rest, graph.constant(rough)))
    else:
        total = graph.node("MatMul", tensor, graph.constant(weight))
    return graph.node("Mul", total, _beside(graph, unit))


def _direction(graph: Graph, residual: str, fourth: str, plan: FeaturePlan) -> str:
    """+1 or -1 by the mean's residual where the mean says more than the spread, else 0."""
    level = np.zeros((len(plan.names), len(plan.signals)))
    wobble = np.zeros_like(level)
    for index, name in enumerate(plan.names):
        signal, _, kind = name.rpartition(":")
        target = wobble if kind in {"spread", "roughness"} else level if kind == "mean" else None
        if target is not None:
            target[index, plan.signals.index(signal)] = 1.0
    mean = graph.node("MatMul", residual, graph.constant(level))
    loud = graph.node("MatMul", fourth, graph.constant(level))
    noise = graph.node("MatMul", fourth, graph.constant(wobble))
    says = graph.node("GreaterOrEqual", loud, noise)
    return graph.node("Where", says, graph.node("Sign", mean), graph.constant(0.0))


def int8_of(
    states: Conditions,
    plan: FeaturePlan,
    sequences: Sequence[NDArray[np.float32]],
    limit: float,
    precision: str,
    seed: int,
) -> tuple[bytes, bytes, Parity]:
    """The fp32 graph, the int8 graph that agrees with it best, and how far it does.

    Args:
        states: The detector.
        plan: Its features.
        sequences: float32[n_i, d] each, healthy windows.
        limit: Of the score.
        precision: `int8`; or `fp32`, which puts the same graph into both places.
        seed: Of the faults that are invented to compare both.

    Raises:
        ModelError: No int8 graph agrees well enough.
    """
    fp32 = graph_of(states, plan)
    plain = fp32.SerializeToString()
    if precision == "fp32":
        return plain, plain, Parity(0.0, 0.0, "fp32 as asked")
    if not any(bool(np.any(part.others)) for part in states.parts):
        return plain, plain, Parity(0.0, 0.0, "nothing to quantise: one signal has no others")
    x = np.concatenate(sequences)[: 1 << 14]
    best: tuple[Parity, bytes] | None = None
    for how, fine in WAYS:
        if best is not None and best[0].worst <= ENOUGH:
            break
        whole = graph_of(states, plan, fine=True) if fine else fp32
        ranges = {name: reach for node in whole.graph.node if node.op_type == "MatMul"
                  for name in node.input[:1] if (reach := _reach(name))}  # fmt: skip
        made = quantise(
            whole,
            x,
            per_channel=False,
            ranges=ranges,
            keep_fp32=[
                node.output[0]
                for node in whole.graph.node
                if node.op_type == "MatMul" and node.input[0] not in ranges
            ],
        ).SerializeToString()
        seen = measure(plain, made, sequences, states.whole.scale, limit, how=how, seed=seed)
        if best is None or seen.worst < best[0].worst:
            best = seen, made
    assert best is not None
    if best[0].worst > 1:
        raise ModelError(
            f"int8: must lose at most 0.01 AUROC and 1 % of decisions on the worst sequence, was "
            f"{best[0].auroc_loss:.4f} and {best[0].decisions_changed:.2%}; train with --precision"
            " fp32"
        )
    return plain, best[1], best[0]


WAYS = (
    ("columns to one scale", False),
    ("columns to one scale, in a coarse and a fine part", True),
)
ENOUGH = 0.75
"""Share of the allowed loss below which the plain int8 is taken; features that follow each other
closely need the finer one."""


def _reach(tensor: str) -> float:
    """The largest magnitude that a tensor can have, where it is one that explains; else 0."""
    if tensor.startswith((EXPLAINING, KNOWN, COARSE)):
        return CLIP
    return CLIP / 254.0 if tensor.startswith(FINE) else 0.0
