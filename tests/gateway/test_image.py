"""The image, built without a Docker engine and run hardened, beside the demo's plant and InfluxDB.

The base comes from debootstrap, the wheels from the package index by the image's own lock. Outside
the container run the demo plant's four protocol servers and a real influxd.
"""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.demo.configuration import configuration
from tests.eventually import eventually_blocking
from tests.images import BASE, LIMITS, RUNTIME, SITE, UID, Store
from tests.servers import Influxd, influxd

OWN_MB_MAX = 240
"""Of the program and all that it needs, byte code included; the base comes on top."""
TRAIN = """
python - > healthy.csv <<'END'
import numpy as np
rng = np.random.default_rng(1)
print("time_s,speed,current")
for i, (a, b) in enumerate(rng.normal((1500, 12), (5, 0.2), (3000, 2))):
    print(f"{i},{a:.3f},{b:.3f}")
END
forewarn train --data healthy.csv --time time_s --out pump.fwm >&2
forewarn model verify pump.fwm >&2
ls *.fwm
"""
STOP_S_MAX = 5.0
MORE = """
[console]
enabled = false
[influx]
api = "v1"
url = "{url}"
"""


@dataclass
class Box:
    """One running container and all that it talks to."""

    store: Store
    name: str
    data: Path
    influx: Influxd

    @property
    def pid(self) -> int:
        """Of its first process, as the host sees it."""
        return int(self.store.podman("inspect", "--format", "{{.State.Pid}}", self.name))

    def healthy(self) -> bool:
        """What the image's own health check says."""
        done = subprocess.run(
            ["podman", *self.store.options, *RUNTIME, "exec", self.name, "forewarn", "health"],
            check=False,
            capture_output=True,
            timeout=60,
        )
        return done.returncode == 0

    def logged(self) -> int:
        """Samples that are in the log on the disk."""
        with closing(sqlite3.connect(f"file:{self.data / 'log.db'}?mode=ro", uri=True)) as log:
            return int(log.execute("SELECT coalesce(sum(n), 0) FROM samples").fetchone()[0])


@pytest.fixture
def box(store: Store, image: str, tmp_path: Path) -> Iterator[Box]:
    """The gateway in a hardened container, reading the demo's plant, writing to influxd."""
    ports = tmp_path / "ports.json"
    plant = subprocess.Popen(
        [sys.executable, "-m", "gateway.demo", "--no-commands", "--ports-file", str(ports)],
        stdout=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    etc, data = tmp_path / "etc", tmp_path / "data"
    for folder in (etc, data):
        folder.mkdir()
    os.chown(data, UID, UID)
    # pytest's own folders are for their owner only; the container's user is another.
    for parent in [tmp_path, *tmp_path.parents]:
        if parent.name.startswith("pytest-"):
            parent.chmod(0o755)
    try:
        eventually_blocking(ports.exists, timeout_s=60)
        addresses = json.loads(ports.read_text())["sources"]
        devices = {}
        for asset in ("conveyor-1", "lathe-1"):
            path = addresses[asset]["path"]
            Path(path).chmod(0o666)
            devices[path] = addresses[asset]["path"] = f"/dev/tty-{asset}"
        with influxd(tmp_path / "influx") as server:
            server.query("CREATE DATABASE forewarn", "")
            bundles = {
                kind: [Path(f"{SITE}/models/artifacts/{kind}.fwm")]
                for kind in ("pump", "compressor", "conveyor", "lathe")
            }
            (etc / "forewarn.toml").write_text(
                configuration(
                    addresses,
                    data_dir=Path("/var/lib/forewarn/data"),
                    bundles=bundles,
                    more=MORE.format(url=server.url),
                )
            )
            name = f"forewarn-test-{os.getpid()}"
            mounts = [word for a, b in devices.items() for word in ("-v", f"{a}:{b}")]
            store.podman(
                "run", "--detach", "--name", name, "--network", "host", "--no-healthcheck",
                "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
                *LIMITS, "--tmpfs", "/tmp:size=16m", "-v", f"{etc}:/etc/forewarn:ro",
                "-v", f"{data}:/var/lib/forewarn", *mounts, image,
            )  # fmt: skip
            made = Box(store, name, data / "data", server)
            try:
                eventually_blocking(made.healthy, timeout_s=60)
                yield made
            finally:
                print(store.podman("logs", name, check=False)[-4000:])
                store.podman("rm", "--force", name, check=False)
    finally:
        plant.send_signal(signal.SIGTERM)
        plant.wait(30)


def test_it_is_hardened_writes_stops_in_time_and_loses_nothing(box: Box) -> None:
    eventually_blocking(lambda: box.influx.count() > 500, timeout_s=60)

    # Unprivileged: no root, no capability, no way to get one, nothing to write to but its data.
    processes = [box.pid]
    children = Path(f"/proc/{box.pid}/task/{box.pid}/children").read_text().split()
    processes += map(int, children)
    assert len(processes) > 1
    for pid in processes:
        status = dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if ":\t" in line
        )
        assert status["Uid"].split() == [str(UID)] * 4
        assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
        assert status["NoNewPrivs"] == "1"
    said = box.store.podman("exec", box.name, "sh", "-c", "touch /x 2>&1 || true")
    assert "Read-only file system" in said
    inside = box.store.podman("exec", box.name, "sh", "-c", f"ls {SITE}")
    for name in ("onnx", "pip", "sklearn", "pytest", "openvino"):
        assert name not in inside.split(), name
    assert box.store.podman("exec", box.name, "sh", "-c", "command -v gcc cc || true") == ""
    tools = box.store.podman("exec", box.name, "ls", "/opt/forewarn/bin").split()
    assert set(tools) == {"forewarn", "python", "python3", "python3.11"}

    # Killed in the middle: what was committed is there, and all of it reaches InfluxDB.
    before = box.logged()
    os.kill(processes[-1], signal.SIGKILL)
    eventually_blocking(
        lambda: box.store.podman("inspect", "--format", "{{.State.Running}}", box.name) == "false",
        timeout_s=20,
    )
    killed_at = box.logged()
    assert killed_at >= before
    box.store.podman("start", box.name)
    eventually_blocking(box.healthy, timeout_s=60)
    eventually_blocking(lambda: box.logged() > killed_at + 500, timeout_s=60)

    # Told to end, it ends in order and in time.
    asked_s = time.monotonic()
    box.store.podman("stop", "--time", "20", box.name)
    took_s = time.monotonic() - asked_s
    code = box.store.podman("inspect", "--format", "{{.State.ExitCode}}", box.name)
    assert code == "0"
    assert took_s < STOP_S_MAX + 3, f"took {took_s:.1f} s, of which podman itself some"
    box.store.podman("start", box.name)
    eventually_blocking(box.healthy, timeout_s=60)
    # A resend overwrites itself, so a count that is not lower than the log's says it is complete.
    eventually_blocking(lambda: box.influx.count("quality") >= killed_at, timeout_s=60)


def test_it_is_small_and_labelled(store: Store, image: str) -> None:
    about = json.loads(store.buildah("inspect", "--type", "image", image))
    config = about["Docker"]["config"]
    assert config["User"] == f"{UID}:{UID}"
    assert config["Healthcheck"]["Test"] == ["CMD", "forewarn", "health"]
    labels = config["Labels"]
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    base_mb, whole_mb = store.size_mb(BASE), store.size_mb(image)
    print(f"gateway: {whole_mb} MB, of which the Debian base {base_mb} MB")
    assert whole_mb - base_mb < OWN_MB_MAX
    bill = json.loads(store.inside(image, "cat /opt/forewarn/sbom.cdx.json"))
    versions = {component["name"]: component["version"] for component in bill["components"]}
    installed = store.inside(image, "dpkg-query --show").splitlines()
    assert len(installed) > 50
    for line in installed:
        name, version = line.split("\t")
        assert versions[name.partition(":")[0]] == version
    found = store.inside(image, f"ls {SITE}")
    for component in bill["components"]:
        if component["name"] == "onnxruntime":
            assert f"onnxruntime-{component['version']}.dist-info" in found


@pytest.mark.soak
@pytest.mark.parametrize("target", ["gateway-openvino", "gateway-train"])
def test_the_other_targets_build_and_do_their_work(store: Store, target: str) -> None:
    image = store.build(target)
    print(f"{target}: {store.size_mb(image)} MB, of which the base {store.size_mb(BASE)} MB")
    inside = store.inside(image, f"ls {SITE}").split()
    assert "pip" not in inside
    assert ("onnx" in inside) == (target == "gateway-train")
    bundle = f"{SITE}/models/artifacts/pump.fwm"
    if target == "gateway-openvino":
        said = store.inside(image, f"forewarn devices {bundle} --json")
        print(said)
        assert "openvino:CPU" in said
    else:
        said = store.inside(image, TRAIN)
        assert "pump.fwm" in said
