"""Whole gateways against a device in another process, for `forewarn bench`."""

import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from gateway.app import Gateway
from gateway.config import parse
from models.bundle import Bundle

START_S_MAX = 60.0
SETTLE_S = 5.0


@dataclass(frozen=True, slots=True)
class Wire:
    """A gateway inside this process, fed from the wire."""

    samples: int
    cpu_us_per_sample: float


@dataclass(frozen=True, slots=True)
class Process:
    """`forewarn run` in a process of its own."""

    rss_mb: float
    first_sample_s: float


@contextlib.contextmanager
def _device() -> Iterator[int]:
    with subprocess.Popen(  # Our own interpreter and module.
        [sys.executable, "-m", "gateway.cli.bench.device"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.stdin.close()
        process.wait()


def _configuration(
    port: int, units: int, registers: int, bundle: Path | None, signals: Sequence[str]
) -> str:
    """`units` units of `registers` registers; every `len(signals)` registers are one asset."""
    k = len(signals)
    rows, assets = [], []
    for unit in range(1, units + 1):
        for register in range(registers):
            asset = f"u{unit}-{register // k}"
            rows.append(
                f'{{ asset = "{asset}", signal = "{signals[register % k]}", '
                f'unit_id = {unit}, address = "holding:{register}", scale = 0.01 }},'
            )
        assets += [f"u{unit}-{i}" for i in range(registers // k)]
    text = '[gateway]\nid = "bench"\ndata_dir = "data"\n[[source]]\nkind = "modbus"\nid = "bench"\n'
    text += (
        f'url = "tcp://127.0.0.1:{port}"\npoll_s = 1.0\nsignals = [\n' + "\n".join(rows) + "\n]\n"
    )
    if bundle is not None:
        for asset in assets:
            text += f'[[asset]]\nid = "{asset}"\nbundle = "{bundle}"\n'
    return text


def modbus_to_score(bundle: Bundle, seconds: float, units: int, registers: int) -> Wire:
    """Run a gateway in this process for `seconds` and count its CPU."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    with _device() as port, tempfile.TemporaryDirectory() as folder:
        # Units are left out of the comparison: the bench's signals have none.
        path = Path(folder) / "bench.fwm"
        assert bundle.path is not None
        path.write_bytes(bundle.path.read_bytes())
        names = [signal.name for signal in bundle.manifest.signals]
        units_of = {signal.name: signal.unit for signal in bundle.manifest.signals}
        text = _configuration(port, units, registers - registers % len(names), path, names)
        for name, unit in units_of.items():
            text = text.replace(f'signal = "{name}",', f'signal = "{name}", unit = "{unit}",')
        gateway = Gateway(parse(text, Path(folder) / "forewarn.toml"))
        return asyncio.run(_watch(gateway, seconds))


async def _watch(gateway: Gateway, seconds: float) -> Wire:
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(gateway.run(stop))
        await asyncio.sleep(SETTLE_S)
        samples, cpu_s = gateway.flow.samples, time.process_time()
        await asyncio.sleep(seconds)
        samples, cpu_s = gateway.flow.samples - samples, time.process_time() - cpu_s
        stop.set()
        await running
    return Wire(samples=samples, cpu_us_per_sample=1e6 * cpu_s / max(samples, 1))


def gateway_process(signals: int) -> Process:
    """Start `forewarn run` on a device with so many signals; see its first sample and memory."""
    with _device() as port, tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "forewarn.toml"
        config.write_text(
            _configuration(port, signals // 100, 100, None, ["a", "b", "c", "d", "e"])
        )
        start_s = time.monotonic()
        with subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "gateway", "run", str(config), "--headless"],
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            first_s = float("nan")
            for line in process.stderr:
                if json.loads(line).get("event") == "source.up":
                    first_s = time.monotonic() - start_s
                    break
            time.sleep(SETTLE_S)
            status = Path(f"/proc/{process.pid}/status").read_text()
            rss_kb = int(status.split("VmRSS:")[1].split()[0])
            process.terminate()
            process.communicate(timeout=START_S_MAX)
    return Process(rss_kb / 1024, first_s)
