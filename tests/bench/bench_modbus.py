"""Measures what Modbus costs, wire to durable log: `python -m tests.bench.bench_modbus`.

A device server in a process of its own holds the units; the gateway, whole but without models,
polls all registers of all units each second. Prints JSON; see `--help`.
"""

import asyncio
import json
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any, Never, cast

import click
import numpy as np
import structlog

import protocols
from gateway.app import Gateway
from gateway.config import parse
from gateway.core.channel import Channel, WhenFull
from gateway.core.clock import SystemClock
from gateway.core.meter import SourceMeter
from gateway.core.signals import SignalTable
from gateway.core.source import SourceContext
from gateway.heap import settle_heap
from gateway.pipeline.supervise import Supervisor
from protocols.modbus import session as polling

SETTLE_S = 3.0
"""Left out of every figure: imports, the first plan, the first commits."""


def serve_pymodbus(units: int, registers: int, pipe: Connection) -> None:
    """A pymodbus server with that many units."""
    from pymodbus.server import ModbusTcpServer
    from pymodbus.simulator import DataType, SimData, SimDevice

    async def main() -> None:
        data = [SimData(0, values=list(range(registers)), datatype=DataType.REGISTERS)]
        devices = [SimDevice(unit, simdata=data) for unit in range(1, units + 1)]
        server = ModbusTcpServer(devices, address=("127.0.0.1", 0))
        await server.serve_forever(background=True)
        pipe.send(cast("asyncio.Server", server.transport).sockets[0].getsockname()[1])
        await asyncio.Event().wait()

    asyncio.run(main())


def serve_plain(units: int, registers: int, pipe: Connection) -> None:
    """A bare server: the right reply for each request, and little else; near a PLC's own speed."""

    class Plain(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            for at in range(0, len(data), 12):
                n = int.from_bytes(data[at + 10 : at + 12], "big")
                head = data[at : at + 4] + (3 + 2 * n).to_bytes(2, "big") + data[at + 6 : at + 8]
                self.transport.write(head + bytes([2 * n]) + bytes(2 * n))

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Plain, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await asyncio.Event().wait()

    asyncio.run(main())


SERVERS = {"pymodbus": serve_pymodbus, "plain": serve_plain}


def rss_mb() -> float:
    """Memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def configuration(
    port: int, units: int, registers: int, in_flight: int, poll_s: float, folder: str
) -> str:
    """A gateway that reads all of it each second."""
    rows = "".join(
        f'  {{ asset = "unit-{u}", signal = "r{r}", unit_id = {u}, address = "holding:{r}" }},\n'
        for u in range(1, units + 1)
        for r in range(registers)
    )
    return (
        f'[gateway]\ndata_dir = "{folder}"\n[console]\nenabled = false\n'
        f'[[source]]\nkind = "modbus"\nid = "plant"\nurl = "tcp://127.0.0.1:{port}"\n'
        f"in_flight = {in_flight}\npoll_s = {poll_s}\nsignals = [\n{rows}]\n"
    )


async def measure(text: str, folder: Path, seconds: float) -> dict[str, Any]:
    """Run the gateway for so long and take its figures."""
    late_ns: list[int] = []
    real_send = polling.ModbusSession._send

    def timed_send(self: Any, job: Any, unit: Any) -> None:
        late_ns.append(self._context.clock.mono_ns() - job.due_ns)
        real_send(self, job, unit)

    polling.ModbusSession._send = timed_send  # type: ignore[method-assign]
    gateway = Gateway(parse(text, folder / "forewarn.toml"))
    stop = asyncio.Event()
    memory: list[float] = []
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(gateway.run(stop), name="gateway")
        await asyncio.sleep(SETTLE_S)
        meter = gateway.links.meters["plant"]
        late_ns.clear()
        cpu_s, wall_s = time.process_time(), time.monotonic()
        samples, requests = meter.samples, meter.requests
        while (left_s := wall_s + seconds - time.monotonic()) > 0:
            memory.append(rss_mb())
            await asyncio.sleep(min(5.0, left_s))
        cpu_s = time.process_time() - cpu_s
        wall_s = time.monotonic() - wall_s
        samples, requests = meter.samples - samples, meter.requests - requests
        late = np.array(late_ns) / 1e6
        stop.set()
    memory.append(rss_mb())
    return {
        "seconds": round(wall_s, 1),
        "samples": samples,
        "samples_per_s": round(samples / wall_s),
        "requests_per_s": round(requests / wall_s, 2),
        "cpu_us_per_register": round(cpu_s / samples * 1e6, 3),
        "cpu_share": round(cpu_s / wall_s, 4),
        "late_ms_p50": round(float(np.percentile(late, 50)), 2),
        "late_ms_p99": round(float(np.percentile(late, 99)), 2),
        "late_ms_max": round(float(late.max()), 2),
        "latency_ms": round(meter.latency_s * 1e3, 3),
        "samples_bad": meter.samples_bad,
        "samples_lost": gateway.samples_lost(),
        "errors": dict(meter.errors),
        "rss_mb": [round(memory[i * (len(memory) - 1) // 10], 1) for i in range(11)],
    }


async def measure_adapter(text: str, folder: Path, seconds: float) -> dict[str, Any]:
    """The adapter under its supervisor alone; what it gives is thrown away."""
    (source,) = parse(text, folder / "forewarn.toml").sources
    meter = SourceMeter(source.id, source.kind)
    context = SourceContext(
        clock=SystemClock(),
        random=Random(),
        log=structlog.get_logger(),
        signals=SignalTable(),
        meter=meter,
        data_dir=folder,
        report=lambda _condition: None,
    )
    channel = Channel(samples_max=1_000_000, when_full=WhenFull.BLOCK)

    async def drain() -> Never:
        while True:
            await channel.receive()

    async with asyncio.TaskGroup() as tasks:
        supervisor = Supervisor(protocols.as_source(source), context, channel)
        running = [tasks.create_task(supervisor.run()), tasks.create_task(drain())]
        await asyncio.sleep(SETTLE_S)
        cpu_s, wall_s, samples = time.process_time(), time.monotonic(), meter.samples
        memory = [rss_mb()]
        for _ in range(2):
            await asyncio.sleep(seconds / 2)
            memory.append(rss_mb())
        cpu_s, wall_s = time.process_time() - cpu_s, time.monotonic() - wall_s
        samples = meter.samples - samples
        for task in running:
            task.cancel()
    return {
        "seconds": round(wall_s, 1),
        "samples": samples,
        "cpu_us_per_register": round(cpu_s / samples * 1e6, 3),
        "errors": dict(meter.errors),
        "rss_mb": [round(mb, 1) for mb in memory],
    }


@click.command()
@click.option("--units", default=100, show_default=True)
@click.option("--registers", default=100, show_default=True, help="Registers a unit.")
@click.option("--seconds", default=20.0, show_default=True)
@click.option("--minutes", default=0.0, help="Longer: 10 shows whether memory stays flat.")
@click.option("--in-flight", default=1, show_default=True, help="Requests under way at once.")
@click.option("--server", type=click.Choice(sorted(SERVERS)), default="pymodbus", show_default=True)
@click.option("--poll-s", default=1.0, show_default=True)
@click.option("--adapter-only", is_flag=True, help="Without log and trends.")
def main(
    *,
    units: int,
    registers: int,
    seconds: float,
    minutes: float,
    in_flight: int,
    server: str,
    poll_s: float,
    adapter_only: bool,
) -> None:
    """Poll UNITS x REGISTERS once a second, wire to durable log, and print the cost as JSON."""
    settle_heap()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=SERVERS[server], args=(units, registers, theirs), daemon=True
    )
    process.start()
    try:
        port = ours.recv()
        with tempfile.TemporaryDirectory() as folder:
            text = configuration(port, units, registers, in_flight, poll_s, folder)
            how = measure_adapter if adapter_only else measure
            figures = asyncio.run(how(text, Path(folder), minutes * 60 or seconds))
    finally:
        process.kill()
        process.join()
    machine = {"machine": platform.machine(), "python": platform.python_version()}
    shape = {"units": units, "registers": registers, "in_flight": in_flight, "server": server}
    shape |= {"poll_s": poll_s, "stage": "adapter" if adapter_only else "wire to log"}
    print(json.dumps({**machine, **shape, **figures}, indent=1))


if __name__ == "__main__":
    main()
