"""Measures what a serial line costs, terminal to batch: `python -m tests.bench.bench_serial`.

A process of its own writes records into a real pty as fast as they are taken; this one reads them
through the serial source as the supervisor would, and nothing else. Prints JSON; see `--help`.
"""

import asyncio
import json
import multiprocessing
import os
import platform
import struct
import tempfile
import time
import tty
from pathlib import Path
from statistics import median
from typing import Any

import click

from gateway.core.batch import Batch
from protocols.serial import Config
from protocols.serial.checks import find

from ..conformance import bench

SIGNALS = ("speed", "temperature", "power", "vibration")
FIELDS = [{"name": name, "offset": 2 + 4 * i, "type": "f32"} for i, name in enumerate(SIGNALS)]
CHUNK_RECORDS = 16
WARM_UP_RECORDS = 2000
PACED_RECORDS = 1000
PAUSE_S = 0.002


def text_record(i: int) -> bytes:
    return b"RPM %d T %.1f P %.2f V %.3f\r\n" % (i % 3000, 40.5, 12.25, 1.125)


def nmea_record(i: int) -> bytes:
    body = b"FW,%d,%.1f,%.2f,%.3f" % (i % 3000, 40.5, 12.25, 1.125)
    return b"$%s*%02X\r\n" % (body, find("XOR")[1](body))


def binary_record(i: int) -> bytes:
    head = b"\xaa\x55" + struct.pack(">4f", i % 3000, 40.5, 12.25, 1.125)
    return head + find("CRC-16/MODBUS")[1](head).to_bytes(2, "little")


KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "pattern": (
        text_record,
        {
            "text": {
                "pattern": r"RPM (?P<speed>\S+) T (?P<temperature>\S+) "
                r"P (?P<power>\S+) V (?P<vibration>\S+)"
            }
        },
    ),
    "columns+xor": (
        nmea_record,
        {
            "text": {
                "separator": ",",
                "columns": ["", *SIGNALS[:3], "rest"],
                "check": {
                    "name": "XOR",
                    "form": "hex",
                    "covers_from": 1,
                    "covers_to": -3,
                    "at": -2,
                },
            }
        },
    ),
    "frame+crc16": (
        binary_record,
        {
            "binary": {
                "start": "AA 55",
                "length": 20,
                "check": {"name": "CRC-16/MODBUS", "order": "little"},
                "fields": FIELDS,
            }
        },
    ),
}


def talk(master: int, kind: str, records: int, pause_s: float) -> None:
    """Say so many records into the pty, one by one with a pause, or many at once without."""
    make, _ = KINDS[kind]
    chunk = 1 if pause_s else CHUNK_RECORDS
    for first in range(0, records, chunk):
        time.sleep(pause_s)
        data = b"".join(make(first + i) for i in range(min(chunk, records - first)))
        while data:
            data = data[os.write(master, data) :]


async def listen(
    kind: str, port: str, master: int, records: int, pause_s: float, folder: Path
) -> dict[str, float]:
    """Read so many records and give the cost of each."""
    _, form = KINDS[kind]
    names = SIGNALS[:3] if kind == "columns+xor" else SIGNALS
    table = {"kind": "serial", "id": "line", "port": port, "baud_rate": 115_200}
    signals = [{"asset": "a", "signal": name} for name in names]
    config = Config.model_validate(table | form | {"signals": signals})
    world = bench("line", "serial", folder)
    samples, batches = 0, 0
    total = records * len(names)
    warm_up = 100 if pause_s else WARM_UP_RECORDS
    async with config.open(world.context) as session:
        talker = multiprocessing.get_context("fork").Process(
            target=talk, args=(master, kind, warm_up + records, pause_s)
        )
        talker.start()
        try:
            skip = warm_up * len(names)
            while samples < skip:
                samples += len(await session.read())
            samples -= skip
            cpu_s, wall_s = time.process_time(), time.monotonic()
            while samples < total:
                item = await session.read()
                assert isinstance(item, Batch)
                samples += len(item)
                batches += 1
            cpu_s, wall_s = time.process_time() - cpu_s, time.monotonic() - wall_s
        finally:
            talker.kill()
            talker.join()
    assert not world.meter.errors, world.meter.errors
    return {
        "records_per_s": round(records / wall_s),
        "records_per_cpu_s": round(records / cpu_s),
        "cpu_us_per_record": round(cpu_s / records * 1e6, 2),
        "cpu_us_per_sample": round(cpu_s / total * 1e6, 2),
        "records_per_batch": round(records / batches, 1),
    }


def measure(kind: str, records: int, pause_s: float = 0.0) -> dict[str, float]:
    """One pass over a pty of its own."""
    master, slave = os.openpty()
    tty.setraw(slave)
    try:
        with tempfile.TemporaryDirectory() as folder:
            return asyncio.run(
                listen(kind, os.ttyname(slave), master, records, pause_s, Path(folder))
            )
    finally:
        os.close(master)
        os.close(slave)


@click.command()
@click.option("--records", default=50_000, show_default=True, help="Records in a pass.")
@click.option("--passes", default=5, show_default=True, help="Medians are taken over them.")
def main(*, records: int, passes: int) -> None:
    """Read RECORDS of four values (three for columns) off a pty, and print the cost as JSON."""
    figures: dict[str, Any] = {
        "machine": platform.machine(),
        "python": platform.python_version(),
        "records": records,
        "passes": passes,
    }
    for kind in KINDS:
        runs = [measure(kind, records) for _ in range(passes)]
        figures[kind] = {name: median(run[name] for run in runs) for name in runs[0]}
    # As most machines speak: a record now and then, each of which wakes the gateway up.
    runs = [measure("pattern", PACED_RECORDS, PAUSE_S) for _ in range(passes)]
    figures["pattern, one by one"] = {name: median(run[name] for run in runs) for name in runs[0]}
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
