"""CPU per OPC UA notification, wire to batch: `python -m tests.bench.bench_opcua`.

A server in a process of its own publishes `--items` values once a second; this process subscribes
and counts what arrives and what it costs. The fast decoder is measured alone too, beside the
library's. Prints JSON.
"""

import argparse
import asyncio
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from datetime import UTC
from multiprocessing.connection import Connection
from pathlib import Path

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary

from gateway.core.batch import Batch
from protocols.opcua.slow import decode_slowly
from protocols.opcua.wire import decode_publish

from ..conformance import bench as make_bench
from ..protocols.opcua_plant import Plant, signal, source


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


def serve(items: int, pipe: Connection) -> None:
    """A plant of `items` doubles; all change once a second, at whatever cost it takes."""

    async def main() -> None:
        plant = Plant()
        await plant.start()
        for i in range(items):
            await plant.add(f"n{i}", 0.0)
        pipe.send(plant.url)
        loop = asyncio.get_running_loop()
        value, due_s = 0.0, loop.time()
        while True:
            value += 1.0
            for i in range(items):
                await plant.set(f"n{i}", value + i)
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


def _rss_mb() -> float:
    """Resident memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * resource.getpagesize() / 2**20, 1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    result: dict[str, object] = {**decoders()}
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(
        target=serve, args=(options.items, theirs), daemon=True
    )
    server.start()
    try:
        if not ours.poll(300):
            raise SystemExit("the server did not start")
        result |= asyncio.run(subscribe(ours.recv(), options.items, options.seconds))
    finally:
        server.terminate()
        server.join()
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
