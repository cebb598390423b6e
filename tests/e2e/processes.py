"""The simulated plant and the gateway as processes of their own, as an operator would run them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway.store.reader import LogReader
from gateway.store.schema import FILE_NAME
from tests.eventually import eventually_blocking

HERE = Path(__file__).resolve().parents[2]
CONSOLE = "\n[console]\nport = 0\n"
"""Its own port is one for all gateways of this machine."""


class Gateway:
    """`forewarn run` on one configuration; started, stopped and killed by the test."""

    def __init__(self, config: Path) -> None:
        self.config = config
        self.data_dir = config.parent / "data"
        self.events = config.parent / "events.jsonl"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.events.open("ab") as events:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "run", str(self.config), "--headless"],
                stderr=events,
                cwd=HERE,
            )

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM, *, timeout_s: float = 30.0) -> int:
        """Send a signal and wait; what is promised is 5 s, on a machine that is not busy."""
        self.send(number)
        assert self._process is not None
        try:
            return self._process.wait(timeout_s)
        finally:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def told(self, event: str) -> list[dict[str, Any]]:
        """Events of that name so far."""
        lines = self.events.read_text().splitlines() if self.events.exists() else []
        rows = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [row for row in rows if row["event"] == event]

    @contextmanager
    def log(self) -> Iterator[LogReader]:
        """Its log, read beside it."""
        eventually_blocking((self.data_dir / FILE_NAME).exists)
        reader = LogReader(self.data_dir / FILE_NAME)
        try:
            yield reader
        finally:
            reader.close()


@contextmanager
def plant(folder: Path, arguments: Sequence[str] = ()) -> Iterator[subprocess.Popen[bytes]]:
    """The simulated plant; writes `forewarn.toml` for itself into `folder`."""
    config = folder / "forewarn.toml"
    with subprocess.Popen(
        [sys.executable, "-m", "gateway.demo", "--config", str(config), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        cwd=HERE,
        env=os.environ | {"PYTHONPATH": str(HERE)},
    ) as process:
        try:
            eventually_blocking(config.exists, timeout_s=30)
            with config.open("a") as file:
                file.write(CONSOLE)
            yield process
        finally:
            process.terminate()
            process.wait(30)


@contextmanager
def gateway(config: Path) -> Iterator[Gateway]:
    """A gateway that does not outlive the test."""
    one = Gateway(config)
    try:
        yield one
    finally:
        if one.running:
            one.stop(signal.SIGKILL)
