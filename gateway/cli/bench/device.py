"""A Modbus TCP device with many units: `python -m gateway.cli.bench.device`, its own process.

Answers any read with the same registers, as cheaply as it can, so that the measured side is the
gateway. Prints its port and ends when its standard input does.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path


class _Device(asyncio.Protocol):
    """Reads of holding registers, answered from one block of bytes."""

    def __init__(self, rows: Sequence[bytes], period_s: float) -> None:
        self._rows = rows
        self._period_s = period_s
        self._begun_s = time.monotonic()
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        # The next row once a period, the same for every unit.
        number = int((time.monotonic() - self._begun_s) / self._period_s)
        block = self._rows[number % len(self._rows)]
        at = 0
        answers = []
        while len(data) - at >= 12:
            count = data[at + 11]
            answers.append(
                data[at : at + 4]
                + (3 + 2 * count).to_bytes(2, "big")
                + data[at + 6 : at + 8]
                + bytes([2 * count])
                + block[: 2 * count]
            )
            at += 12
        self._rest = data[at:]
        self._transport.write(b"".join(answers))


async def _main(rows: Sequence[bytes], period_s: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Device(rows, period_s), "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    # Rows of registers in hexadecimal, one a line, in the file that is named, and how long each of
    # them stands; else a counting one.
    if len(sys.argv) > 1:
        given = [bytes.fromhex(row) for row in Path(sys.argv[1]).read_text().split()]
        asyncio.run(_main(given, float(sys.argv[2])))
    else:
        asyncio.run(_main([bytes(range(256))], 1.0))
