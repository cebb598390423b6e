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

    def __init__(self, rows: Sequence[bytes]) -> None:
        self._rows = rows
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        # Another row each second, the same for every unit.
        block = self._rows[int(time.monotonic()) % len(self._rows)]
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


async def _main(rows: Sequence[bytes]) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Device(rows), "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    # Rows of registers in hexadecimal, one a line, in the file that is named; else a counting one.
    given = [bytes.fromhex(row) for name in sys.argv[1:] for row in Path(name).read_text().split()]
    asyncio.run(_main(given or [bytes(range(256))]))
