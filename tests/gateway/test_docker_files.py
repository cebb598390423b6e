"""What stands in docker/ fits together, and fits the tools that will read it."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.servers import require, tool

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
JUDGE = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
print(JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read()))
"""
DPKG = """Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2:2.36-9+deb12u14
Description: of more
 than one line

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1
"""
EXPOSURE_MAX = 2.5
"""Of systemd's own scale from 0 to 10."""


def run(*command: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=60, env={**os.environ, **more}
    )


def compose() -> dict[str, Any]:
    """The compose file, its anchors resolved."""
    read: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
    return read


def test_the_images_locks_are_cut_out_of_the_whole_lock() -> None:
    done = run(sys.executable, str(DOCKER / "locks.py"), "--check")
    assert done.returncode == 0, done.stderr
    whole = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    for path in DOCKER.glob("*.lock"):
        text = path.read_text(encoding="utf-8")
        hashes = re.findall(r"--hash=sha256:[0-9a-f]{64}", text)
        assert len(hashes) >= len(re.findall(r"^\S+==", text, re.MULTILINE)) > 0
        assert set(hashes) <= set(re.findall(r"--hash=sha256:[0-9a-f]{64}", whole))


def test_the_gateways_image_holds_no_training_and_no_test_library() -> None:
    names = set(re.findall(r"^([\w.-]+)==", (DOCKER / "gateway.lock").read_text(), re.MULTILINE))
    assert {"onnxruntime", "asyncua", "pymodbus", "numpy"} <= names
    assert not names & {"onnx", "scikit-learn", "openvino", "pytest", "mypy", "hatchling", "pip"}


def test_the_bill_of_materials_names_every_locked_version(tmp_path: Path) -> None:
    lock = DOCKER / "gateway.lock"
    done = run(sys.executable, str(DOCKER / "sbom.py"), str(lock))
    bill = json.loads(done.stdout)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    locked = re.findall(r"^([\w.-]+)==([^\s;]+)", lock.read_text(), re.MULTILINE)
    assert [(c["name"], c["version"]) for c in bill["components"]] == locked
    assert all(c["properties"] for c in bill["components"])
    assert done.stdout == run(sys.executable, str(DOCKER / "sbom.py"), str(lock)).stdout
    status = tmp_path / "status"
    status.write_text(DPKG)
    whole = json.loads(run(sys.executable, str(DOCKER / "sbom.py"), str(lock), str(status)).stdout)
    (debian,) = [c["purl"] for c in whole["components"] if c["purl"].startswith("pkg:deb")]
    assert debian == "pkg:deb/debian/libc6@2%3A2.36-9%2Bdeb12u14?arch=amd64"
    bill_file = tmp_path / "bill.json"
    bill_file.write_text(json.dumps(whole))
    # CycloneDX's own library holds its schema.
    judged = run(tool("python"), "-c", JUDGE, str(bill_file))
    assert (judged.returncode, judged.stdout) == (0, "None\n"), judged.stdout + judged.stderr


@pytest.mark.soak
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("target", ["gateway", "gateway-openvino", "gateway-train"])
def test_every_locked_version_has_a_wheel_for(machine: str, target: str, tmp_path: Path) -> None:
    made = subprocess.run(
        ["make", "wheelhouse", f"TARGET={target}", f"MACHINE={machine}", f"WHEELS={tmp_path}/w"],
        cwd=ROOT, check=False, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    platforms = {path.stem.rpartition("-")[2] for path in (tmp_path / "w").glob("*.whl")}
    assert any(machine in platform for platform in platforms)
    assert all(platform == "any" or machine in platform for platform in platforms), platforms


@pytest.mark.parametrize("name", list(compose()["services"]))
def test_every_container_is_hardened_and_watched(name: str) -> None:
    service = compose()["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "cpus", "pids_limit", "restart", "logging"} <= set(service)
    # The gateway's own image brings its health check; so does the worker's.
    own = name in ("forewarn", "ncs2")
    assert own or "healthcheck" in service
    assert not service.get("privileged")
    assert service.get("network_mode") != "host"


def test_only_the_gateway_has_a_way_out() -> None:
    whole = compose()
    networks, services = whole["networks"], whole["services"]
    assert {n for n, made in networks.items() if (made or {}).get("internal")} == {
        "floor",
        "inside",
    }
    assert [n for n, s in services.items() if "outside" in s["networks"]] == ["forewarn"]
    for name, service in services.items():
        for port in service.get("ports", ()):
            assert port.startswith("${FOREWARN_ADDRESS:-127.0.0.1}:"), name
    for secret in whole["secrets"].values():
        assert set(secret) == {"file"}


def test_every_setting_of_compose_is_in_the_example() -> None:
    text = (DOCKER / "compose.yaml").read_text(encoding="utf-8")
    used = set(re.findall(r"(?<!\$)\$\{(\w+)", text))
    offered = set(re.findall(r"^(\w+)=", (DOCKER / ".env.example").read_text(), re.MULTILINE))
    assert used == offered
    assert len(offered) == 3


PROFILES = ("influx3", "mosquitto", "ncs2")


@pytest.mark.parametrize("profiles", [(), *[(one,) for one in PROFILES], PROFILES])
def test_podman_compose_takes_it(profiles: tuple[str, ...]) -> None:
    require("podman")
    words = [word for profile in profiles for word in ("--profile", profile)]
    files = ["--env-file", str(DOCKER / ".env.example"), "--file", str(DOCKER / "compose.yaml")]
    done = run(tool("podman-compose"), *words, *files, "config")
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    optional = {"influx3": "influxdb3"}
    wanted = {"forewarn", "influxdb", "grafana", *(optional.get(p, p) for p in profiles)}
    assert set(services) == wanted
    assert services["forewarn"]["ports"] == ["127.0.0.1:8080:8080"]
    assert "/etc/forewarn:/etc/forewarn:ro" in services["forewarn"]["volumes"]


def test_without_its_settings_compose_says_what_to_set(tmp_path: Path) -> None:
    require("podman")
    nothing = tmp_path / ".env"
    nothing.write_text("")
    files = ["--env-file", str(nothing), "--file", str(DOCKER / "compose.yaml")]
    done = run(tool("podman-compose"), *files, "config")
    assert done.returncode != 0
    assert "set it in docker/.env" in done.stderr


def test_compose_keeps_to_its_specification(tmp_path: Path) -> None:
    check = [tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    done = run(*check, str(DOCKER / "compose.yaml"))
    assert done.returncode == 0, done.stdout
    # That the check can fail.
    wrong = tmp_path / "compose.yaml"
    wrong.write_text((DOCKER / "compose.yaml").read_text().replace("cap_drop:", "cap_dropp:"))
    assert run(*check, str(wrong)).returncode == 1


def test_docker_compose_takes_it(tmp_path: Path) -> None:
    docker = ["docker", "compose"]
    if not shutil.which("docker") or run(*docker, "version").returncode != 0:
        pytest.skip("Docker's own compose plugin is not here: podman-compose and the schema judge")
    env = tmp_path / ".env"
    env.write_text((DOCKER / ".env.example").read_text())
    done = run(*docker, "--project-directory", str(DOCKER), "--env-file", str(env), "config", "-q")
    assert done.returncode == 0, done.stderr


def test_secrets_are_made_once_and_are_no_shorter_than_they_should_be(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    assert run("bash", str(DOCKER / "secrets.sh"), str(folder)).returncode == 0
    first = {path.name: path.read_text() for path in folder.iterdir()}
    assert {f"{name}" for name in first} == set(compose()["secrets"])
    assert all(len(text) >= 32 and text.isalnum() for text in first.values())
    assert len(set(first.values())) == 3
    assert run("bash", str(DOCKER / "secrets.sh"), str(folder)).returncode == 0
    assert {path.name: path.read_text() for path in folder.iterdir()} == first


def test_systemd_takes_the_unit_and_finds_it_closed(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed: the unit is not checked by its tool")
    unit = tmp_path / "forewarn.service"
    text = (DOCKER / "systemd" / "forewarn.service").read_text(encoding="utf-8")
    # The program is not installed here.
    unit.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE))
    verified = run("systemd-analyze", "verify", str(unit))
    ours = [line for line in verified.stderr.splitlines() if "forewarn" in line]
    assert (verified.returncode, ours) == (0, [])
    secured = run("systemd-analyze", "security", "--offline=true", str(unit))
    level = re.search(r"exposure level for \S+: ([\d.]+)", secured.stdout)
    assert level, secured.stdout + secured.stderr
    assert float(level[1]) <= EXPOSURE_MAX


def test_the_unit_and_the_image_run_the_same_command() -> None:
    unit = (DOCKER / "systemd" / "forewarn.service").read_text(encoding="utf-8")
    image = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    command = re.search(r"^ExecStart=\S+/forewarn (.+)$", unit, re.MULTILINE)
    arguments = re.findall(r"^CMD (\[.+\])$", image, re.MULTILINE)
    assert command
    assert json.loads(arguments[0]) == command[1].split()
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert compose()["services"]["forewarn"]["image"] == f"forewarn:{version}"
    assert f'org.opencontainers.image.version="{version}"' in image
