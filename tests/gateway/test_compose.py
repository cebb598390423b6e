"""`docker/compose.yaml` brings the gateway up, by the page's own commands and podman's compose.

InfluxDB's and Grafana's images come from a registry, so theirs are judged by tools alone
(`test_docker_files.py`).
"""

import json
import os
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.eventually import eventually_blocking
from tests.gateway.test_box import commands
from tests.images import LIMITS, RUNTIME, UID, Store
from tests.images import run as run_to_end
from tests.servers import tool

COMPOSED = "forewarn:0.1.0"


@pytest.fixture
def shell(store: Store, image: str, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Runs commands of the page in the checkout, `docker compose` being podman's own compose."""
    compose = tool("podman-compose")
    store.podman("tag", image, f"localhost/{COMPOSED}")
    programs, etc = tmp_path / "bin", tmp_path / "etc"
    programs.mkdir()
    etc.mkdir()
    # podman, in the place of this test; and without what this machine's kernel does not have.
    podman = shlex.join(["podman", *store.options, *RUNTIME])
    (programs / "podman").write_text(
        '#!/bin/sh\nPATH="${PATH#*:}"\ncase "$1" in\n'
        f'create) shift; exec {podman} create {" ".join(LIMITS)} --no-healthcheck "$@";;\n'
        f'*) exec {podman} "$@";;\nesac\n'
    )
    (programs / "docker").write_text(f'#!/bin/sh\nshift\nexec {compose} "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    path = {"PATH": f"{programs}:{os.environ['PATH']}"}

    def run(script: str) -> str:
        return run_to_end("bash", "-euo", "pipefail", "-c", script, cwd=store.context, env=path)

    run(f"bash docker/secrets.sh {etc}/secrets; cp docker/forewarn.toml {etc}")
    example = (store.context / "docker" / ".env.example").read_text()
    settings = store.context / "docker" / ".env"
    # An address of this machine that nobody else has: the ports are fixed.
    example = example.replace("127.0.0.1", f"127.7.{os.getpid() % 250}.7")
    settings.write_text(example.replace("/etc/forewarn", str(etc)))
    try:
        yield run
    finally:
        run("docker compose -f docker/compose.yaml down --volumes || true")
        settings.unlink()


def test_compose_brings_the_gateway_up_and_replaces_it(
    store: Store, image: str, shell: Callable[[str], str]
) -> None:
    up, link = commands("compose")
    shell(up)
    name = "forewarn_forewarn_1"

    def said(script: str) -> str:
        return store.podman("exec", name, "sh", "-c", script, check=False)

    eventually_blocking(lambda: "of 1 sources up" in said("forewarn health"), timeout_s=60)
    # The console answers those who are let in: it listens on all of the container's addresses.
    page = "import urllib.request as r, socket as s;"
    page += "a = s.gethostbyname(s.gethostname()); assert not a.startswith('127.'), a;"
    page += "print(r.urlopen(f'http://{a}:8080/healthz').status)"
    page = f'/opt/forewarn/bin/python -c "{page}"'
    eventually_blocking(lambda: said(page) == "200", timeout_s=60)
    assert "/setup?key=" in shell(link)
    # As hard as compose asks for.
    about = json.loads(store.podman("inspect", name))[0]
    host = about["HostConfig"]
    assert host["ReadonlyRootfs"] is True
    assert (host["Memory"], host["PidsLimit"]) == (512 << 20, 128)
    assert any(option.startswith("no-new-privileges") for option in host["SecurityOpt"])
    status = said("cat /proc/self/status")
    assert re.search(r"Cap(Eff|Bnd):\s+0+\n", status)
    assert re.search(rf"Uid:\s+{UID}\s", status)
    assert len(said("cat /run/secrets/influxdb_token")) >= 32
    assert set(about["NetworkSettings"]["Networks"]) == {
        "forewarn_floor", "forewarn_inside", "forewarn_outside",
    }  # fmt: skip
    # A route out there is by `outside` alone.
    for network, leads in (("floor", False), ("inside", False), ("outside", True)):
        words = ["run", "--rm", *LIMITS, "--network", f"forewarn_{network}"]
        routes = store.podman(*words, "--entrypoint", "cat", image, "/proc/net/route")
        assert any(line.split()[1] == "00000000" for line in routes.splitlines()[1:]) == leads

    # Another container on the same volume goes on where this one ended.
    before = logged_signals(said)
    shell(f"{up.strip()} --force-recreate")
    eventually_blocking(lambda: "of 1 sources up" in said("forewarn health"), timeout_s=60)
    assert json.loads(store.podman("inspect", name))[0]["Id"] != about["Id"]
    assert logged_signals(said) == before


def logged_signals(said: Callable[[str], str]) -> str:
    """What makes the log this one and no other: its signals with their numbers, and its epoch."""
    script = "import sqlite3; log = sqlite3.connect('file:data/log.db?mode=ro', uri=True);"
    script += "print(log.execute('SELECT * FROM signal').fetchall())"
    return said(f'/opt/forewarn/bin/python -c "{script}"')
