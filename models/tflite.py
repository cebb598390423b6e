"""Writes a bundle's int8 graph as TFLite, for the Edge TPU and other int8 boxes. Needs two extras.

The int8 weights, biases and input scales are taken over bit for bit. TFLite's int8 kernels also
give int8 out, so each heavy layer's output gets a range of its own, from the golden inputs; where
a layer counts whole numbers (the leaves of trees) its step is a power of two and nothing is lost.
"""

import math
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort
from ai_edge_litert import schema_py_generated as schema
from onnx import helper, numpy_helper

from models.bundle import Bundle
from models.errors import BundleError
from models.tflite_file import Array, TfliteFile

WIDEN = 1.25
_ONE_TO_ONE = {
    "Abs": "ABS",
    "Add": "ADD",
    "Cast": "CAST",
    "Div": "DIV",
    "Equal": "EQUAL",
    "Exp": "EXP",
    "Greater": "GREATER",
    "GreaterOrEqual": "GREATER_EQUAL",
    "Less": "LESS",
    "LessOrEqual": "LESS_EQUAL",
    "Log": "LOG",
    "Max": "MAXIMUM",
    "Min": "MINIMUM",
    "Mul": "MUL",
    "Neg": "NEG",
    "Relu": "RELU",
    "Round": "ROUND",
    "Sigmoid": "LOGISTIC",
    "Sign": "SIGN",
    "Sqrt": "SQRT",
    "Sub": "SUB",
    "Tanh": "TANH",
    "Where": "SELECT_V2",
}


def export(bundle: Bundle) -> bytes:
    """A TFLite file of the int8 graph, for one row at a time.

    Args:
        bundle: As read.

    Raises:
        BundleError: The graph holds an operator without a form in TFLite.
    """
    graph = onnx.load_from_string(bundle.int8).graph
    writer = _Writer(graph, _values(bundle))
    for node in graph.node:
        writer.add(node)
    return writer.pack([output.name for output in graph.output])


def _values(bundle: Bundle) -> dict[str, Array]:
    """Every tensor of the graph for the golden rows, by name."""
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(bundle.int8))
    held = {output.name for output in model.graph.output}
    kinds = {info.name: info.type.tensor_type.elem_type for info in model.graph.value_info}
    for node in model.graph.node:
        name = node.output[0]
        if name not in held:
            model.graph.output.append(helper.make_tensor_value_info(name, kinds[name], None))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    wanted = [output.name for output in session.get_outputs()]
    rows = [session.run(wanted, {"x": row[None]}) for row in bundle.golden.x]
    out = {name: np.stack([row[i] for row in rows]) for i, name in enumerate(wanted)}
    out["x"] = bundle.golden.x[:, None, :]
    return out


class _Writer:
    """One TFLite graph under construction."""

    def __init__(self, graph: onnx.GraphProto, values: dict[str, Array]) -> None:
        self._constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        self._rounded = {n.input[0]: n for n in graph.node if n.op_type == "QuantizeLinear"}
        self._values = values
        self._file = TfliteFile()
        self._at: dict[str, int] = {}
        self._dequantised: dict[str, tuple[str, str]] = {}
        self._at["x"] = self._file.tensor("x", values["x"].shape[1:], np.dtype(np.float32))

    def add(self, node: onnx.NodeProto) -> None:
        """Write one ONNX node."""
        special: dict[str, Callable[[onnx.NodeProto], None]] = {
            "Clip": self._clip,
            "Concat": self._concat,
            "DequantizeLinear": self._dequantise,
            "Gather": self._gather,
            "Gemm": self._dense,
            "Identity": self._reshape,
            "MatMul": self._dense,
            "QuantizeLinear": self._quantise,
            "ReduceMean": self._reduce,
            "ReduceMin": self._reduce,
            "ReduceSum": self._reduce,
            "Reshape": self._reshape,
            "Slice": self._slice,
            "Squeeze": self._reshape,
            "Sum": self._sum,
            "Transpose": self._transpose,
            "Unsqueeze": self._reshape,
        }
        if node.op_type in _ONE_TO_ONE:
            inputs = [self._find(name) for name in node.input]
            self._file.operator(_ONE_TO_ONE[node.op_type], inputs, self._made(node.output[0]))
        elif node.op_type in special:
            special[node.op_type](node)
        else:
            raise BundleError(f"tflite: operator {node.op_type} has no form in TFLite here")

    def pack(self, outputs: list[str]) -> bytes:
        """The finished file."""
        return self._file.pack([self._at["x"]], [self._at[name] for name in outputs])

    def _dense(self, node: onnx.NodeProto) -> None:
        x, weight = node.input[0], node.input[1]
        if node.op_type == "MatMul" and x in self._constants:
            inputs = [self._find(x), self._find(weight)]
            self._file.operator("BATCH_MATMUL", inputs, self._made(node.output[0]))
            return
        if x not in self._dequantised or weight not in self._dequantised:
            self._dense_float(node)
            return
        held, scale_name = self._dequantised[weight]
        w, scale = self._constants[held], np.atleast_1d(self._constants[scale_name])
        given = self._at[self._dequantised[x][0]]
        made = node.output[0]
        step, shape = np.array([self._step(made)]), self._values[made].shape[1:]
        quantised = self._file.tensor(f"{made}_q", shape, np.dtype(np.int8), step)
        if w.ndim == 2:
            transposed = any(a.name == "transB" and a.i for a in node.attribute)
            stored = self._file.constant(w if transposed else np.ascontiguousarray(w.T), scale)
            inputs = [given, stored, -1]
            if len(node.input) > 2:
                bias, bias_scale = self._dequantised[node.input[2]]
                inputs[2] = self._file.constant(
                    self._constants[bias], np.atleast_1d(self._constants[bias_scale])
                )
            options = schema.FullyConnectedOptionsT()
            options.keepNumDims = True
            self._file.operator("FULLY_CONNECTED", inputs, quantised, options)
        else:
            stored = self._file.constant(w, scale)
            self._file.operator("BATCH_MATMUL", [given, stored], quantised)
        if (next_q := self._rounded.get(made)) is not None:
            self._at[next_q.output[0]] = quantised
        else:
            self._file.operator("DEQUANTIZE", [quantised], self._made(made))

    def _step(self, name: str) -> float:
        """One step of the int8 numbers that a heavy layer gives."""
        if (next_q := self._rounded.get(name)) is not None:
            # The layer that follows reads it in these steps; they cut it as Relu would.
            return float(self._constants[next_q.input[1]])
        seen = self._values[name]
        peak = float(np.abs(seen).max()) or 1.0
        if np.abs(seen - np.round(seen)).max() < 1e-3:
            return 2.0 ** math.ceil(math.log2((peak + 1) / 127))
        return WIDEN * peak / 127

    def _dense_float(self, node: onnx.NodeProto) -> None:
        weight = self._constants[node.input[1]]
        if weight.ndim != 2:
            inputs = [self._find(node.input[0]), self._file.constant(weight)]
            self._file.operator("BATCH_MATMUL", inputs, self._made(node.output[0]))
            return
        inputs = [
            self._find(node.input[0]),
            self._file.constant(np.ascontiguousarray(weight.T)),
            -1,
        ]
        if len(node.input) > 2:
            inputs[2] = self._find(node.input[2])
        options = schema.FullyConnectedOptionsT()
        options.keepNumDims = True
        made = self._made(node.output[0])
        self._file.operator("FULLY_CONNECTED", inputs, made, options)

    def _quantise(self, node: onnx.NodeProto) -> None:
        if node.output[0] in self._at:
            return
        scale = np.atleast_1d(self._constants[node.input[1]])
        shape = self._values[node.output[0]].shape[1:]
        made = self._file.tensor(node.output[0], shape, np.dtype(np.int8), scale)
        self._at[node.output[0]] = made
        self._file.operator("QUANTIZE", [self._find(node.input[0])], made)

    def _dequantise(self, node: onnx.NodeProto) -> None:
        """Nothing to write: the layer that follows takes the int8 tensor itself."""
        self._dequantised[node.output[0]] = (node.input[0], node.input[1])

    def _clip(self, node: onnx.NodeProto) -> None:
        low, high = (self._find(name) for name in node.input[1:])
        name = node.output[0]
        shape = self._values[name].shape[1:]
        between = self._file.tensor(f"{name}_low", shape, np.dtype(np.float32))
        self._file.operator("MAXIMUM", [self._find(node.input[0]), low], between)
        self._file.operator("MINIMUM", [between, high], self._made(name))

    def _reshape(self, node: onnx.NodeProto) -> None:
        shape = np.array(self._values[node.output[0]].shape[1:], np.int32)
        inputs = [self._find(node.input[0]), self._file.constant(shape)]
        self._file.operator("RESHAPE", inputs, self._made(node.output[0]))

    def _transpose(self, node: onnx.NodeProto) -> None:
        (order,) = (list(a.ints) for a in node.attribute if a.name == "perm")
        inputs = [self._find(node.input[0]), self._file.constant(np.array(order, np.int32))]
        self._file.operator("TRANSPOSE", inputs, self._made(node.output[0]))

    def _gather(self, node: onnx.NodeProto) -> None:
        options = schema.GatherOptionsT()
        options.axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
        where = self._file.constant(self._constants[node.input[1]].astype(np.int32))
        inputs = [self._find(node.input[0]), where]
        self._file.operator("GATHER", inputs, self._made(node.output[0]), options)

    def _slice(self, node: onnx.NodeProto) -> None:
        shape = self._values[node.input[0]].shape[1:]
        begin, size = np.zeros(len(shape), np.int32), np.array(shape, np.int32)
        ((start,), (end,), (axis,)) = (self._constants[name] for name in node.input[1:4])
        begin[axis], size[axis] = start, end - start
        inputs = [self._find(node.input[0]), *map(self._file.constant, (begin, size))]
        self._file.operator("SLICE", inputs, self._made(node.output[0]))

    def _concat(self, node: onnx.NodeProto) -> None:
        options = schema.ConcatenationOptionsT()
        options.axis = next(a.i for a in node.attribute if a.name == "axis")
        inputs = [self._find(name) for name in node.input]
        made = self._made(node.output[0])
        self._file.operator("CONCATENATION", inputs, made, options)

    def _sum(self, node: onnx.NodeProto) -> None:
        inputs = [self._find(name) for name in node.input]
        self._file.operator("ADD_N", inputs, self._made(node.output[0]))

    def _reduce(self, node: onnx.NodeProto) -> None:
        options = schema.ReducerOptionsT()
        options.keepDims = bool(next((a.i for a in node.attribute if a.name == "keepdims"), 1))
        axes = next((list(a.ints) for a in node.attribute if a.name == "axes"), None)
        held = np.array(axes, np.int32) if axes else self._constants[node.input[1]].astype(np.int32)
        kind = {"ReduceSum": "SUM", "ReduceMean": "MEAN", "ReduceMin": "REDUCE_MIN"}[node.op_type]
        inputs = [self._find(node.input[0]), self._file.constant(held)]
        self._file.operator(kind, inputs, self._made(node.output[0]), options)

    def _find(self, name: str) -> int:
        if name not in self._at:
            self._at[name] = self._file.constant(self._constants[name])
        return self._at[name]

    def _made(self, name: str) -> int:
        value = self._values[name]
        self._at[name] = self._file.tensor(name, value.shape[1:], value.dtype)
        return self._at[name]
