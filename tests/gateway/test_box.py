"""A bare Debian box becomes a gateway by the very commands of `docker/README.md`.

The box is real but for its hardware and its kernel: packages, systemd and InfluxDB are Debian's,
the unit has all its locks, and a Modbus machine has the address that the example names.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import blocks
from tests.debian import INIT, MACHINE_ADDRESS, Box, booted
from tests.eventually import eventually_blocking

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docker" / "README.md"
KNOWN = {"clone", "make", "image", "compose", "box"}
"""What runs a block: two tests here, two of the image, and the box."""
STOP_S_MAX = 5.0
EXPOSURE_MAX = 2.5
"""Of systemd's own scale from 0 to 10."""
MACHINE = f"""
import asyncio, numpy as np
from gateway.demo.modbus_device import modbus_tcp
async def main():
    registers = np.arange(200, dtype=np.uint16)
    async with modbus_tcp(1, registers, "{MACHINE_ADDRESS}", 502):
        while True:
            registers[100] = (registers[100] + 1) % 3000
            await asyncio.sleep(0.5)
asyncio.run(main())
"""


ASK = """
from urllib.request import urlopen
query = "SELECT+count(value)+FROM+signal"
print(urlopen(f"http://127.0.0.1:8086/query?db=forewarn&q={query}").read().decode())
"""


def commands(where: str, note: str = "") -> list[str]:
    """The blocks of the page that this runs, in order."""
    return [b.text for b in blocks(PAGE) if b.where == where and b.note.startswith(note)]


def test_every_command_of_the_page_is_run_or_says_why_not() -> None:
    found = blocks(PAGE)
    assert {block.where for block in found if block.where} == KNOWN
    for block in found:
        if not block.where:
            assert len(block.note) > 20, f"line {block.line}: why is it not run?"
            print(f"docker/README.md:{block.line} is not run: {block.note}")


def in_chroot(root: Path, script: str) -> None:
    """Run a script in a system that is not running, with this machine's network."""
    # No daemon may start: it would be one of this machine.
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    done = subprocess.run(
        ["chroot", str(root), "bash", "-euc", script],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"},
    )
    policy.unlink()
    assert done.returncode == 0, f"{script}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"


@pytest.fixture(scope="module")
def stick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make stick` makes."""
    folder = tmp_path_factory.mktemp("stick") / "stick"
    (script,) = [text for text in commands("make") if "make stick" in text]
    done = subprocess.run(
        ["bash", "-euc", script],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"MAKEFLAGS": f"STICK={folder}"},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def box(debian: Path, stick: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A Debian that has booted, with the stick in it and a machine on its wire."""
    root = tmp_path_factory.mktemp("box") / "root"
    subprocess.run(["cp", "-a", str(debian), str(root)], check=True)
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    in_chroot(root, f"apt-get update -qq; apt-get install -qq -y --no-install-recommends {INIT}")
    for script in commands("box", "before"):
        in_chroot(root, script)
    shutil.copytree(stick, root / "media/stick")
    with booted(root) as made:
        machine = made.beside(sys.executable, "-c", MACHINE)
        try:
            yield made
        finally:
            machine.kill()
            machine.wait(30)
    shutil.rmtree(root, ignore_errors=True)


def written(box: Box) -> int:
    """Samples in the box's InfluxDB."""
    said = box.must(f"/opt/forewarn/bin/python -c '{ASK}'")
    (result,) = json.loads(said)["results"]
    return int(result["series"][0]["values"][0][1]) if "series" in result else 0


def well(box: Box) -> bool:
    """Whether the gateway says that it is, with its machine connected."""
    return "1 of 1 sources up" in box.run("forewarn health").stdout


def test_a_bare_debian_becomes_a_gateway_by_the_commands_of_the_page(box: Box) -> None:
    begun_s = time.monotonic()
    install, start, look, secrets, backup, restore, upgrade, support = (
        text for text in commands("box") if text not in commands("box", "before")
    )
    box.must(install)
    said = box.must(start)
    assert f"tcp://{MACHINE_ADDRESS}" in said or "press-1" in said, said
    eventually_blocking(lambda: well(box) and written(box) > 5, timeout_s=60)
    print(f"from the bare box to samples in InfluxDB: {time.monotonic() - begun_s:.0f} s")

    # Locked in by systemd, and as open as its own tool says.
    eventually_blocking(lambda: "set_up" in box.must("journalctl --unit forewarn"), timeout_s=30)
    said = box.must(look)
    assert "/setup?key=" in said
    level = re.search(r"exposure level for \S+: ([\d.]+)", said)
    assert level, said
    assert float(level[1]) <= EXPOSURE_MAX
    pid = box.must("systemctl show --property MainPID --value forewarn").strip()
    status = box.must(f"grep -E 'Uid|Cap(Eff|Bnd)|NoNewPrivs|Seccomp:' /proc/{pid}/status")
    assert re.search(r"CapEff:\s+0+\n", status)
    assert re.search(r"NoNewPrivs:\s+1\n", status)
    assert re.search(r"Seccomp:\s+2\n", status)
    assert not re.search(r"Uid:\s+0\s", status)

    # A secret comes through systemd, for the gateway alone.
    box.must(secrets)
    eventually_blocking(lambda: well(box), timeout_s=30)
    pid = box.must("systemctl show --property MainPID --value forewarn").strip()
    handed = f"/proc/{pid}/root/run/credentials/forewarn.service/influxdb_token"
    assert box.must(f"stat -c %U:%a {handed}").strip() == "forewarn:400"

    # Kept, lost, and back: nothing of what was backed up is missing, and it goes on.
    said = box.must(backup)
    assert re.search(r"\d+ files", said)
    kept = written(box)
    box.must(restore)
    eventually_blocking(lambda: well(box) and written(box) > kept, timeout_s=60)

    # Replaced while it runs; it ends in time and starts well.
    box.must(upgrade, timeout_s=300)
    eventually_blocking(lambda: well(box), timeout_s=60)
    asked_s = time.monotonic()
    box.must("systemctl stop forewarn")
    assert time.monotonic() - asked_s < STOP_S_MAX
    assert "status=0/SUCCESS" in box.run("systemctl status forewarn").stdout
    box.must("systemctl start forewarn")
    eventually_blocking(lambda: well(box), timeout_s=60)
    assert "versions.json" in box.must(support)
    faults = [
        line
        for line in box.must("journalctl --unit forewarn --output cat").splitlines()
        if '"level": "error"' in line or "Traceback" in line
    ]
    assert faults == []


def test_the_first_steps_with_containers_work_in_a_clone(tmp_path: Path) -> None:
    begin, dashboards = commands("clone")
    etc = tmp_path / "etc"
    script = begin.replace("ADDRESS-OF-THIS-REPOSITORY", f"file://{ROOT}")
    script = script.replace("/etc/forewarn", str(etc))
    dashboards = dashboards.replace("/etc/forewarn", str(etc))
    done = subprocess.run(
        ["bash", "-euc", f"{script}ln -s {sys.prefix} .venv\n{dashboards}"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert (etc / "secrets").stat().st_mode & 0o777 == 0o700
    assert (etc / "forewarn.toml").exists()
    plant = (tmp_path / "forewarn/docker/grafana/dashboards/plant.json").read_text()
    assert ", press shop : press" in plant


@pytest.mark.parametrize("name", ["forewarn.toml", "systemd/forewarn.toml"])
def test_the_configurations_to_begin_with_are_valid(name: str) -> None:
    path = ROOT / "docker" / name
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "check", str(path)],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
