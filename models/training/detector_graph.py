"""Turns a learned detector into its graph."""

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from models.features.plan import FeaturePlan
from models.graph import Graph
from models.strays import RESIDUAL
from models.training.company import CLIP, WRONG, Company
from models.training.conditions import Conditions
from models.training.detector import POWER, Detector
from models.training.motion import STRETCH_MAX, Motion
from models.training.sheets import by_signal, deal, even, gather_in, one_of, stirring

EXPLAINING, KNOWN = "explaining", "known"
assert POWER == 4, "the graph takes the square root twice"
CLIP_SCORED = 1e4
"""Standard deviations at which a feature counts no further; keeps its fourth power finite."""


def graph_of(
    states: Conditions, plan: FeaturePlan, *, rounded: Sequence[str] = (), residuals: bool = False
) -> onnx.ModelProto:
    """The detector as a graph: x -> score, contribution, direction, and residual if asked for.

    All conditions are computed side by side, [conditions, n, d], so that a machine of many costs
    no more calls into the runtime than a machine of one. Score, contribution and direction are
    those of the condition that finds the window least strange. A wide machine, which has one
    condition, has its companies side by side instead, [companies, n, g].

    The products of the tensors that are `rounded` (KNOWN, EXPLAINING) are made so that int8 can
    take their place.
    """
    graph = Graph("anomaly", len(plan.names))
    whole, parts = states.whole, states.parts
    blocks = [block[: whole.judged] for block in whole.blocks]
    d, wide, judged = plan.measured, len(plan.names), whole.judged
    dealt = len(whole.companies) > len(whole.blocks)
    parts, motion = stirring(parts, wide - d)
    beside = wide - d + len(motion.at)
    sheets = even(parts[0].companies) if dealt else [one_of(p, beside) for p in parts]
    z, present = graph.prepare(_columns(graph, 0, d), whole.centre, whole.scale, clip=CLIP_SCORED)
    # What is missing is 0 from here on. As factors: a choice costs a runtime ten times a product.
    all_there = there = graph.node("Cast", present, to=onnx.TensorProto.FLOAT)
    heard, heard_there = z, there
    if dealt:
        columns = [sheet.at for sheet in sheets]
        heard, heard_there = deal(graph, z, columns), deal(graph, there, columns)
        columns = [sheet.mine for sheet in sheets]
        z, there = deal(graph, z, columns), deal(graph, there, columns)
    absent = graph.node("Sub", graph.constant(1.0), heard_there)
    if len(parts) > 1:
        # From deviations from all healthy windows to those from each condition's.
        z = _turned(graph, z, there, whole, parts)
        heard = z
    low, high = graph.constant(-CLIP), graph.constant(CLIP)
    known = graph.node("Clip", heard, low, high, name=KNOWN)
    # What is missing is what the others let expect, so that it explains as it would have.
    expected = _product(graph, known, [s.expected for s in sheets], KNOWN in rounded)
    filled = graph.node("Add", known, graph.node("Mul", expected, absent))
    bounded = graph.node("Clip", filled, low, high, name=EXPLAINING)
    explained = _explained(graph, bounded, [s.others for s in sheets], EXPLAINING in rounded)
    # What only explains is not judged, and stands behind what is.
    if judged < d:
        z, there = graph.first(z, judged), graph.first(there, judged)
        all_there = there
    if len(parts) > 1:
        z = graph.node("Clip", z, graph.constant(-CLIP_SCORED), graph.constant(CLIP_SCORED))
    own = graph.node("Mul", z, _beside(graph, [s.own[: s.judged] for s in sheets]))
    residual = graph.node("Add", own, explained)
    residual = graph.node("Mul", residual, there)
    guess = _guess(graph, known, sheets) if residuals else ""
    if wide > d:
        errors = _columns(graph, d, wide)
        if len(motion.at):
            errors = graph.node("Concat", errors, _moves(graph, motion), axis=1)
        if dealt:
            errors = deal(graph, errors, [sheet.errors for sheet in sheets])
        unsure = _unsure(graph, errors, absent, sheets, dealt)
        residual = graph.node("Div", residual, unsure)
        guess = graph.node("Div", guess, unsure) if residuals else ""
    if dealt:
        residual = gather_in(graph, residual, whole.companies)
        guess = gather_in(graph, guess, whole.companies) if residuals else ""
    if len(parts) > 1:
        nearest = _nearest(graph, residual, blocks)
        residual = _by(graph, nearest, residual)
        guess = _by(graph, nearest, guess) if residuals else ""
    fourth = _fourth(graph, residual)
    norms, shares = [], []
    for block in blocks:
        column = graph.constant(block.astype(float)[:, None])
        total = graph.node("MatMul", fourth, column)
        count = graph.node("MatMul", all_there, column)
        norms.append(graph.node("Sqrt", graph.node("Sqrt", graph.node("Div", total, count))))
        owner = np.zeros((judged, len(plan.signals)))
        for at, (signal, *_) in enumerate(plan.owners[:judged]):
            owner[at, plan.signals.index(signal)] = float(block[at])
        part = by_signal(graph, fourth, owner)
        shares.append(graph.node("Div", part, graph.node("Max", total, graph.constant(1e-30))))
    score, share = norms[0], shares[0]
    if len(norms) == 2:
        score = graph.node("Sqrt", graph.node("Mul", *norms))
        share = graph.node("Mul", graph.node("Add", *shares), graph.constant(0.5))
    score = graph.node("Squeeze", score, graph.constant([1], np.int64))
    graph.output(score, "score", ["n"])
    graph.output(share, "contribution", ["n", len(plan.signals)])
    direction = _direction(graph, residual, fourth, plan, judged)
    graph.output(direction, "direction", ["n", len(plan.signals)])
    if residuals:
        window = graph.constant(np.flatnonzero(whole.blocks[0]), np.int64)
        told = graph.node("Gather", _beyond(graph, residual, guess), window, axis=1)
        graph.output(told, RESIDUAL, ["n", int(whole.blocks[0].sum())])
    return graph.model()


def _columns(graph: Graph, first: int, end: int) -> str:
    """Some columns of x."""
    if end - first == graph.d:
        return graph.x
    return graph.node("Gather", graph.x, graph.constant(range(first, end), np.int64), axis=1)


def _moves(graph: Graph, motion: Motion) -> str:
    """[n, m], as `Motion.beside` gives them."""
    moves = graph.node("Gather", graph.x, graph.constant(motion.at, np.int64), axis=1)
    known = graph.node("Where", graph.node("Equal", moves, moves), moves, graph.constant(0.0))
    scaled = graph.node("Mul", known, graph.constant(1.0 / motion.unit))
    return graph.node("Clip", scaled, graph.constant(0.0), graph.constant(STRETCH_MAX))


def _turned(graph: Graph, z: str, there: str, whole: Detector, parts: Sequence[Detector]) -> str:
    """[conditions, n, d], from deviations from all windows to those from each condition's.

    In rows that hold all conditions, since rows of a few columns are slow to multiply and add one
    by one.
    """
    gain = np.concatenate([whole.scale / part.scale for part in parts])
    shift = np.concatenate([(whole.centre - part.centre) / part.scale for part in parts])
    moved, added = (
        graph.node(
            "Mul", graph.node("Concat", *[tensor] * len(parts), axis=1), graph.constant(factor)
        )
        for tensor, factor in ((z, gain), (there, shift))
    )
    shape = graph.constant([-1, len(parts), len(whole.scale)], np.int64)
    rows = graph.node("Reshape", graph.node("Add", moved, added), shape)
    return graph.node("Transpose", rows, perm=[1, 0, 2])


def _unsure(graph: Graph, errors: str, absent: str, sheets: Sequence[Company], dealt: bool) -> str:
    """[sheets, n, g], how many times as far as usual gaps let residuals lie: 1 without."""
    there = graph.node("Equal", errors, errors)
    known = graph.node("Where", there, errors, graph.constant(0.0))
    # In units in which an error of 1 at most doubles a variance: squares stay finite in float32.
    most = np.stack([sheet.felt.max(axis=1) for sheet in sheets])[:, None, :]
    if not dealt:
        most = most.max(axis=(0, 1))
    per_unit = np.sqrt(np.where(most > 0, most, 1.0))
    known = graph.node("Mul", known, graph.constant(per_unit))
    known = graph.node("Clip", known, graph.constant(0.0), graph.constant(CLIP_SCORED))
    units = per_unit[:, 0] if dealt else [per_unit] * len(sheets)
    felt = [sheet.felt / unit[:, None] ** 2 for sheet, unit in zip(sheets, units, strict=True)]
    told = graph.node("Cast", there, to=onnx.TensorProto.FLOAT)
    gone = graph.node("Sub", graph.constant(1.0), told)
    usual = np.ones(sheets[0].judged)
    variance = _affine(graph, known, felt, [usual for _ in sheets], dealt, square=True)
    alone = [1.0 / sheet.own for sheet in sheets]
    off = _affine(graph, gone, [sheet.unforeseen for sheet in sheets], alone, dealt)
    off = graph.node("Mul", off, absent)
    lack = _product(graph, off, [np.abs(sheet.others) for sheet in sheets], rounded=False)
    return graph.node("Sqrt", graph.node("Add", variance, graph.node("Mul", lack, lack)))


def _affine(
    graph: Graph,
    tensor: str,
    weights: Sequence[NDArray[np.float64]],
    bias: Sequence[NDArray[np.float64]],
    dealt: bool,
    *,
    square: bool = False,
) -> str:
    """tensor @ weight + bias, or its square's, each sheet's by its own.

    Of many conditions the bias is the weight of a column of ones, since rows of a few columns
    are slow to add one by one.
    """
    beside = not dealt and len(weights) > 1
    if beside:
        e = len(weights[0])
        ones = graph.constant(np.eye(e, e + 1)), graph.constant(np.eye(e + 1)[e])
        tensor = graph.node("Gemm", tensor, *ones, name=graph.name_exact())
        weights = [np.vstack([*each]) for each in zip(weights, bias, strict=True)]
    if square:
        tensor = graph.node("Mul", tensor, tensor)
    if beside:
        # OpenVINO multiplies by several weights only what is as often there itself.
        tensor = graph.node("Unsqueeze", tensor, graph.constant([0], np.int64))
        tensor = graph.node("Concat", *[tensor] * len(weights), axis=0)
    total = _product(graph, tensor, weights, rounded=False)
    return total if beside else graph.node("Add", total, _beside(graph, bias))


def _beside(graph: Graph, rows: Sequence[NDArray[np.float64]]) -> str:
    """One row a condition, to meet [conditions, n, d]; plain where there is one condition."""
    return graph.constant(np.stack(rows)[:, None, :] if len(rows) > 1 else rows[0])


def _fourth(graph: Graph, residual: str) -> str:
    square = graph.node("Mul", residual, residual)
    return graph.node("Mul", square, square)


def _nearest(graph: Graph, residual: str, blocks: Sequence[NDArray[np.bool_]]) -> str:
    """[conditions, n, 1], 1 for the condition that finds the window least strange, else 0."""
    fourth = _fourth(graph, residual)
    # How much of a window is there is the same for all conditions, so sums compare like norms.
    roots = [
        graph.node("Sqrt", graph.node("Sqrt", graph.node("MatMul", fourth, column)))
        for column in (graph.constant(block.astype(float)[:, None]) for block in blocks)
    ]
    strange = graph.node("Mul", *roots) if len(roots) == 2 else roots[0]
    least = graph.node("ReduceMin", strange, axes=[0], keepdims=1)
    return graph.node("Cast", graph.node("LessOrEqual", strange, least), to=onnx.TensorProto.FLOAT)


def _by(graph: Graph, nearest: str, tensor: str) -> str:
    """[n, d], what the nearest condition says."""
    axis = graph.constant([0], np.int64)
    total = graph.node("ReduceSum", graph.node("Mul", tensor, nearest), axis, keepdims=0)
    # Two conditions that agree to the last bit are one.
    return graph.node("Div", total, graph.node("ReduceSum", nearest, axis, keepdims=0))


def _guess(graph: Graph, known: str, sheets: Sequence[Company]) -> str:
    """[sheets, n, g], as `Company.guess` gives it, before what gaps do."""
    low, high = (_beside(graph, [sheet.seen[i] for sheet in sheets]) for i in (0, 1))
    inside = graph.node("Max", graph.node("Min", known, high), low)
    beyond = graph.node("Abs", graph.node("Sub", known, inside))
    # By the weights that gaps are weighed by too, which so are held once.
    explained = _product(graph, beyond, [np.abs(sheet.others) for sheet in sheets], rounded=False)
    return graph.node("Mul", explained, graph.constant(WRONG))


def _beyond(graph: Graph, residual: str, guess: str) -> str:
    """The residual less as much of it as may be a guess."""
    low, high = graph.node("Neg", guess), guess
    return graph.node("Sub", residual, graph.node("Max", graph.node("Min", residual, high), low))


def _product(
    graph: Graph, tensor: str, weights: Sequence[NDArray[np.float64]], rounded: bool
) -> str:
    """tensor @ weight, each condition's by its own."""
    weight = np.stack(weights) if len(weights) > 1 else weights[0]
    name = None if rounded else graph.name_exact()
    return graph.node("MatMul", tensor, graph.constant(weight), name=name)


def _explained(
    graph: Graph, tensor: str, weights: Sequence[NDArray[np.float64]], rounded: bool
) -> str:
    """The same for what the others explain, whose columns differ by as much as signals follow each
    other: for int8 they are brought to one scale, and the product back from it."""
    if not rounded:
        return _product(graph, tensor, weights, rounded)
    unit = [np.maximum(np.abs(w).max(axis=0), 1e-12) for w in weights]
    total = _product(graph, tensor, [w / u for w, u in zip(weights, unit, strict=True)], rounded)
    return graph.node("Mul", total, _beside(graph, unit))


def _direction(graph: Graph, residual: str, fourth: str, plan: FeaturePlan, judged: int) -> str:
    """+1 or -1 by the mean's residual where the mean says more than the spread, else 0."""
    level = np.zeros((judged, len(plan.signals)))
    wobble = np.zeros_like(level)
    for index, name in enumerate(plan.names[:judged]):
        signal, _, kind = name.rpartition(":")
        target = wobble if kind in {"spread", "roughness"} else level if kind == "mean" else None
        if target is not None:
            target[index, plan.signals.index(signal)] = 1.0
    mean = by_signal(graph, residual, level)
    loud = by_signal(graph, fourth, level)
    noise = by_signal(graph, fourth, wobble)
    says = graph.node("GreaterOrEqual", loud, noise)
    return graph.node("Where", says, graph.node("Sign", mean), graph.constant(0.0))
