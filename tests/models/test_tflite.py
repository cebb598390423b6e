"""TFLite gives the decisions of the int8 ONNX graph."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from gateway.cli import group
from models import bundle, quantise
from models.record import Record
from models.training import failure
from tests.models import bundles

pytest.importorskip("ai_edge_litert", reason="the tflite extra is not installed")

ARTIFACTS = Path(__file__).parents[2] / "models" / "artifacts"


def _run(path: Path, x: np.ndarray[Any, np.dtype[np.float32]]) -> list[np.ndarray[Any, Any]]:
    """Outputs of a TFLite file, row by row, in the file's order."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    given = interpreter.get_input_details()[0]["index"]
    outputs = [each["index"] for each in interpreter.get_output_details()]
    rows = []
    for row in x:
        interpreter.set_tensor(given, row[None])
        interpreter.invoke()
        rows.append([interpreter.get_tensor(each) for each in outputs])
    return [np.concatenate(column) for column in zip(*rows, strict=True)]


def _export(held: bundle.Bundle, tmp_path: Path) -> Path:
    out = tmp_path / "m.tflite"
    words = ["model", "export", str(held.path), "--format", "tflite", "--out", str(out)]
    done = CliRunner().invoke(group, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert out.read_bytes()[4:8] == b"TFL3"
    return out


def test_a_dense_net(tmp_path: Path) -> None:
    held = bundles.make(tmp_path / "m.fwm")
    x = (100 + 5 * np.random.default_rng(9).normal(size=(300, bundles.D))).astype(np.float32)
    (got,) = _run(_export(held, tmp_path), x)
    want = quantise.run(held.int8, x)["probability"]
    assert np.abs(got - want).max() < 0.03
    assert ((got > 0.5) == (want > 0.5)).mean() > 0.97


def test_trees_lose_nothing(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    values = random.normal(size=(500, 3))
    heavy = (values[:, 0] * values[:, 2] > 0.6).astype(float)
    record = Record(values, ("a", "b", "c"), labels={"heavy": heavy})
    made = failure.train(record, learn=["forest", "boosted"])
    path = tmp_path / "f.fwm"
    held = made.write(path)
    x = random.normal(size=(300, 3)).astype(np.float32)
    (got,) = _run(_export(held, tmp_path), x)
    np.testing.assert_allclose(got, quantise.run(held.int8, x)["probability"], atol=1e-4)


def test_the_shipped_failure_model(tmp_path: Path) -> None:
    held = bundle.read(ARTIFACTS / "conveyor-failure.fwm")
    file = _export(held, tmp_path)
    golden = held.golden.x
    random = np.random.default_rng(6)
    some = golden[random.integers(len(golden), size=200)]
    x = (some + 0.3 * np.nanstd(golden, axis=0) * random.normal(size=some.shape)).astype(np.float32)
    (got,) = _run(file, x)
    want = quantise.run(held.int8, x)["probability"]
    sure = np.abs(want - 0.5) > 0.1
    assert ((got > 0.5) == (want > 0.5))[sure].all()
    assert np.abs(got - want).mean() < 0.01


@pytest.mark.parametrize("name", ["pump", "compressor", "conveyor", "lathe"])
def test_the_shipped_anomaly_models(name: str, tmp_path: Path) -> None:
    held = bundle.read(ARTIFACTS / f"{name}.fwm")
    assert held.manifest.limit is not None
    limit = held.manifest.limit.value
    file = _export(held, tmp_path)
    golden = held.golden.x
    random = np.random.default_rng(6)
    spread = np.nanstd(golden, axis=0)
    some = golden[random.integers(len(golden), size=200)]
    x = (some + 0.3 * spread * random.normal(size=some.shape)).astype(np.float32)
    outputs = dict(zip(held.manifest.outputs, _run(file, x), strict=True))
    want = quantise.run(held.int8, x)["score"]
    sure = np.abs(want / limit - 1) > 0.05
    assert ((outputs["score"] > limit) == (want > limit))[sure].all()
    assert np.corrcoef(outputs["score"], want)[0, 1] > 0.99
