"""RFC 2217 against the reference server's own state machine: line settings and control lines."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import serial
from serial.rfc2217 import PortManager

from gateway.core.batch import Batch
from protocols.serial import Config

from ..conformance import bench
from ..eventually import eventually

pytestmark = pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")


class SerialServer:
    """One network client in front of a port that has every control line: pyserial's loop."""

    def __init__(self) -> None:
        self.line = serial.serial_for_url("loop://", timeout=0.05)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._client: socket.socket | None = None
        self._manager: Any = None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> None:
        """What the manager answers; its name for it."""
        if self._client is not None:
            with contextlib.suppress(OSError):
                self._client.sendall(data)

    def say(self, data: bytes) -> None:
        """As the device would."""
        self.write(b"".join(self._manager.escape(data)))

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            self._client, _ = self._listener.accept()
            self._manager = PortManager(cast("Any", self.line), cast("Any", self))
            while data := self._client.recv(1024):
                b"".join(self._manager.filter(data))

    def end(self) -> None:
        self._listener.close()
        if self._client is not None:
            self._client.close()
        self._thread.join(5)
        self.line.close()


@pytest.fixture
def server() -> Iterator[SerialServer]:
    running = SerialServer()
    try:
        yield running
    finally:
        running.end()


@pytest.mark.parametrize(
    ("dtr", "rts", "flow"),
    [(True, False, "none"), (False, True, "xon_xoff"), (False, True, "rts_cts")],
)
async def test_line_settings_and_control_lines_reach_the_port(
    server: SerialServer, tmp_path: Path, *, dtr: bool, rts: bool, flow: str
) -> None:
    config = Config.model_validate(
        {
            "kind": "serial",
            "id": "m",
            "port": f"rfc2217://127.0.0.1:{server.port}",
            "baud_rate": 38_400,
            "data_bits": 7,
            "parity": "even",
            "stop_bits": 2,
            "flow_control": flow,
            "dtr": dtr,
            "rts": rts,
            "text": {"pattern": r"v=(?P<v>\d+)"},
            "signals": [{"asset": "m", "signal": "v"}],
        }
    )
    world = bench("m", "serial", tmp_path)
    line = server.line
    line.dtr, line.rts = not dtr, not rts
    async with asyncio.timeout(30), config.open(world.context) as session:
        await eventually(lambda: line.dtr is dtr and (flow == "rts_cts" or line.rts is rts))
        assert (line.baudrate, line.bytesize, line.parity, line.stopbits) == (38_400, 7, "E", 2)
        assert (line.rtscts, line.xonxoff) == (flow == "rts_cts", flow == "xon_xoff")
        server.say(b"v=7\n")
        batch = await session.read()
        assert isinstance(batch, Batch)
        assert batch.value.tolist() == [7]
