"""The worker of the Neural Compute Stick 2, in its own Python: on the CPU where no stick is."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from models import bundle, quantise, runtime
from models.errors import DeviceError
from models.record import Record
from models.runtime import oip
from models.training import failure
from tests.models import bundles, peers

ARTIFACTS = Path(__file__).parents[2] / "models" / "artifacts"
WORKER = Path(__file__).parents[2] / "docker" / "ncs2"


@pytest.fixture(scope="module")
def stick_python() -> Path:
    return peers.python_of("ncs2", "python3.9", "openvino==2021.4.2", "numpy==1.19.5")


@pytest.fixture(scope="module", params=["net", "trees", "taught"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bundle.Bundle:
    path = tmp_path_factory.mktemp("ncs2") / "m.fwm"
    if request.param == "net":
        return bundles.make(path)
    if request.param == "taught":
        return bundle.read(ARTIFACTS / "conveyor-failure.fwm")
    random = np.random.default_rng(4)
    values = random.normal(size=(300, 4)) * [1, 1000, 1, 1] + [0, 1e5, 0, 0]
    heavy = (values[:, 0] * values[:, 2] > 0.6).astype(float)
    record = Record(values, ("a", "pascal", "c", "d"), labels={"heavy": heavy})
    trained = failure.train(record, learn=["forest", "boosted"])
    return trained.write(path)


@pytest.fixture
def worker(made: bundle.Bundle, stick_python: Path) -> Iterator[str]:
    command = [str(stick_python), str(WORKER / "worker.py"), str(made.path), "--port", "0"]
    process = subprocess.Popen([*command, "--device", "CPU"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline() or "{}")
        assert told["device"] == "CPU"
        yield f"http://127.0.0.1:{told['port']}"
    finally:
        process.terminate()
        process.communicate(timeout=10)


def test_the_worker_replays_the_golden_vectors(made: bundle.Bundle, worker: str) -> None:
    # How soon it answers is another question, and a busy machine has its own answer.
    session = oip.open_oip(made, worker, "fp16", timeout_s=60)
    assert runtime.replay(session, made.golden, 0.001).worst <= 1
    with pytest.raises(DeviceError, match=r"refused \(400"):
        session.run(made.golden.x[:, :2])
    # A wrong request does not end the worker.
    assert len(session.run(made.golden.x)[made.manifest.outputs[0]]) == len(made.golden.x)
    session.close()
    with pytest.raises(DeviceError, match="not ready"):
        runtime.open_session(made, f"{worker}/another", precision="fp16")


def test_the_sticks_plugin_takes_every_layer(made: bundle.Bundle, stick_python: Path) -> None:
    """Its compiler's front end runs without a stick."""
    done = subprocess.run(
        [str(stick_python), str(WORKER / "worker.py"), str(made.path), "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    told = json.loads(done.stdout)
    assert told["layers"] == told["myriad"] > 5


def _cut() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ncs2_cut", WORKER / "cut.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["ncs2_cut"] = module
    spec.loader.exec_module(module)
    return module


def test_a_graph_cut_in_two_gives_the_same(made: bundle.Bundle) -> None:
    cut = _cut().cut_before(made.fp32, "prepared", made.golden.x.shape[1])
    prepared = cut.prepare(made.golden.x)
    assert np.isfinite(prepared).all()
    session = quantise._session(cut.rest)
    name = made.manifest.outputs[0]
    got = np.concatenate([session.run([name], {"prepared": row[None]})[0] for row in prepared])
    np.testing.assert_allclose(got, made.golden.fp32[name], atol=1e-5)
