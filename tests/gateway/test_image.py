"""The image, built without a Docker engine and run hardened, beside the demo's plant and InfluxDB.

The base comes from debootstrap, the wheels from the package index by the image's own lock. Outside
the container run the demo plant's four protocol servers and a real influxd.
"""

import json
import os
import shutil
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
from tests.servers import Influxd, influxd, require

ROOT = Path(__file__).resolve().parents[2]
BASE, IMAGE = "localhost/forewarn-base", "localhost/forewarn-under-test"
SUITE = "bookworm"
PACKAGES = "python3,python3-venv,tini,ca-certificates"
UID = 10001
SITE = "/opt/forewarn/lib/python3.11/site-packages"
STOP_S_MAX = 5.0
MORE = """
[console]
enabled = false
[influx]
api = "v1"
url = "{url}"
"""
LIMITS = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"]


@dataclass
class Store:
    """Where images and containers of this test live; gone with its folder."""

    folder: Path

    @property
    def options(self) -> list[str]:
        """Common to buildah and podman."""
        root, run = self.folder / "storage", self.folder / "run"
        return ["--root", str(root), "--runroot", str(run), "--storage-driver", "vfs"]

    def buildah(self, *words: str) -> str:
        """Run buildah to its end; gives what it printed."""
        return _run("buildah", *self.options, *words)

    def podman(self, *words: str, check: bool = True) -> str:
        """Run podman to its end."""
        common = ["--runtime", "runc", "--cgroup-manager=cgroupfs"]
        return _run("podman", *self.options, *common, *words, check=check)


def _run(*command: str, check: bool = True, timeout_s: float = 400) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=timeout_s)
    assert done.returncode == 0 or not check, (
        f"{command}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    )
    return done.stdout.strip()


def _context(folder: Path) -> Path:
    """What `docker build` would be given, with every wheel beside it."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    ignore = shutil.ignore_patterns("__pycache__", "node_modules", "wheelhouse")
    for name in ("gateway", "protocols", "models", "docker"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    wheels = folder / "docker" / "wheelhouse"
    for lock in ("gateway.lock", "build.lock"):
        _run(
            shutil.which("python3.11") or "python3", "-m", "pip", "download", "--quiet",
            "--no-deps", "--require-hashes", "--only-binary", ":all:",
            "-r", str(folder / "docker" / lock), "-d", str(wheels),
        )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """The built image."""
    if os.geteuid() != 0:
        pytest.skip("needs root to build an image without a Docker engine")
    for program in ("buildah", "podman", "runc", "debootstrap"):
        require(program)
    folder = tmp_path_factory.mktemp("image")
    made = Store(folder)
    try:
        base = folder / "base"
        _run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(base),
             "http://deb.debian.org/debian")  # fmt: skip
        scratch = made.buildah("from", "scratch")
        made.buildah("copy", "--quiet", scratch, str(base), "/")
        made.buildah("commit", "--quiet", scratch, BASE)
        made.buildah("rm", scratch)
        shutil.rmtree(base)
        context = _context(folder / "context")
        made.buildah(
            "bud", "--isolation", "chroot", "--pull-never", "--quiet", "--format", "docker",
            "--build-arg", f"BASE_IMAGE={BASE}", "--target", "gateway", "-t", IMAGE,
            "-f", str(context / "docker" / "Dockerfile"), str(context),
        )  # fmt: skip
        yield made
    finally:
        made.podman("rm", "--all", "--force", check=False)
        # Every layer is a whole copy: nothing of it may stay.
        made.buildah("rmi", "--all", "--force")
        shutil.rmtree(folder, ignore_errors=True)


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
        command = [*self.store.options, "--runtime", "runc", "--cgroup-manager=cgroupfs"]
        done = subprocess.run(
            ["podman", *command, "exec", self.name, "forewarn", "health"],
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
def box(store: Store, tmp_path: Path) -> Iterator[Box]:
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
                "-v", f"{data}:/var/lib/forewarn", *mounts, IMAGE,
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
        plant.wait(10)


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


def test_it_is_small_and_labelled(store: Store) -> None:
    about = json.loads(store.buildah("inspect", "--type", "image", IMAGE))
    config = about["Docker"]["config"]
    assert config["User"] == f"{UID}:{UID}"
    assert config["Healthcheck"]["Test"] == ["CMD", "forewarn", "health"]
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    size = json.loads(store.buildah("images", "--json", IMAGE))[0]["size"]
    base = json.loads(store.buildah("images", "--json", BASE))[0]["size"]
    print(f"image {size}, of which the Debian base {base}")
