"""Installs the npm peers and runs one of their scripts."""

import asyncio
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
INSTALL_TIMEOUT_S = 240


def missing(reason: str) -> None:
    """Skip the test, saying why; where a missing server is a failure, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def node_modules() -> Path:
    """The folder of the installed packages; one for each state of what asks for them."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        missing("needs node and npm")
    asked = [(HERE / name).read_bytes() for name in ("package.json", "package-lock.json")]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = home / "forewarn-test-peers" / hashlib.sha256(b"".join(asked)).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            for name in ("package.json", "package-lock.json"):
                shutil.copy(HERE / name, folder / name)
            done = subprocess.run(
                ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
                timeout=INSTALL_TIMEOUT_S,
            )
            if done.returncode != 0:
                missing(f"npm ci failed: {done.stderr.strip()[-200:]}")
            (folder / "done").touch()
    return folder / "node_modules"


class NodePeer:
    """A running script that takes commands as JSON lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.said: dict[str, Any] = {}

    async def answer(self) -> dict[str, Any]:
        """Its next line of JSON; other lines are a library's chatter. Empty when it has ended."""
        assert self._process.stdout is not None
        async with asyncio.timeout(60):
            while line := await self._process.stdout.readline():
                if line.startswith(b"{"):
                    said: dict[str, Any] = json.loads(line)
                    return said
        return {}

    async def send(self, **command: Any) -> None:
        """Give it one command, and wait until it has done it."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        await self._process.stdin.drain()
        await self.answer()


@asynccontextmanager
async def node_peer(script: str, *arguments: str) -> AsyncIterator[NodePeer]:
    """Run a script of this folder until the block ends; `said` is its first line of JSON."""
    modules = await asyncio.to_thread(node_modules)
    with tempfile.TemporaryFile() as errors:
        process = await asyncio.create_subprocess_exec(
            "node",
            str(HERE / script),
            *arguments,
            env={**os.environ, "NODE_PATH": str(modules)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        try:
            peer = NodePeer(process)
            peer.said = await peer.answer()
            if not peer.said:
                errors.seek(0)
                pytest.fail(f"{script} ended: {errors.read()[-500:]!r}")
            yield peer
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()
