"""Whole gateways against a device in another process, for `forewarn bench`."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog

from gateway.app import Gateway
from gateway.cli.bench.load import period_s, rows
from gateway.config import parse
from gateway.core.alarm import Transition
from models.bundle import Bundle

START_S_MAX = 60.0
SETTLE_S = 5.0
REGISTERS = 100
"""Registers of one unit."""
ROWS = 2400
REGISTER_TOP = 60_000


@dataclass(frozen=True, slots=True)
class Wire:
    """A gateway inside this process, fed from the wire."""

    samples: int
    cpu_us_per_sample: float
    bytes_per_sample: float
    """Written to the disk, of log and trends."""


@dataclass(frozen=True, slots=True)
class Process:
    """`forewarn run` in a process of its own."""

    rss_mb: float
    first_sample_s: float


@contextlib.contextmanager
def _device(*arguments: str) -> Iterator[int]:
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "gateway.cli.bench.device", *arguments],
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
    port: int,
    units: int,
    registers: int,
    bundle: Path | None,
    signals: Mapping[str, tuple[float, str]],
    poll_s: float = 1.0,
) -> str:
    """`units` units of `registers` registers; every `len(signals)` registers are one asset.

    `signals` names each signal's scale and unit.
    """
    k, names = len(signals), list(signals)
    lines, assets = [], []
    for unit in range(1, units + 1):
        for register in range(registers):
            asset = f"u{unit}-{register // k}"
            name = names[register % k]
            scale, measured_in = signals[name]
            lines.append(
                f'{{ asset = "{asset}", signal = "{name}", unit = "{measured_in}", '
                f'unit_id = {unit}, address = "holding:{register}", scale = {scale:.9g} }},'
            )
        assets += [f"u{unit}-{i}" for i in range(registers // k)]
    # The console costs what browsers ask of it, and its start would be counted with the samples.
    text = '[gateway]\nid = "bench"\ndata_dir = "data"\n[console]\nenabled = false\n'
    text += '[[source]]\nkind = "modbus"\nid = "bench"\n'
    text += f'url = "tcp://127.0.0.1:{port}"\npoll_s = {poll_s:g}\n'
    text += "signals = [\n" + "\n".join(lines) + "\n]\n"
    if bundle is not None:
        for asset in assets:
            text += f'[[asset]]\nid = "{asset}"\nbundle = "{bundle}"\n'
    return text


@contextlib.contextmanager
def _healthy_device(
    bundle: Bundle, folder: str, registers: int
) -> Iterator[tuple[int, dict[str, tuple[float, str]]]]:
    """A device whose machines are healthy; gives its port and each signal's scale and unit."""
    signals = bundle.manifest.signals
    values = rows(bundle, ROWS)
    scale = np.maximum(np.abs(values).max(axis=0), 1e-6) / REGISTER_TOP
    words = np.round(np.abs(values) / scale).astype(">u2")
    words = np.tile(words, (1, registers // len(signals)))
    path = Path(folder) / "rows"
    path.write_text("\n".join(row.tobytes().hex() for row in words))
    with _device(str(path), str(period_s(bundle))) as port:
        scales = zip(signals, scale.tolist(), strict=True)
        yield port, {signal.name: (each, signal.unit) for signal, each in scales}


def modbus_to_score(bundle: Bundle, seconds: float, registers_per_s: int) -> Wire:
    """Run a gateway in this process for `seconds` and count its CPU.

    Machines are read as often as their model wants to see them, but not less than once a second;
    there are as many of them as `registers_per_s` allows.
    """
    poll_s = min(1.0, period_s(bundle))
    units = max(1, round(registers_per_s * poll_s / REGISTERS))
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    with (
        tempfile.TemporaryDirectory() as folder,
        _healthy_device(bundle, folder, REGISTERS) as (port, signals),
    ):
        path = Path(folder) / "bench.fwm"
        assert bundle.path is not None
        path.write_bytes(bundle.path.read_bytes())
        used = REGISTERS - REGISTERS % len(signals)
        text = _configuration(port, units, used, path, signals, poll_s)
        gateway = Gateway(parse(text, Path(folder) / "forewarn.toml"))
        return asyncio.run(_watch(gateway, seconds))


LOW, HIGH = 100, 60_000
"""What every register holds, by turns each second, where limits are to alarm."""
LIMITED_UNITS = 10


def sample_to_alarm_ms(seconds: float, units: int, registers: int) -> list[float]:
    """How old a sample is, by the gateway's clock, when the alarm that it raises or ends is told.

    Some machines pass a limit and come back each second, without a delay; the rest are polled
    beside them.
    """
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    with tempfile.TemporaryDirectory() as folder:
        served = Path(folder) / "rows"
        served.write_text("\n".join((n.to_bytes(2, "big") * registers).hex() for n in (LOW, HIGH)))
        with _device(str(served), "1.0") as port:
            text = _configuration(port, units, registers, None, {"level": (1.0, "")})
            limit = f"{{ signal = 'level', high = {HIGH // 2}, on_delay_s = 0, off_delay_s = 0 }}"
            for unit in range(1, units + 1, max(1, units // LIMITED_UNITS)):
                text += f'[[asset]]\nid = "u{unit}-0"\nlimits = [{limit}]\n'
            return asyncio.run(
                _ages_ms(Gateway(parse(text, Path(folder) / "forewarn.toml")), seconds)
            )


async def _ages_ms(gateway: Gateway, seconds: float) -> list[float]:
    ages: list[float] = []

    def told(transition: Transition) -> None:
        ((number, _),) = gateway.parts.signals_of(transition.asset)
        ages.append((gateway.clock.wall_ns() - gateway.flow.latest.t_of(number)) / 1e6)

    gateway.annunciator.listeners.append(told)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(gateway.run(stop))
        await asyncio.sleep(SETTLE_S)
        ages.clear()
        await asyncio.sleep(seconds)
        stop.set()
        await running
    return ages


async def _watch(gateway: Gateway, seconds: float) -> Wire:
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(gateway.run(stop))
        await asyncio.sleep(SETTLE_S)
        samples, cpu_s, written = gateway.flow.samples, time.process_time(), _written()
        await asyncio.sleep(seconds)
        samples, cpu_s = gateway.flow.samples - samples, time.process_time() - cpu_s
        written = _written() - written
        stop.set()
        await running
    n = max(samples, 1)
    return Wire(samples, cpu_us_per_sample=1e6 * cpu_s / n, bytes_per_sample=written / n)


def _written() -> int:
    """Bytes that this process has caused to be written to the disk."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["write_bytes"])


def gateway_process(signals: int) -> Process:
    """Start `forewarn run` on a device with so many signals; see its first sample and memory."""
    with _device() as port, tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "forewarn.toml"
        config.write_text(
            _configuration(port, signals // 100, 100, None, dict.fromkeys("abcde", (0.01, "")))
        )
        start_s = time.monotonic()
        # As it is installed: with its bytecode written, whatever the shell that asks wants.
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        with subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "gateway", "run", str(config), "--headless"],
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
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
