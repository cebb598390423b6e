"""int8 is really int8, and stays near float32."""

import numpy as np
import onnx
import pytest

from models import quantise
from models.graph import Graph
from models.onnx_wire import check
from models.training.trees import _below


def _net(*, transposed: bool = False) -> onnx.ModelProto:
    random = np.random.default_rng(1)
    graph = Graph("net", 20)
    z, present = graph.prepare(graph.x, np.arange(20.0), np.full(20, 2.0))
    del present
    h = graph.dense(z, random.normal(size=(20, 64)) / 4, random.normal(size=64) / 9)
    if transposed:
        weight = graph.constant(random.normal(size=(8, 64)) / 8)
        y = graph.node("Gemm", h, weight, graph.constant(random.normal(size=8)), transB=1)
    else:
        y = graph.dense(h, random.normal(size=(64, 8)) / 8, random.normal(size=8), "")
    graph.output(y, "y", ["n", 8])
    return graph.model()


def _x(n: int = 500) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    random = np.random.default_rng(2)
    return (np.arange(20) + 2 * random.normal(size=(n, 20))).astype(np.float32)


@pytest.mark.parametrize("transposed", [False, True])
def test_int8_is_near_fp32(transposed: bool) -> None:
    model, x = _net(transposed=transposed), _x()
    int8 = quantise.quantise(model, x)
    want, got = quantise.run(model, x)["y"], quantise.run(int8, x)["y"]
    assert np.abs(got - want).std() < 0.03 * want.std()
    assert not np.array_equal(got, want)
    for tensor in int8.graph.initializer:
        if tensor.name.endswith("_q"):
            assert tensor.data_type in {onnx.TensorProto.INT8, onnx.TensorProto.INT32}
    assert check(int8.SerializeToString()).operators["QuantizeLinear"] == 2
    assert len(int8.SerializeToString()) < len(model.SerializeToString())


def test_what_rounding_cuts_is_no_operator() -> None:
    """Relu between layers, a Clip that reaches as far as int8; a Relu that others read stays."""
    for reach in (10.0, 6.0):
        int8 = quantise.quantise(_net(), _x(), ranges={"prepared": reach})
        operators = [node.op_type for node in int8.graph.node]
        assert not {"Relu", "Max", "Clip"} & set(operators)
        assert operators.count("Gemm") == 2
    narrow = quantise.quantise(_net(), _x(), ranges={"prepared": 12.0})
    assert [node.op_type for node in narrow.graph.node].count("Clip") == 1
    graph = Graph("net", 20)
    h = graph.dense(graph.x, np.eye(20), np.zeros(20))
    y = graph.node("Add", graph.dense(h, np.eye(20), np.zeros(20), ""), h)
    graph.output(y, "y", ["n", 20])
    x = np.random.default_rng(3).normal(size=(500, 20)).astype(np.float32)
    got = quantise.run(quantise.quantise(graph.model(), x), x)["y"]
    np.testing.assert_allclose(got, 2 * np.maximum(x, 0), atol=0.1)


def test_all_steps_serve_what_relu_lets_pass() -> None:
    graph = Graph("net", 1)
    h = graph.dense(graph.x, np.eye(1), np.zeros(1))
    graph.output(graph.dense(h, np.eye(1), np.zeros(1), ""), "y", ["n", 1])
    x = np.linspace(-1, 1, 2001, dtype=np.float32)[:, None]
    y = quantise.run(quantise.quantise(graph.model(), x, widen=1.0), x)["y"]
    assert np.abs(y - np.maximum(x, 0)).max() < 1 / 255 + 1 / 127
    np.testing.assert_allclose(y[x < -0.01], 0, atol=1e-6)
    assert len(np.unique(y.round(5))) > 120


def test_zero_points_are_zero_as_tensorrt_wants() -> None:
    int8 = quantise.quantise(_net(), _x())
    held = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in int8.graph.initializer}
    points = [node.input[2] for node in int8.graph.node if "Linear" in node.op_type]
    assert points
    assert all(not held[name].any() for name in points)


def test_what_lies_beyond_calibration_is_not_clipped() -> None:
    model, x = _net(), _x()
    narrow = quantise.quantise(model, x, widen=1.0)
    wide = quantise.quantise(model, x, widen=2.0)
    far = (np.arange(20) + 1.8 * (x - np.arange(20))).astype(np.float32)
    want = quantise.run(model, far)["y"]
    lost = [np.abs(quantise.run(each, far)["y"] - want).max() for each in (narrow, wide)]
    assert lost[1] < lost[0]


def test_a_missing_feature_is_as_if_at_its_centre() -> None:
    model, x = _net(), _x(4)
    gap, centre = x.copy(), x.copy()
    gap[:, 3], centre[:, 3] = np.nan, 3.0
    outputs = quantise.run(model, gap)["y"]
    np.testing.assert_allclose(outputs, quantise.run(model, centre)["y"], rtol=1e-5, atol=1e-6)
    assert np.isfinite(quantise.run(model, np.full((2, 20), np.inf, np.float32))["y"]).all()


def test_a_tree_asks_the_same_of_every_float32() -> None:
    """A threshold between two float32 values parts them, whichever way it would be rounded."""
    low = np.float32(0.1)
    high = np.nextafter(low, np.float32(1))
    for part in (0.25, 0.5, 0.75, 1.0):
        edge = _below(np.array([float(low) + part * (float(high) - float(low))]))
        assert edge == (high if part == 1 else low)


def test_golden_rows_hold_a_gap() -> None:
    rows = quantise.golden_rows(_x(), 16)
    assert rows.shape == (16, 20)
    assert np.isnan(rows).sum() == 1
    assert quantise.golden_rows(_x(1)).shape[0] >= 1
