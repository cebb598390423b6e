"""Model servers and runtimes of others, each in a virtual environment of its own.

They are made once for all checkouts of a machine, from PyPI, where npm's peers are as well.
"""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
ROOT = CACHE / "forewarn-test-peers"


def python_of(name: str, interpreter: str, *packages: str, required: bool = False) -> Path:
    """The Python of a peer's environment; the test is skipped where it cannot be made.

    With `required` it fails instead where CI is "true".
    """
    ROOT.mkdir(parents=True, exist_ok=True)
    with (ROOT / f"{name}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        return _made(name, interpreter, *packages, required=required)


def _made(name: str, interpreter: str, *packages: str, required: bool) -> Path:
    give_up = pytest.fail if required and os.environ.get("CI") == "true" else pytest.skip
    home = ROOT / name
    python = home / "bin" / "python"
    stamp = home / ".made"
    if stamp.exists() and stamp.read_text() == " ".join(packages):
        return python
    found = _interpreter(interpreter)
    if found is None:
        give_up(f"{name}: no {interpreter} here")
    shutil.rmtree(home, ignore_errors=True)
    for command in (
        [found, "-m", "venv", str(home)],
        [str(python), "-m", "pip", "install", "--quiet", "--only-binary=:all:", *packages],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
        if done.returncode:
            give_up(f"{name}: cannot be installed: {done.stderr.strip()[-200:]}")
    stamp.write_text(" ".join(packages))
    return python


def _interpreter(name: str) -> str | None:
    """A Python that runs; a shim of pyenv may stand for a version that is not selected."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    version = Path(name).name.removeprefix("python")
    for found in [shutil.which(name), *map(str, pyenv.glob(f"{version}.*/bin/{name}"))]:
        if found is not None:
            probe = subprocess.run([found, "--version"], capture_output=True, check=False)
            if probe.returncode == 0:
                return found
    return None
