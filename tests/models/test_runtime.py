"""A session gives the bundle's numbers or none."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gateway.cli.bench.footprint import footprint
from models import bundle, quantise, runtime
from models.errors import BundleError, DeviceError
from models.graph import Graph
from models.record import Record
from models.runtime import onnx, openvino
from models.training import failure
from tests.models import bundles


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> bundle.Bundle:
    return bundles.make(tmp_path_factory.mktemp("bundles") / "m.fwm")


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_the_cpu_replays_the_golden_vectors(
    held: bundle.Bundle, precision: runtime.Precision
) -> None:
    session = runtime.open_session(held, precision=precision)
    assert session.precision == precision
    assert runtime.replay(session, held.golden, 0.001).worst <= 1
    assert session.run(held.golden.x[:1])["probability"].shape == (1, 1)
    session.close()


def test_other_numbers_are_refused(held: bundle.Bundle) -> None:
    wrong = {name: value + 0.5 for name, value in held.golden.int8.items()}
    lying = replace(held, golden=replace(held.golden, int8=wrong))
    with pytest.raises(BundleError, match=r"golden vectors on cpu must agree within 0\.02"):
        runtime.open_session(lying)
    nan = {name: np.full_like(value, np.nan) for name, value in held.golden.int8.items()}
    with pytest.raises(BundleError, match="is not a number"):
        runtime.open_session(replace(held, golden=replace(held.golden, int8=nan)))


def test_a_further_model_takes_little_memory(tmp_path: Path) -> None:
    """Also a forest of 100 trees, what lies between whose layers is larger than the model."""
    random = np.random.default_rng(1)
    values = random.normal(size=(2000, 3))
    label = (values[:, 0] * values[:, 1] + 0.3 * random.normal(size=2000) > 0.4).astype(float)
    made = failure.train(Record(values, ("a", "b", "c"), labels={"f": label}), learn=["forest"])
    path = tmp_path / "f.fwm"
    made.write(path)
    assert len(made.int8) > 400_000
    mb, _ = footprint(path)
    assert mb < 5


def test_a_session_holds_no_graph_of_its_own(held: bundle.Bundle) -> None:
    before = sys.getrefcount(held.int8)
    session = runtime.open_session(held)
    after = sys.getrefcount(held.int8)
    assert after == before
    light = held.without_graphs()
    assert (light.int8, light.fp32) == (b"", b"")
    assert (light.manifest, light.sha256, light.path) == (held.manifest, held.sha256, held.path)
    assert runtime.replay(session, held.golden, 0.001).worst <= 1


def test_an_unknown_device_is_named(held: bundle.Bundle) -> None:
    with pytest.raises(DeviceError, match="device: must be"):
        runtime.open_session(held, "abacus")


def test_a_wrong_input_is_a_device_error(held: bundle.Bundle) -> None:
    session = runtime.open_session(held)
    with pytest.raises(DeviceError):
        session.run(np.zeros((2, bundles.D + 1), np.float32))


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_openvino_replays_the_golden_vectors(
    held: bundle.Bundle, precision: runtime.Precision
) -> None:
    pytest.importorskip("openvino")
    session = runtime.open_session(held, "openvino:CPU", precision=precision)
    assert session.device == "openvino:CPU"
    assert runtime.replay(session, held.golden, held.manifest.golden_tolerance).worst <= 1
    assert session.run(held.golden.x[:1])["probability"].shape == (1, 1)
    session.close()
    with pytest.raises(DeviceError, match="closed"):
        session.run(held.golden.x)


def test_openvino_standardises_to_the_last_bit(held: bundle.Bundle) -> None:
    """A tree's threshold lies anywhere; x / scale - centre / scale would lose what it asks for."""
    pytest.importorskip("openvino")
    graph = Graph("m", 3)
    z, _ = graph.prepare(graph.x, np.array([101_325.0, 298.15, 1e-3]), np.array([7.0, 0.3, 1e-5]))
    graph.output(z, "probability", ["n", 3])
    random = np.random.default_rng(8)
    x = np.array([101_325, 298.15, 1e-3]) + random.normal(size=(400, 3)) * [7, 0.3, 1e-5]
    x[::9, 1] = np.nan
    model = graph.model().SerializeToString()
    session = openvino.open_openvino(replace(held, fp32=model), "CPU", "fp32")
    rows = x.astype(np.float32)
    got, want = session.run(rows)["probability"], quantise.run(model, rows)["probability"]
    np.testing.assert_array_equal(got, want)


def test_a_device_that_is_not_here_says_what_to_install(held: bundle.Bundle) -> None:
    pytest.importorskip("openvino")
    with pytest.raises(DeviceError, match="sees only CPU"):
        runtime.open_session(held, "openvino:MYRIAD")
    for device in ("cuda", "tensorrt"):
        if device not in onnx.here():
            with pytest.raises(DeviceError, match=f"{device}: ONNX Runtime .* has only cpu"):
                runtime.open_session(held, device)


def test_tensorrt_is_asked_for_int8_with_an_engine_cache(
    held: bundle.Bundle, tmp_path: Path
) -> None:
    """What cannot run here: the options that NVIDIA's provider is given."""
    engines = tmp_path / "engines"
    (name, options), *rest = onnx._providers("tensorrt", held, "int8", engines)
    assert name == "TensorrtExecutionProvider"
    assert options["trt_int8_enable"]
    assert not options["trt_fp16_enable"]
    assert options["trt_profile_max_shapes"] == f"x:{onnx.ENGINE_ROWS_MAX}x{bundles.D}"
    assert options["trt_engine_cache_path"] == str(engines)
    assert rest == [("CUDAExecutionProvider", {"use_tf32": 0}), "CPUExecutionProvider"]
    (_, half), *_ = onnx._providers("tensorrt", held, "fp16", engines)
    assert half["trt_fp16_enable"]
    assert not half["trt_int8_enable"]
    assert half["trt_engine_cache_prefix"] != options["trt_engine_cache_prefix"]


def test_every_device_here_is_tried_and_auto_takes_one_that_passes(held: bundle.Bundle) -> None:
    dead = "http://127.0.0.1:9"
    tried = {each.device: each for each in runtime.try_all(held, runtime.candidates([dead]))}
    assert tried["cpu"].refused == ""
    assert tried["cpu"].off <= 1
    assert tried["cpu"].batch_1_us > 0
    assert tried[dead].refused
    session = runtime.open_session(held, "auto")
    assert not tried[session.device].refused
    assert runtime.replay(session, held.golden, held.manifest.golden_tolerance).worst <= 1
