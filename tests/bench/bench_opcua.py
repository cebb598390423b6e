"""CPU per OPC UA notification: `python -m tests.bench.bench_opcua [--gateway]`.

A server in a process of its own publishes `--items` values once a second; this process subscribes
and counts what arrives and what it costs, from the wire to the batch. With `--gateway` it is a
whole gateway, from the wire to the durable log and to the score of every machine: the values are
those of healthy pumps, and each pump is judged by the bundle that is shipped. The fast decoder is
measured alone too, beside the library's. Prints JSON; memory is that of each minute.
"""

import argparse
import asyncio
import json
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from datetime import UTC
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import structlog
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary
from numpy.typing import NDArray

from gateway.app import Gateway
from gateway.config import parse
from gateway.core.batch import Batch
from gateway.demo.configuration import shipped_bundles
from gateway.demo.record import healthy
from models.bundle import read
from protocols.opcua.slow import decode_slowly
from protocols.opcua.wire import decode_publish

from ..conformance import bench as make_bench
from ..eventually import eventually
from ..protocols.opcua_plant import URI, Plant, signal, source


def publication(n: int) -> bytes:
    """A PublishResponse with `n` doubles, each with both timestamps, as most servers send them."""
    now = ua.DateTime.now(UTC)
    response = ua.PublishResponse()
    response.ResponseHeader.Timestamp = now
    message = response.Parameters.NotificationMessage
    message.PublishTime = now
    values = [
        ua.DataValue(
            ua.Variant(0.5 * i, ua.VariantType.Double), ua.StatusCode(ua.UInt32(0)), now, now
        )
        for i in range(n)
    ]
    items = [ua.MonitoredItemNotification(ua.UInt32(i), value) for i, value in enumerate(values)]
    message.NotificationData = [ua.DataChangeNotification(items)]
    return struct_to_binary(response)


def decoders(n: int = 10_000, rounds: int = 9) -> dict[str, float]:
    """Median CPU of decoding alone, µs a value: ours and the library's."""
    data = publication(n)
    ours, library = [], []
    for _ in range(rounds):
        began = time.process_time()
        decode_publish(data, decode_slowly)
        ours.append((time.process_time() - began) / n * 1e6)
    for _ in range(3):
        began = time.process_time()
        struct_from_binary(ua.PublishResponse, Buffer(data))
        library.append((time.process_time() - began) / n * 1e6)
    return {
        "decode_us": round(statistics.median(ours), 3),
        "decode_library_us": round(statistics.median(library), 3),
    }


def pumps(rows_max: int = 3_600) -> tuple[Path, list[str], list[str], NDArray[np.float64]]:
    """The pump's bundle, its signals, their units, and an hour of a healthy pump: float64[n, k]."""
    path = shipped_bundles()["pump"][0]
    signals = read(path).manifest.signals
    names = [signal.name for signal in signals]
    record = healthy("pump", hours=rows_max / 3600, seed=3, rate_hz=1.0)
    rows = np.stack([record[name] for name in names], axis=1)
    return path, names, [signal.unit for signal in signals], rows


def serve(items: int, pipe: Connection) -> None:
    """A plant of `items` doubles; all change once a second, at whatever cost it takes."""

    async def main() -> None:
        rows = pumps()[3]
        plant = Plant()
        await plant.start()
        for i in range(items):
            await plant.add(f"n{i}", 0.0)
        pipe.send(plant.url)
        loop = asyncio.get_running_loop()
        round_, due_s = 0, loop.time()
        while True:
            round_ += 1
            row = rows[round_ % len(rows)].tolist()
            for i in range(items):
                await plant.set(f"n{i}", row[i % len(row)])
                if i % 500 == 499:
                    await asyncio.sleep(0)
            due_s += 1.0
            await asyncio.sleep(max(0.0, due_s - loop.time()))

    asyncio.run(main())


async def subscribe(url: str, items: int, duration_s: float) -> dict[str, float]:
    """Subscribe for a while; what arrived, what was lost, what it cost."""
    config = source(
        url,
        *(signal(f"n{i}") for i in range(items)),
        publishing_interval_s=1.0,
        keep_alive_s=60.0,
        timeout_s=60.0,
    )
    world = make_bench("p1", "opcua", Path(tempfile.mkdtemp()))
    began_s = time.monotonic()
    async with config.open(world.context) as session:
        ready_s = time.monotonic() - began_s
        await session.read()
        samples = batches = 0
        rss_mb = _rss_mb()
        cpu = time.process_time()
        began_s = time.monotonic()
        while time.monotonic() - began_s < duration_s:
            item = await session.read()
            assert isinstance(item, Batch)
            samples += len(item)
            batches += 1
        cpu = time.process_time() - cpu
        wall_s = time.monotonic() - began_s
    return {
        "items": items,
        "seconds": round(wall_s, 1),
        "samples": samples,
        "samples_per_s": round(samples / wall_s),
        "batches": batches,
        "cpu_us_per_sample": round(cpu / samples * 1e6, 3),
        "lost": world.meter.samples_lost,
        "gaps": world.meter.errors["sequence_gap"],
        "subscribe_s": round(ready_s, 2),
        "rss_mb": _rss_mb(),
        "rss_growth_mb": round(_rss_mb() - rss_mb, 1),
    }


async def whole_gateway(url: str, items: int, duration_s: float, folder: Path) -> dict[str, object]:
    """A gateway in this process for a while: what it took, what it judged, what it cost."""
    bundle, names, units, _ = pumps()
    rows = "\n".join(
        f'{{ asset = "p{i // len(names)}", signal = "{names[i % len(names)]}", '
        f'unit = "{units[i % len(names)]}", address = "nsu={URI};s=n{i}" }},'
        for i in range(items - items % len(names))
    )
    assets = "\n".join(
        f'[[asset]]\nid = "p{i}"\nbundle = "{bundle}"' for i in range(items // len(names))
    )
    text = f"""
        [gateway]
        id = "bench"
        data_dir = "{folder / "data"}"
        [console]
        enabled = false
        [[source]]
        kind = "opcua"
        id = "plc"
        url = "{url}"
        security_policy = "None"
        keep_alive_s = 60
        timeout_s = 60
        signals = [
        {rows}
        ]
        {assets}
        """
    gateway = Gateway(parse(text, folder / "forewarn.toml"))
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(gateway.run(stop))
        # The first windows fill; imports and models are paid for.
        await eventually(lambda: gateway.flow.assessed > 0, timeout_s=300)
        samples, assessed = gateway.flow.samples, gateway.flow.assessed
        cpu, began_s = time.process_time(), time.monotonic()
        memory = [_rss_mb()]
        while (left_s := began_s + duration_s - time.monotonic()) > 0:
            await asyncio.sleep(min(60.0, left_s))
            memory.append(_rss_mb())
        cpu, wall_s = time.process_time() - cpu, time.monotonic() - began_s
        samples, assessed = gateway.flow.samples - samples, gateway.flow.assessed - assessed
        meter = gateway.links.meters["plc"]
        stop.set()
    return {
        "items": items - items % len(names),
        "seconds": round(wall_s, 1),
        "samples": samples,
        "samples_per_s": round(samples / wall_s),
        "assessments": assessed,
        "cpu_us_per_sample": round(cpu / samples * 1e6, 3),
        "lost": gateway.samples_lost(),
        "errors": dict(meter.errors),
        "links": meter.connects,
        "rss_mb": memory,
    }


def _rss_mb() -> float:
    """Resident memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * resource.getpagesize() / 2**20, 1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--gateway", action="store_true", help="wire to log and score")
    options = parser.parse_args()
    result: dict[str, object] = {**decoders()}
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(
        target=serve, args=(options.items, theirs), daemon=True
    )
    server.start()
    theirs.close()  # A server that dies is seen at once.
    try:
        if not ours.poll(900):
            raise SystemExit("the server did not start")
        url = ours.recv()
        if options.gateway:
            structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
            with tempfile.TemporaryDirectory() as folder:
                work = whole_gateway(url, options.items, options.seconds, Path(folder))
                result |= asyncio.run(work)
        else:
            result |= asyncio.run(subscribe(url, options.items, options.seconds))
    finally:
        server.terminate()
        server.join()
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
