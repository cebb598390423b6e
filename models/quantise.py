"""Turns a float32 graph into int8 Q/DQ, and measures what that costs. Needs the train extra.

Explicit Q/DQ pairs, signed and symmetric on both sides (S8S8), because that is what ONNX Runtime,
OpenVINO and TensorRT all execute as int8. One scale a weight: one for each of its columns was no
more exact on nets whose weights decay, and took longer. Only Gemm, MatMul and Conv with constant
weights are quantised: they are the heavy part, and normalisation and scoring lose the most.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

from models.graph import EXACT
from models.qdq import Builder, source_of

HEAVY = frozenset({"Gemm", "MatMul", "Conv"})
WIDEN = 1.25
"""Calibration sees healthy data; a fault lies beyond it. Ranges grow by this factor."""

ROWS_MAX, VALUES_MAX = 1024, 1 << 21
"""Rows that are run at once, and numbers in them."""

Floats = NDArray[np.float32]


def quantise(
    model: onnx.ModelProto,
    calibration: Floats,
    *,
    widen: float = WIDEN,
    ranges: Mapping[str, float] | None = None,
    keep_fp32: Sequence[str] = (),
) -> onnx.ModelProto:
    """The same graph with int8 Gemm, MatMul and Conv.

    Args:
        model: A float32 graph, as `models.graph` builds them.
        calibration: float32[n, d], inputs that cover what will be seen; NaN allowed.
        widen: Factor by which the range seen in calibration grows. 1 clips at what was seen.
        ranges: Known largest magnitudes, by tensor name; they win over calibration.
        keep_fp32: Names of output tensors of nodes that stay float32.

    Returns:
        A new model.
    """
    quantised = onnx.ModelProto()
    quantised.CopyFrom(model)
    graph = quantised.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    kept = set(keep_fp32)
    heavy = [
        node
        for node in graph.node
        if node.op_type in HEAVY
        and node.input[1] in weights
        and node.output[0] not in kept
        and not node.output[0].startswith(EXACT)
        and _plain(node)
    ]
    inputs = list(dict.fromkeys(node.input[0] for node in heavy))
    peak = {**_peaks(model, calibration, inputs, widen), **(ranges or {})}
    build = Builder(graph, weights)
    source = {name: source_of(graph, name, peak[name], heavy, weights) for name in inputs}
    lower = {each.tensor: each.shift for each in source.values()}
    nodes: list[onnx.NodeProto] = []
    placed: dict[tuple[str, float], str] = {}
    made: set[str] = set()
    for node in graph.node:
        if any(node is other for other in heavy):
            given = source[node.input[0]]
            read = given.tensor, given.scale
            if read not in placed:
                placed[read] = f"{given.tensor}_{len(placed)}"
                nodes.extend(build.activation(*read, placed[read]))
            node.input[0] = f"{placed[read]}_dq"
            lowered = lower.get(node.output[0], 0.0)
            nodes.extend(build.weight(node, given.scale, given.shift, lowered))
            made.add(node.output[0])
        if node.op_type == "Relu" and node.input[0] in made:
            # ONNX Runtime would fuse Gemm and Relu in float32 first, and int8 would be lost.
            node = helper.make_node(  # noqa: PLW2901 - the node takes the place of the old one
                "Max", [node.input[0], build.zero()], list(node.output), name=node.name
            )
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(_needed(nodes, {output.name for output in graph.output}))
    build.finish()
    onnx.checker.check_model(quantised, full_check=True)
    return quantised


def _needed(nodes: Sequence[onnx.NodeProto], outputs: set[str]) -> list[onnx.NodeProto]:
    """The nodes that an output rests on."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if node.output[0] in wanted:
            wanted.update(node.input)
            kept.append(node)
    return kept[::-1]


def _plain(node: onnx.NodeProto) -> bool:
    """Whether a Gemm is only x @ w + b (or x @ w.T + b); anything else stays float32."""
    if node.op_type != "Gemm":
        return True
    held = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return (
        held.get("alpha", 1.0) == 1.0 and held.get("beta", 1.0) == 1.0 and not held.get("transA", 0)
    )


def _peaks(
    model: onnx.ModelProto, calibration: Floats, tensors: Sequence[str], widen: float
) -> dict[str, float]:
    """Largest magnitude of each tensor over the calibration inputs, times `widen`."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    held = {output.name for output in shown.graph.output}
    extra = [name for name in tensors if name not in held]
    for name in extra:
        shown.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    session = _session(shown.SerializeToString())
    out: dict[str, float] = dict.fromkeys(tensors, 0.0)
    if tensors:
        for part in _parts(calibration):
            values = session.run(list(tensors), {"x": part})
            for name, value in zip(tensors, values, strict=True):
                out[name] = max(out[name], float(np.nanmax(np.abs(value), initial=0.0)))
    return {name: widen * value for name, value in out.items()}


def run(model: bytes | onnx.ModelProto, x: Floats) -> dict[str, NDArray[Any]]:
    """Outputs of a model on the reference device (ONNX Runtime, CPU, one thread), by name."""
    session = _session(model if isinstance(model, bytes) else model.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    parts = [session.run(names, {"x": part}) for part in _parts(x)]
    return {
        name: np.concatenate(column)
        for name, column in zip(names, zip(*parts, strict=True), strict=True)
    }


def _parts(x: Floats) -> Iterator[Floats]:
    """So many rows at a time as memory should hold a graph's tensors of; one part at least."""
    step = max(1, min(ROWS_MAX, VALUES_MAX // x.shape[1]))
    return (x[start : start + step] for start in range(0, max(len(x), 1), step))


def _session(model: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def golden_rows(x: Floats, n: int = 32, *, seed: int = 0) -> Floats:
    """Rows for the golden vectors: spread over the record, the largest ones, and one with a gap.

    Args:
        x: float32[m, d], m >= 1.
        n: At most so many rows.
        seed: Of the choice.

    Returns:
        float32[<= n, d].
    """
    random = np.random.default_rng(seed)
    reach = np.nan_to_num(np.abs(x - np.nanmedian(x, axis=0))).sum(axis=1)
    far = np.argsort(reach)[-min(len(x), n // 4) :]
    rest = random.choice(len(x), size=min(len(x), n - len(far) - 1), replace=False)
    rows = x[np.concatenate([far, rest])]
    gap = rows[:1].copy()
    gap[0, random.integers(x.shape[1])] = np.nan
    return np.ascontiguousarray(np.concatenate([rows, gap]), dtype=np.float32)
