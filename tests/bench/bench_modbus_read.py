"""One read of 125 registers: our link, pymodbus's client, a bare socket.

`python -m tests.bench.bench_modbus_read` prints the CPU of the asking process per read, medians of
five rounds, as JSON.
"""

import asyncio
import json
import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path

import click
from pymodbus.client import AsyncModbusTcpClient

from protocols.modbus.address import Table
from protocols.modbus.link import open_link
from protocols.modbus.plan import Span, make_request
from tests.bench.bench_modbus import serve_plain
from tests.protocols.modbus_peers import make_config, make_context

ROUNDS = 5


async def by_our_link(port: int, reads: int) -> float:
    """CPU seconds; the registers stay bytes, as a sweep decodes them all at once."""
    request = make_request([Span(0, 1, Table.HOLDING, 0, 125)])
    config = make_config(f"tcp://127.0.0.1:{port}", [{"address": "holding:0"}])
    with tempfile.TemporaryDirectory() as folder:
        async with open_link(config, make_context(Path(folder))) as link:
            start_s = time.process_time()
            for _ in range(reads):
                link.send(request, 10**9)
                while not (done := link.take()):
                    await link.wait(1 << 62)
                assert done[0].outcome.payload is not None
            return time.process_time() - start_s


async def by_pymodbus(port: int, reads: int) -> float:
    """CPU seconds; the registers become a list of integers."""
    client = AsyncModbusTcpClient("127.0.0.1", port=port)
    assert await client.connect()
    start_s = time.process_time()
    for _ in range(reads):
        reply = await client.read_holding_registers(0, count=125, device_id=1)
        assert len(reply.registers) == 125
    spent_s = time.process_time() - start_s
    client.close()
    return spent_s


async def by_bare_socket(port: int, reads: int) -> float:
    """CPU seconds of asyncio streams alone: the floor."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    start_s = time.process_time()
    for _ in range(reads):
        writer.write(bytes.fromhex("0001 0000 0006 01 03 0000 007d"))
        await reader.readexactly(259)
    spent_s = time.process_time() - start_s
    writer.close()
    return spent_s


@click.command()
@click.option("--reads", default=2000, show_default=True, help="Reads a round.")
def main(*, reads: int) -> None:
    """Print CPU µs per read of 125 registers."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(
        target=serve_plain, args=(1, 125, theirs), daemon=True
    )
    server.start()
    try:
        port = ours.recv()
        ways = {"link": by_our_link, "pymodbus": by_pymodbus, "bare_socket": by_bare_socket}
        spent = {
            name: [asyncio.run(way(port, reads)) for _ in range(ROUNDS)]
            for name, way in ways.items()
        }
    finally:
        server.kill()
        server.join()
    print(
        json.dumps(
            {
                f"{name}_cpu_us_per_read": round(statistics.median(rounds) / reads * 1e6, 1)
                for name, rounds in spent.items()
            }
        )
    )


if __name__ == "__main__":
    main()
