"""The shipped bundles on an NVIDIA GPU: the same golden vectors, through CUDA and TensorRT.

Needs the GPU, onnxruntime-gpu in place of onnxruntime (and TensorRT's libraries for its half), and
nothing of the gateway. Each test prints what it measured; without the device all are skipped.
"""

import ctypes
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from models import bundle, runtime
from models.errors import BundleError, DeviceError
from models.runtime import onnx

ARTIFACTS = sorted((Path(__file__).parents[2] / "models" / "artifacts").glob("*.fwm"))
ENGINE = "libnvinfer.so"
ENGINE_VERSIONS = ("", ".11", ".10", ".8")


def _missing(device: str) -> str:
    """Why this device cannot be tested here; "" where it must work."""
    if device not in onnx.here():
        return f"no {onnx.PROVIDERS[device]} in ONNX Runtime {ort.__version__} ({onnx.HOW[device]})"
    if device == "tensorrt" and not any(_loads(ENGINE + v) for v in ENGINE_VERSIONS):
        return f"no {ENGINE} on this machine: install TensorRT"
    return ""


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


@pytest.fixture(params=["cuda", "tensorrt"])
def device(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if reason := _missing(name):
        pytest.skip(reason)
    return name


@pytest.fixture
def tensorrt() -> str:
    if reason := _missing("tensorrt"):
        pytest.skip(reason)
    return "tensorrt"


@pytest.fixture(params=ARTIFACTS, ids=lambda path: path.stem)
def held(request: pytest.FixtureRequest) -> bundle.Bundle:
    return bundle.read(request.param)


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engines")


def _median_us(session: runtime.Session, rows: Any) -> float:
    took = []
    for _ in range(30):
        started_ns = time.perf_counter_ns()
        session.run(rows)
        took.append(time.perf_counter_ns() - started_ns)
    return float(np.median(took)) / 1e3


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_the_golden_vectors_are_reproduced(
    held: bundle.Bundle,
    device: str,
    precision: runtime.Precision,
    engines: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    started_s = time.perf_counter()
    session = runtime.open_session(held, device, precision=precision, cache=engines)
    load_ms = 1e3 * (time.perf_counter() - started_s)
    assert session.precision == precision
    seen = runtime.replay(session, held.golden, held.manifest.golden_tolerance)
    wide = held.golden.x.shape[1]
    us = [_median_us(session, np.resize(held.golden.x, (n, wide))) for n in (1, 32, 1024)]
    session.close()
    with capsys.disabled():
        print(
            f"\n{held.manifest.kind:8}{held.id:24}{device:9}{precision:5}load {load_ms:8.0f} ms, "
            f"1/32/1024 rows {us[0]:6.0f}/{us[1]:6.0f}/{us[2]:6.0f} us, "
            f"off {seen.worst:.1%} of what is allowed ({seen.output})"
        )
    assert seen.worst <= 1


def test_the_gpu_does_the_work(
    held: bundle.Bundle, device: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A provider that starts may still leave every node to the CPU; the profile tells."""
    options = ort.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    providers = onnx._providers(device, held, "int8", None)
    session = ort.InferenceSession(held.int8, options, providers=providers)
    session.run(None, {"x": held.golden.x})
    events = json.loads(Path(session.end_profiling()).read_text())
    ran = Counter(
        event["args"]["provider"] for event in events if event.get("args", {}).get("provider")
    )
    left = sorted(
        {
            event["args"]["op_name"]
            for event in events
            if event.get("args", {}).get("provider") == onnx.PROVIDERS["cpu"]
        }
    )
    with capsys.disabled():
        print(f"\n{held.id:24}{device:9}ran {dict(ran)}; left to the CPU: {left}")
    assert ran[onnx.PROVIDERS[device]] > 0


def test_a_fleet_larger_than_an_engine_gives_the_same_rows(
    held: bundle.Bundle, device: str, engines: Path
) -> None:
    session = runtime.open_session(held, device, precision="int8", cache=engines)
    few = session.run(held.golden.x)
    rows = onnx.ENGINE_ROWS_MAX + len(held.golden.x)
    many = session.run(np.resize(held.golden.x, (rows, held.golden.x.shape[1])))
    session.close()
    for name, value in few.items():
        np.testing.assert_allclose(many[name][: len(value)], value, rtol=1e-3, atol=1e-4)
        assert len(many[name]) == rows


def test_the_engine_is_built_once(
    held: bundle.Bundle, tensorrt: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loads_s, built = [], []
    for _ in range(2):
        started_s = time.perf_counter()
        runtime.open_session(held, tensorrt, precision="int8", cache=tmp_path).close()
        loads_s.append(time.perf_counter() - started_s)
        built.append({path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.engine")})
    with capsys.disabled():
        print(f"\n{held.id:24}tensorrt first load {loads_s[0]:.1f} s, second {loads_s[1]:.1f} s")
    assert built[0]
    assert built[1] == built[0], "the second load built its engine again"
    assert loads_s[1] < loads_s[0]


def test_half_precision_is_believed_only_where_it_proves_itself(
    held: bundle.Bundle, tensorrt: str, engines: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        session = runtime.open_session(held, tensorrt, precision="fp16", cache=engines)
    except BundleError as error:
        told = f"refused: {error}"
        assert "golden vectors" in told or "is not a number" in told
    else:
        seen = runtime.replay(session, held.golden, runtime.HALF_TOLERANCE)
        told = f"off {seen.worst:.1%} of what is allowed ({seen.output})"
        assert session.precision == "fp16"
        assert seen.worst <= 1
        session.close()
    with capsys.disabled():
        print(f"\n{held.id:24}tensorrt fp16 {told}")


def test_what_is_not_asked_for_is_the_best_that_passes(
    held: bundle.Bundle, tensorrt: str, engines: Path
) -> None:
    """int8, or half precision where TensorRT cannot take int8; never an unproven graph."""
    try:
        session = runtime.open_session(held, tensorrt, cache=engines)
    except (BundleError, DeviceError) as error:
        pytest.fail(f"neither int8 nor fp16 passed: {error}")
    assert session.precision in {"int8", "fp16"}
    session.close()


def test_wrong_rows_leave_the_gpu_usable(held: bundle.Bundle, device: str, engines: Path) -> None:
    session = runtime.open_session(held, device, precision="int8", cache=engines)
    with pytest.raises(DeviceError):
        session.run(held.golden.x[:, :-1])
    assert runtime.replay(session, held.golden, held.manifest.golden_tolerance).worst <= 1
    session.close()
