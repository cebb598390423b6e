"""Writes a bundle's int8 graph as TFLite, for the Edge TPU and other int8 boxes. Needs two extras.

The int8 weights, biases and input scales are taken over bit for bit. TFLite's int8 kernels also
give int8 out, so each heavy layer's output gets a range of its own, from the golden inputs; where
a layer counts whole numbers (the leaves of trees) its step is a power of two and nothing is lost.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from models.bundle import Bundle
from models.errors import BundleError

WIDEN = 1.25
_TYPES = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.int64): schema.TensorType.INT64,
    np.dtype(np.bool_): schema.TensorType.BOOL,
}
_ONE_TO_ONE = {
    "Abs": "ABS",
    "Add": "ADD",
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
_OPTIONS = {
    "ADD": "AddOptions",
    "SUB": "SubOptions",
    "MUL": "MulOptions",
    "DIV": "DivOptions",
    "EQUAL": "EqualOptions",
    "GREATER": "GreaterOptions",
    "GREATER_EQUAL": "GreaterEqualOptions",
    "LESS": "LessOptions",
    "LESS_EQUAL": "LessEqualOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "SELECT_V2": "SelectV2Options",
    "QUANTIZE": "QuantizeOptions",
    "DEQUANTIZE": "DequantizeOptions",
    "CAST": "CastOptions",
    "RESHAPE": "ReshapeOptions",
    "TRANSPOSE": "TransposeOptions",
    "EXP": "ExpOptions",
    "ABS": "AbsOptions",
    "NEG": "NegOptions",
    "SIGN": "SignOptions",
}

Array = NDArray[Any]


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
    return writer.file([output.name for output in graph.output])


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
        self._tensors: list[Any] = []
        self._buffers: list[Any] = [schema.BufferT()]
        self._operators: list[Any] = []
        self._codes: dict[int, int] = {}
        self._at: dict[str, int] = {}
        self._dequantised: dict[str, tuple[str, str]] = {}
        self._at["x"] = self._tensor("x", values["x"].shape[1:], np.dtype(np.float32))

    def add(self, node: onnx.NodeProto) -> None:
        """Write one ONNX node."""
        special: dict[str, Callable[[onnx.NodeProto], None]] = {
            "Cast": self._cast,
            "Clip": self._clip,
            "Concat": self._concat,
            "DequantizeLinear": self._dequantise,
            "Gather": self._gather,
            "Gemm": self._dense,
            "Identity": self._identity,
            "MatMul": self._dense,
            "QuantizeLinear": self._quantise,
            "ReduceMean": self._reduce,
            "ReduceMin": self._reduce,
            "ReduceSum": self._reduce,
            "Reshape": self._reshape,
            "Squeeze": self._reshape,
            "Sum": self._sum,
            "Transpose": self._transpose,
            "Unsqueeze": self._reshape,
        }
        if node.op_type in _ONE_TO_ONE:
            inputs = [self._find(name) for name in node.input]
            self._operator(_ONE_TO_ONE[node.op_type], inputs, self._made(node.output[0]))
        elif node.op_type in special:
            special[node.op_type](node)
        else:
            raise BundleError(f"tflite: operator {node.op_type} has no form in TFLite here")

    def file(self, outputs: list[str]) -> bytes:
        """The finished file."""
        import flatbuffers  # noqa: PLC0415 - comes with ai-edge-litert

        graph = schema.SubGraphT()
        graph.tensors, graph.operators = self._tensors, self._operators
        graph.inputs, graph.outputs = [self._at["x"]], [self._at[name] for name in outputs]
        graph.name = "main"
        model = schema.ModelT()
        model.version, model.description = 3, "forewarn"
        model.subgraphs, model.buffers = [graph], self._buffers
        model.operatorCodes = []
        for code in self._codes:
            held = schema.OperatorCodeT()
            held.builtinCode, held.deprecatedBuiltinCode, held.version = code, min(code, 127), 1
            model.operatorCodes.append(held)
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _dense(self, node: onnx.NodeProto) -> None:
        x, weight = node.input[0], node.input[1]
        if node.op_type == "MatMul" and x in self._constants:
            inputs = [self._find(x), self._find(weight)]
            options = schema.BatchMatMulOptionsT()
            made = self._made(node.output[0])
            self._operator("BATCH_MATMUL", inputs, made, "BatchMatMulOptions", options)
            return
        if x not in self._dequantised or weight not in self._dequantised:
            self._dense_float(node)
            return
        held, scale_name = self._dequantised[weight]
        w, scale = self._constants[held], np.atleast_1d(self._constants[scale_name])
        given = self._at[self._dequantised[x][0]]
        seen = self._values[node.output[0]]
        next_q = self._rounded.get(node.output[0])
        peak = float(np.abs(seen).max()) or 1.0
        whole = bool(np.abs(seen - np.round(seen)).max() < 1e-3)
        step = 2.0 ** math.ceil(math.log2((peak + 1) / 127)) if whole else WIDEN * peak / 127
        if next_q is not None:
            # The layer that follows reads it in these steps; they cut it as Relu would.
            step = float(self._constants[next_q.input[1]])
        shape = self._values[node.output[0]].shape[1:]
        quantised = self._tensor(f"{node.output[0]}_q", shape, np.dtype(np.int8), np.array([step]))
        if w.ndim == 2:
            transposed = any(a.name == "transB" and a.i for a in node.attribute)
            stored = self._constant(w if transposed else np.ascontiguousarray(w.T), scale, 0)
            inputs = [given, stored, -1]
            if len(node.input) > 2:
                bias, bias_scale = self._dequantised[node.input[2]]
                inputs[2] = self._constant(
                    self._constants[bias], np.atleast_1d(self._constants[bias_scale]), 0
                )
            options = schema.FullyConnectedOptionsT()
            options.keepNumDims = True
            self._operator("FULLY_CONNECTED", inputs, quantised, "FullyConnectedOptions", options)
        else:
            stored = self._constant(w, scale, 0)
            self._operator(
                "BATCH_MATMUL",
                [given, stored],
                quantised,
                "BatchMatMulOptions",
                schema.BatchMatMulOptionsT(),
            )
        if next_q is not None:
            self._at[next_q.output[0]] = quantised
        else:
            self._operator("DEQUANTIZE", [quantised], self._made(node.output[0]))

    def _dense_float(self, node: onnx.NodeProto) -> None:
        weight = self._constants[node.input[1]]
        if weight.ndim != 2:
            inputs = [self._find(node.input[0]), self._constant(weight)]
            options = schema.BatchMatMulOptionsT()
            made = self._made(node.output[0])
            self._operator("BATCH_MATMUL", inputs, made, "BatchMatMulOptions", options)
            return
        inputs = [self._find(node.input[0]), self._constant(np.ascontiguousarray(weight.T)), -1]
        if len(node.input) > 2:
            inputs[2] = self._find(node.input[2])
        options = schema.FullyConnectedOptionsT()
        options.keepNumDims = True
        made = self._made(node.output[0])
        self._operator("FULLY_CONNECTED", inputs, made, "FullyConnectedOptions", options)

    def _quantise(self, node: onnx.NodeProto) -> None:
        if node.output[0] in self._at:
            return
        scale = np.atleast_1d(self._constants[node.input[1]])
        shape = self._values[node.output[0]].shape[1:]
        made = self._tensor(node.output[0], shape, np.dtype(np.int8), scale)
        self._at[node.output[0]] = made
        self._operator("QUANTIZE", [self._find(node.input[0])], made)

    def _dequantise(self, node: onnx.NodeProto) -> None:
        """Nothing to write: the layer that follows takes the int8 tensor itself."""
        self._dequantised[node.output[0]] = (node.input[0], node.input[1])

    def _clip(self, node: onnx.NodeProto) -> None:
        low, high = (self._find(name) for name in node.input[1:])
        name = node.output[0]
        shape = self._values[name].shape[1:]
        between = self._tensor(f"{name}_low", shape, np.dtype(np.float32))
        self._operator("MAXIMUM", [self._find(node.input[0]), low], between)
        self._operator("MINIMUM", [between, high], self._made(name))

    def _cast(self, node: onnx.NodeProto) -> None:
        self._operator("CAST", [self._find(node.input[0])], self._made(node.output[0]))

    def _identity(self, node: onnx.NodeProto) -> None:
        shape = np.array(self._values[node.output[0]].shape[1:], np.int32)
        inputs = [self._find(node.input[0]), self._constant(shape)]
        self._operator("RESHAPE", inputs, self._made(node.output[0]))

    def _reshape(self, node: onnx.NodeProto) -> None:
        self._identity(node)

    def _transpose(self, node: onnx.NodeProto) -> None:
        (order,) = (list(a.ints) for a in node.attribute if a.name == "perm")
        inputs = [self._find(node.input[0]), self._constant(np.array(order, np.int32))]
        self._operator("TRANSPOSE", inputs, self._made(node.output[0]))

    def _gather(self, node: onnx.NodeProto) -> None:
        options = schema.GatherOptionsT()
        options.axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
        where = self._constant(self._constants[node.input[1]].astype(np.int32))
        inputs = [self._find(node.input[0]), where]
        self._operator("GATHER", inputs, self._made(node.output[0]), "GatherOptions", options)

    def _concat(self, node: onnx.NodeProto) -> None:
        options = schema.ConcatenationOptionsT()
        options.axis = next(a.i for a in node.attribute if a.name == "axis")
        inputs = [self._find(name) for name in node.input]
        made = self._made(node.output[0])
        self._operator("CONCATENATION", inputs, made, "ConcatenationOptions", options)

    def _sum(self, node: onnx.NodeProto) -> None:
        inputs = [self._find(name) for name in node.input]
        self._operator(
            "ADD_N", inputs, self._made(node.output[0]), "AddNOptions", schema.AddNOptionsT()
        )

    def _reduce(self, node: onnx.NodeProto) -> None:
        options = schema.ReducerOptionsT()
        options.keepDims = bool(next((a.i for a in node.attribute if a.name == "keepdims"), 1))
        axes = next((list(a.ints) for a in node.attribute if a.name == "axes"), None)
        held = np.array(axes, np.int32) if axes else self._constants[node.input[1]].astype(np.int32)
        kind = {"ReduceSum": "SUM", "ReduceMean": "MEAN", "ReduceMin": "REDUCE_MIN"}[node.op_type]
        inputs = [self._find(node.input[0]), self._constant(held)]
        self._operator(kind, inputs, self._made(node.output[0]), "ReducerOptions", options)

    def _find(self, name: str) -> int:
        if name not in self._at:
            self._at[name] = self._constant(self._constants[name])
        return self._at[name]

    def _made(self, name: str) -> int:
        value = self._values[name]
        self._at[name] = self._tensor(name, value.shape[1:], value.dtype)
        return self._at[name]

    def _constant(self, value: Array, scale: Array | None = None, axis: int = 0) -> int:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(value).tobytes(), np.uint8)
        self._buffers.append(buffer)
        made = self._tensor(f"k{len(self._buffers)}", value.shape, value.dtype, scale, axis)
        self._tensors[made].buffer = len(self._buffers) - 1
        return made

    def _tensor(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        scale: Array | None = None,
        axis: int = 0,
    ) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name, list(shape), _TYPES[dtype]
        tensor.buffer = 0
        if scale is not None:
            held = schema.QuantizationParametersT()
            held.scale = scale.astype(np.float32).tolist()
            held.zeroPoint = [0] * len(scale)
            held.quantizedDimension = axis
            tensor.quantization = held
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def _operator(
        self, kind: str, inputs: list[int], output: int, name: str = "", options: Any = None
    ) -> None:
        code = getattr(schema.BuiltinOperator, kind)
        operator = schema.OperatorT()
        operator.opcodeIndex = self._codes.setdefault(code, len(self._codes))
        operator.inputs, operator.outputs = inputs, [output]
        name = name or _OPTIONS.get(kind, "")
        if name:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, name)
            operator.builtinOptions = options or getattr(schema, f"{name}T")()
        self._operators.append(operator)
