"""Modbus against others' servers, and what every adapter must do."""

import asyncio
import socket
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
from modbus_tk import defines, modbus_rtu, modbus_tcp
from pymodbus.server import ModbusTlsServer, ModbusUdpServer
from pyModbusTCP.server import ModbusServer

from gateway.core.batch import Batch
from gateway.core.errors import ConfigError, LinkError, LinkRefused
from gateway.core.source import Source
from protocols.modbus import Config
from tests.authority import Authority
from tests.conformance import check_module, check_source
from tests.eventually import eventually
from tests.faults.modbus_device import Asked, Device, Framing, Write, on_tcp
from tests.protocols.modbus_peers import faults_of, make_config, make_context, pty_pair, registers


async def read_once(config: Config, folder: Path) -> Batch:
    async with asyncio.timeout(10), config.open(make_context(folder)) as session:
        batch = await session.read()
        assert isinstance(batch, Batch)
        return batch


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Whether the server, which starts in a thread of its own, takes connections by now."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


MIXED = [
    {"address": "holding:2", "type": "int16"},
    {"address": "input:1"},
    {"address": "coil:3"},
    {"address": "discrete:1"},
]


def fill(slave: object) -> None:
    """Four tables with known values: -5, 22, on, on at the addresses of MIXED."""
    for name, kind, values in (
        ("h", defines.HOLDING_REGISTERS, [0, 0, 65531, 0]),
        ("i", defines.ANALOG_INPUTS, [0, 22]),
        ("c", defines.COILS, [0, 0, 0, 1]),
        ("d", defines.DISCRETE_INPUTS, [0, 1]),
    ):
        slave.add_block(name, kind, 0, len(values))  # type: ignore[attr-defined]
        slave.set_values(name, 0, values)  # type: ignore[attr-defined]


def by_name(config: Config, batch: Batch) -> dict[str, float]:
    names = [signal.signal for signal in config.signals]
    return {names[i]: v for i, v in zip(batch.signal.tolist(), batch.value.tolist(), strict=True)}


EXPECTED = {"s0": -5, "s1": 22, "s2": 1, "s3": 1}


@pytest.mark.filterwarnings("ignore:isSet:DeprecationWarning")  # Its own, in a thread.
async def test_modbus_tk_over_tcp(tmp_path: Path) -> None:
    port = free_port()
    server = modbus_tcp.TcpServer(port=port, address="127.0.0.1")
    fill(server.add_slave(1))
    server.start()
    try:
        await eventually(lambda: listens(port))
        config = make_config(f"tcp://127.0.0.1:{port}", MIXED)
        context = make_context(tmp_path)
        async with asyncio.timeout(10), config.open(context) as session:
            seen: dict[str, float] = {}
            while seen != EXPECTED:
                batch = await session.read()
                assert isinstance(batch, Batch)
                seen |= by_name(config, batch)
        # A coil and a discrete input beyond what the device has would be refused, not guessed.
        assert not faults_of(context.meter)
    finally:
        server.stop()


@pytest.mark.filterwarnings("ignore:isSet:DeprecationWarning")  # Its own, in a thread.
async def test_modbus_tk_on_a_real_tty(tmp_path: Path) -> None:
    import serial

    async with pty_pair() as (ours, theirs):
        server = modbus_rtu.RtuServer(serial.Serial(theirs, 19200))
        fill(server.add_slave(9))
        server.start()
        try:
            config = make_config(f"rtu://{ours}", MIXED, unit_id=9, timeout_s=2)
            batch = await read_once(config, tmp_path)
            assert by_name(config, batch) == EXPECTED
        finally:
            await asyncio.to_thread(server.stop)


async def test_pymodbustcp(tmp_path: Path) -> None:
    port = free_port()
    server = ModbusServer("127.0.0.1", port, no_block=True)
    server.start()
    try:
        await eventually(lambda: listens(port))
        server.data_bank.set_holding_registers(2, [65531])
        server.data_bank.set_input_registers(1, [22])
        server.data_bank.set_coils(3, [True])
        server.data_bank.set_discrete_inputs(1, [True])
        config = make_config(f"tcp://127.0.0.1:{port}", MIXED, in_flight=4)
        assert by_name(config, await read_once(config, tmp_path)) == EXPECTED
    finally:
        server.stop()


async def test_udp(tmp_path: Path) -> None:
    server = ModbusUdpServer(registers({0: [7, 8, 9]}), address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    try:
        transport = cast("asyncio.DatagramTransport", server.transport)
        port = transport.get_extra_info("sockname")[1]
        config = make_config(f"udp://127.0.0.1:{port}", [{"address": "holding:2"}])
        assert (await read_once(config, tmp_path)).value.tolist() == [9]
    finally:
        await server.shutdown()  # type: ignore[no-untyped-call]


@asynccontextmanager
async def tls_server(authority: Authority) -> AsyncIterator[int]:
    """A pymodbus server that asks for a certificate of the authority."""
    server = ModbusTlsServer(
        registers({0: [7, 8, 9]}), sslctx=authority.server("plc"), address=("127.0.0.1", 0)
    )
    await server.serve_forever(background=True)
    try:
        yield cast("asyncio.Server", server.transport).sockets[0].getsockname()[1]
    finally:
        await server.shutdown()  # type: ignore[no-untyped-call]


async def test_tls_with_client_certificates(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("gateway")
    async with tls_server(authority) as port:
        signals = [{"address": "holding:1"}]
        config = make_config(
            f"tls://127.0.0.1:{port}", signals,
            tls_ca=authority.path, tls_cert=certificate, tls_key=key,
        )  # fmt: skip
        assert (await read_once(config, tmp_path)).value.tolist() == [8]


async def test_tls_refuses_a_server_that_it_cannot_verify(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    authority, other = Authority(tmp_path), Authority(tmp_path / "other")
    async with tls_server(authority) as port:
        signals = [{"address": "holding:1"}]
        unknown = make_config(f"tls://127.0.0.1:{port}", signals, tls_ca=other.path)
        with pytest.raises(LinkRefused, match="tls_ca"):
            await read_once(unknown, tmp_path)
        name = make_config(
            f"tls://127.0.0.1:{port}", signals, tls_ca=authority.path, tls_server_name="plc.example"
        )
        with pytest.raises(LinkRefused, match="tls_server_name"):
            await read_once(name, tmp_path)


async def test_tls_without_the_certificate_that_the_server_wants(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with tls_server(authority) as port:
        signals = [{"address": "holding:1"}]
        config = make_config(f"tls://127.0.0.1:{port}", signals, tls_ca=authority.path)
        with pytest.raises(LinkError, match="tls_cert"):
            await read_once(config, tmp_path)


async def test_tls_files_that_are_not_there_are_the_operators_to_mend(tmp_path: Path) -> None:
    config = make_config("tls://127.0.0.1:1", [{"address": "coil:0"}], tls_ca=tmp_path / "no.pem")
    with pytest.raises(ConfigError, match="tls_ca"):
        await read_once(config, tmp_path)


class Polled:
    """The suite's peer: a device whose register 0 shows each value once and that refuses 7."""

    def __init__(self, device: Device, url: str) -> None:
        self._device = device
        self._value = self._last = 0
        self._coming: deque[int] = deque()
        device.behaviour = self._answer
        first, second, refused = (
            {"asset": "a", "signal": name, "address": address}
            for name, address in (("s0", "holding:0"), ("s1", "holding:1"), ("s2", "holding:7"))
        )
        self.source = cast("Source", make_config(url, [first], poll_s=0.02))
        self.wider = cast("Source", make_config(url, [first, second], poll_s=0.02))
        self.broken = cast("Source | None", make_config(url, [first, refused], poll_s=0.02))
        self.resets = True
        self.asked = True

    async def _answer(self, device: Device, asked: Asked, write: Write) -> None:
        if asked.start <= 7 < asked.start + asked.count:
            write(device.frame(asked, asked.refusal(2)))
            return
        if self._coming:
            self._value = self._coming.popleft()
        values = [a or self._value for a in range(asked.start, asked.start + asked.count)]
        data = b"".join(value.to_bytes(2, "big") for value in values)
        write(device.frame(asked, bytes([asked.function, len(data)]) + data))

    def links(self) -> int:
        return self._device.connections

    async def emit(self, n: int) -> Sequence[float]:
        values = list(range(self._last + 1, self._last + n + 1))
        self._coming.extend(values)
        self._last += n
        return values

    async def hang_up(self, *, reset: bool) -> None:
        self._device.hang_up(reset=reset)


@pytest.mark.parametrize("framing", ["mbap", "rtu", "ascii"])
async def test_conformance(tmp_path: Path, framing: Framing) -> None:
    @asynccontextmanager
    async def make() -> AsyncIterator[Polled]:
        device = Device(framing)
        async with on_tcp(device) as url:
            yield Polled(device, url)

    await check_source(make, tmp_path)


def test_module_conformance() -> None:
    check_module("modbus", libraries=["pymodbus", "serial"])
