"""Turns a float32 graph into int8 Q/DQ, and measures what that costs. Needs the train extra.

Explicit Q/DQ pairs, signed and symmetric on both sides (S8S8), because that is what ONNX Runtime,
OpenVINO and TensorRT all execute as int8. Only Gemm, MatMul and Conv with constant weights are
quantised: they are the heavy part, and normalisation and scoring lose the most.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.graph import EXACT

HEAVY = frozenset({"Gemm", "MatMul", "Conv"})
WIDEN = 1.25
"""Calibration sees healthy data; a fault lies beyond it. Ranges grow by this factor."""

Floats = NDArray[np.float32]


def quantise(
    model: onnx.ModelProto,
    calibration: Floats,
    *,
    per_channel: bool = True,
    widen: float = WIDEN,
    ranges: Mapping[str, float] | None = None,
    keep_fp32: Sequence[str] = (),
    weight_bits_headroom: int = 0,
) -> onnx.ModelProto:
    """The same graph with int8 Gemm, MatMul and Conv.

    Args:
        model: A float32 graph, as `models.graph` builds them.
        calibration: float32[n, d], inputs that cover what will be seen; NaN allowed.
        per_channel: One weight scale per output column (as fast as one per tensor, more exact).
        widen: Factor by which the range seen in calibration grows. 1 clips at what was seen.
        ranges: Known largest magnitudes, by tensor name; they win over calibration.
        keep_fp32: Names of output tensors of nodes that stay float32.
        weight_bits_headroom: Bits of the weight left unused, for CPUs whose int16 sums saturate.

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
    build = _Builder(graph, weights, 127 >> weight_bits_headroom)
    nodes: list[onnx.NodeProto] = []
    placed: set[str] = set()
    made: set[str] = set()
    for node in graph.node:
        if any(node is other for other in heavy):
            source = node.input[0]
            scale = max(peak[source], 1e-6) / 127.0
            if source not in placed:
                nodes.extend(build.activation(source, scale))
                placed.add(source)
            node.input[0] = f"{source}_dq"
            flat = len(weights[node.input[1]].dims) == 2 or node.op_type == "Conv"
            nodes.extend(build.weight(node, scale, per_channel and flat))
            made.add(node.output[0])
        if node.op_type == "Relu" and node.input[0] in made:
            # ONNX Runtime would fuse Gemm and Relu in float32 first, and int8 would be lost.
            node = helper.make_node(  # noqa: PLW2901 - the node takes the place of the old one
                "Max", [node.input[0], build.zero()], list(node.output), name=node.name
            )
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    build.finish()
    onnx.checker.check_model(quantised, full_check=True)
    return quantised


def _plain(node: onnx.NodeProto) -> bool:
    """Whether a Gemm is only x @ w + b (or x @ w.T + b); anything else stays float32."""
    if node.op_type != "Gemm":
        return True
    held = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return (
        held.get("alpha", 1.0) == 1.0 and held.get("beta", 1.0) == 1.0 and not held.get("transA", 0)
    )


class _Builder:
    """Makes the Q/DQ nodes and their constants."""

    def __init__(
        self, graph: onnx.GraphProto, weights: dict[str, onnx.TensorProto], weight_max: int
    ) -> None:
        self._graph = graph
        self._weights = weights
        self._weight_max = weight_max
        self._done: dict[str, NDArray[np.float64]] = {}

    def activation(self, tensor: str, scale: float) -> list[onnx.NodeProto]:
        """Quantise and dequantise an activation, per tensor, zero point 0."""
        self._add(f"{tensor}_scale", np.float32(scale))
        self._add("zero_point", np.int8(0))
        return [
            helper.make_node(
                "QuantizeLinear",
                [tensor, f"{tensor}_scale", "zero_point"],
                [f"{tensor}_q"],
                name=f"{tensor}_quantise",
            ),
            helper.make_node(
                "DequantizeLinear",
                [f"{tensor}_q", f"{tensor}_scale", "zero_point"],
                [f"{tensor}_dq"],
                name=f"{tensor}_dequantise",
            ),
        ]

    def weight(
        self, node: onnx.NodeProto, input_scale: float, per_channel: bool
    ) -> list[onnx.NodeProto]:
        """Store the weight as int8 and the bias as int32 (scale: input x weight)."""
        name = node.input[1]
        made: list[onnx.NodeProto] = []
        weight = numpy_helper.to_array(self._weights[name])
        transposed = any(a.name == "transB" and a.i for a in node.attribute)
        axis = 0 if node.op_type == "Conv" or transposed else weight.ndim - 1
        if name not in self._done:
            other = tuple(i for i in range(weight.ndim) if i != axis)
            top = np.abs(weight).max(axis=other if per_channel else None)
            scale = np.maximum(top, 1e-12).astype(np.float64) / self._weight_max
            shape = [1] * weight.ndim
            shape[axis] = -1
            spread = scale.reshape(shape) if per_channel else scale
            held = np.clip(np.rint(weight / spread), -self._weight_max, self._weight_max)
            self._done[name] = np.atleast_1d(scale)
            self._add(f"{name}_q", held.astype(np.int8))
            self._add(f"{name}_scale", np.asarray(scale, np.float32))
            self._add(f"{name}_zero", np.zeros(np.shape(scale), np.int8))
            attributes: dict[str, Any] = {"axis": axis} if per_channel else {}
            made.append(
                helper.make_node(
                    "DequantizeLinear",
                    [f"{name}_q", f"{name}_scale", f"{name}_zero"],
                    [f"{name}_dq"],
                    name=f"{name}_dequantise",
                    **attributes,
                )
            )
        node.input[1] = f"{name}_dq"
        if len(node.input) > 2 and node.input[2] in self._weights:
            made.extend(self._bias(node, input_scale, self._done[name], per_channel))
        return made

    def _bias(
        self,
        node: onnx.NodeProto,
        input_scale: float,
        scale: NDArray[np.float64],
        per_channel: bool,
    ) -> list[onnx.NodeProto]:
        bias = numpy_helper.to_array(self._weights[node.input[2]]).astype(np.float64)
        if bias.ndim != 1:
            return []
        step = (input_scale * scale).astype(np.float32)
        if not per_channel:
            step = step[0]
        name = f"{node.output[0]}_bias"
        limit = 2**31 - 1
        attributes: dict[str, Any] = {"axis": 0} if per_channel else {}
        self._add(f"{name}_q", np.clip(np.rint(bias / step), -limit, limit).astype(np.int32))
        self._add(f"{name}_scale", step)
        self._add(f"{name}_zero", np.zeros(np.shape(step), np.int32))
        node.input[2] = f"{name}_dq"
        return [
            helper.make_node(
                "DequantizeLinear",
                [f"{name}_q", f"{name}_scale", f"{name}_zero"],
                [f"{name}_dq"],
                name=f"{name}_dequantise",
                **attributes,
            )
        ]

    def zero(self) -> str:
        """The float32 constant 0."""
        self._add("zero", np.float32(0))
        return "zero"

    def finish(self) -> None:
        """Drop constants that no node reads any more."""
        used = {name for node in self._graph.node for name in node.input}
        kept = [tensor for tensor in self._graph.initializer if tensor.name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)

    def _add(self, name: str, value: Any) -> None:
        if not any(tensor.name == name for tensor in self._graph.initializer):
            self._graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))


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
        for start in range(0, len(calibration), 4096):
            values = session.run(list(tensors), {"x": calibration[start : start + 4096]})
            for name, value in zip(tensors, values, strict=True):
                out[name] = max(out[name], float(np.nanmax(np.abs(value), initial=0.0)))
    return {name: widen * value for name, value in out.items()}


def run(model: bytes | onnx.ModelProto, x: Floats) -> dict[str, NDArray[Any]]:
    """Outputs of a model on the reference device (ONNX Runtime, CPU, one thread), by name."""
    session = _session(model if isinstance(model, bytes) else model.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    parts = [session.run(names, {"x": x[i : i + 4096]}) for i in range(0, max(len(x), 1), 4096)]
    return {
        name: np.concatenate(column)
        for name, column in zip(names, zip(*parts, strict=True), strict=True)
    }


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
