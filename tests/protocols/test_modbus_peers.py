"""Modbus against others' servers, and what every adapter must do."""

import asyncio
import math
import re
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from pymodbus.server import ModbusUdpServer

from gateway.core.batch import Batch, Quality
from gateway.core.errors import LinkError
from gateway.core.source import Source
from protocols.modbus.address import Table
from protocols.modbus.identity import identify
from protocols.modbus.scan import Found, open_probe, scan
from tests.conformance import check_module, check_source
from tests.faults.modbus_device import Asked, Device, Framing, Write, on_tcp
from tests.protocols.modbus_others import (
    Tables,
    jsmodbus,
    modbus_serial,
    modbus_serial_rtu,
    modbus_stream_ascii,
    modbus_stream_udp,
    modbus_tk,
    modbus_tk_rtu,
    py_modbus_tcp,
)
from tests.protocols.modbus_peers import (
    faults_of,
    make_config,
    make_context,
    read_once,
    registers,
    unheard,
)

EVERYTHING: list[tuple[dict[str, Any], str, float]] = [
    ({"type": "int16"}, "fffb", -5),
    ({"type": "int16", "order": "little"}, "fbff", -5),
    ({"type": "uint16"}, "fffb", 65531),
    ({"type": "int32"}, "fffe 7960", -100_000),
    ({"type": "int32", "order": "word_swap"}, "7960 fffe", -100_000),
    ({"type": "uint32", "order": "little"}, "a086 0100", 100_000),
    ({"type": "uint32", "order": "byte_swap"}, "0100 a086", 100_000),
    ({"type": "int64"}, "ffff ffff ffff fffe", -2),
    ({"type": "uint64", "order": "word_swap"}, "0004 0003 0002 0001", 0x0001_0002_0003_0004),
    ({"type": "uint64", "order": "GHEFCDAB"}, "0004 0003 0002 0001", 0x0001_0002_0003_0004),
    ({"type": "float16"}, "3e00", 1.5),
    ({"type": "float32"}, "41ac 0000", 21.5),
    ({"type": "float32", "order": "CDAB"}, "0000 41ac", 21.5),
    ({"type": "float32", "order": "byte_swap"}, "ac41 0000", 21.5),
    ({"type": "float32", "order": "little"}, "0000 ac41", 21.5),
    ({"type": "float64"}, "4093 4a00 0000 0000", 1234.5),
    ({"type": "float64", "order": "little"}, "0000 0000 004a 9340", 1234.5),
    ({"type": "bcd16"}, "1234", 1234),
    ({"type": "bcd32", "order": "word_swap"}, "5678 1234", 12_345_678),
    ({"type": "bcd64"}, "0000 0012 3456 7890", 1_234_567_890),
    ({"bits": ".3"}, "0008", 1),
    ({"bits": ".4-7"}, "00a0", 10),
    ({"bits": ".31", "type": "uint32"}, "8000 0000", 1),
    ({"type": "string", "length": 3, "states": {"RUN": 1, "STOP": 2}}, "5354 4f50 0000", 2),
    (
        {"type": "string", "length": 2, "states": {"RUN": 1}, "order": "byte_swap"},
        "5552 004e",
        1,
    ),
    ({"type": "int16", "scale": 0.1, "offset": -40}, "00d7", -18.5),
    ({"type": "uint16", "counter": True}, "fffb", 65531),
    ({"type": "int16", "invalid": 0x8000}, "8000", float("nan")),
    ({"type": "float32", "invalid": [9999, -1]}, "bf80 0000", float("nan")),
    ({"type": "bcd16"}, "12fa", float("nan")),
    ({"type": "string", "length": 1, "states": {"OK": 1}}, "3f3f", float("nan")),
]
"""Settings of a signal, its registers as they are on the wire, and what it must say."""

BITS = {"coil": [0, 0, 0, 1], "discrete": [0, 1]}


def everything() -> tuple[list[dict[str, Any]], Tables, dict[str, float]]:
    """Signals of every kind in holding and input registers, the tables that hold them, and the
    value of each by its name."""
    words: list[int] = []
    signals: list[dict[str, Any]] = []
    values: dict[str, float] = {}
    for settings, wire, value in EVERYTHING:
        place = f"{len(words)}{settings.get('bits', '')}"
        own = {k: v for k, v in settings.items() if k != "bits"}
        for table in ("holding", "input"):
            name = f"{table}_{len(words)}"
            signals.append({"signal": name, "address": f"{table}:{place}", **own})
            values[name] = value
        words += [int(word, 16) for word in wire.split()]
    for table, bits in BITS.items():
        for i, bit in enumerate(bits):
            signals.append({"signal": f"{table}_{i}", "address": f"{table}:{i}"})
            values[f"{table}_{i}"] = bit
    return signals, {"holding": words, "input": words, **BITS}, values


PEERS: list[Callable[[Tables], AbstractAsyncContextManager[str]]] = [
    modbus_tk,
    modbus_tk_rtu,
    py_modbus_tcp,
    jsmodbus,
    modbus_serial,
    modbus_serial_rtu,
    modbus_stream_ascii,
    modbus_stream_udp,
]


@pytest.mark.filterwarnings("ignore:isSet:DeprecationWarning")  # modbus-tk's own, in a thread.
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.__name__)
async def test_everything_from_servers_by_other_hands(
    tmp_path: Path, peer: Callable[[Tables], AbstractAsyncContextManager[str]]
) -> None:
    signals, tables, expected = everything()
    context = make_context(tmp_path)
    async with peer(tables) as url, asyncio.timeout(30):
        config = make_config(url, signals, timeout_s=3, flush_s=5)
        async with config.open(context) as session:
            batch = await session.read()
    assert isinstance(batch, Batch)
    seen = {
        context.signals[number].name: (value, quality)
        for number, value, quality in zip(
            batch.signal.tolist(), batch.value.tolist(), batch.quality.tolist(), strict=True
        )
    }
    assert seen.keys() == expected.keys()
    for name, value in expected.items():
        assert seen[name][0] == pytest.approx(value, nan_ok=True), name
        assert (seen[name][1] == Quality.BAD) == math.isnan(value), name
    assert not context.meter.quarantined
    # What is counted is what the values themselves say, once for each table.
    assert faults_of(context.meter) == {"invalid": 4, "bcd": 2, "state": 2}


@pytest.mark.filterwarnings("ignore:isSet:DeprecationWarning")
@pytest.mark.parametrize(
    ("peer", "reason"),
    [
        (modbus_tk, "illegal data address"),
        (modbus_serial, "illegal data address"),
        (modbus_serial_rtu, "illegal data address"),
        (modbus_stream_ascii, "illegal data address"),
        (modbus_stream_udp, "illegal data address"),
        (jsmodbus, "answered with less than was asked"),
    ],
)
async def test_an_address_that_others_servers_refuse_is_quarantined_alone(
    tmp_path: Path, peer: Callable[[Tables], AbstractAsyncContextManager[str]], reason: str
) -> None:
    tables = {"holding": list(range(10)), "input": [0], "coil": [0], "discrete": [0]}
    signals = [{"address": f"holding:{a}"} for a in (*range(10), 10, 200)]
    context = make_context(tmp_path)
    async with (
        peer(tables) as url,
        asyncio.timeout(30),
        make_config(url, signals, timeout_s=3, flush_s=5).open(context) as session,
    ):
        for _ in range(3):
            batch = await session.read()
            assert isinstance(batch, Batch)
            good = batch.value[batch.quality == Quality.GOOD]
            assert good.tolist() == list(range(10))
    assert context.meter.quarantined.keys() == {"a/s10", "a/s11"}
    assert all(reason in why for why in context.meter.quarantined.values())


async def test_a_scan_finds_what_a_server_has_that_answers_with_less_than_was_asked(
    tmp_path: Path,
) -> None:
    tables = {"holding": list(range(10)), "input": [5], "coil": [0], "discrete": [0]}
    found: list[Found] = []
    async with jsmodbus(tables) as url, asyncio.timeout(30):
        config = make_config(url, [{"address": "holding:0"}])
        async with open_probe(config, make_context(tmp_path), timeout_s=3, pause_s=0) as probe:
            wanted = (Table.HOLDING, Table.INPUT)
            await scan(probe, [1], wanted, range(40), unheard, found, resolution=1)
    assert [(r.table, r.start, r.data) for r in found[0].ranges] == [
        (Table.HOLDING, 0, tuple(range(10))),
        (Table.INPUT, 0, (5,)),
    ]
    assert not found[0].notes


async def test_a_server_by_other_hands_says_who_it_is() -> None:
    """Its line break ends no line of ours."""
    tables = {"holding": [1], "input": [1], "coil": [1], "discrete": [1]}
    async with jsmodbus(tables) as url:
        found = await identify(make_config(url, [{"address": "holding:0"}]), [1], 5)
    assert found == {1: "ACME Press 9000 V1.2"}


@pytest.mark.parametrize("peer", [py_modbus_tcp, modbus_serial_rtu], ids=lambda p: p.__name__)
async def test_servers_that_do_not_know_who_they_are_are_left_out(
    peer: Callable[[Tables], AbstractAsyncContextManager[str]],
) -> None:
    tables = {"holding": [1], "input": [1], "coil": [1], "discrete": [1]}
    async with peer(tables) as url:
        assert await identify(make_config(url, [{"address": "holding:0"}]), [1, 2], 0.5) == {}


async def test_nobody_there_says_nothing() -> None:
    config = make_config("tcp://127.0.0.1:1", [{"address": "holding:0"}])
    assert await identify(config, [1], 0.5) == {}


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


@pytest.mark.parametrize(
    ("url", "next_step"),
    [
        ("udp://127.0.0.1:1", "nothing listens there; see that it runs"),
        ("tls://{silent}", "or that it speaks TLS"),
        ("tcp://{silent}", "no unit answers; see unit_id"),
        ("tcp://{hangs_up}", "the peer closed the connection; "),
    ],
)
async def test_a_link_that_comes_to_nothing_says_what_to_look_at(
    tmp_path: Path, url: str, next_step: str
) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    with socket.create_server(("127.0.0.1", 0)) as silent:  # Connected by the kernel alone.
        async with (
            await asyncio.start_server(hang_up, "127.0.0.1", 0) as hanging,
            asyncio.timeout(30),
        ):
            where = {
                name: f"127.0.0.1:{listener.getsockname()[1]}"
                for name, listener in (("hangs_up", hanging.sockets[0]), ("silent", silent))
            }
            config = make_config(
                url.format(**where),
                [{"address": "holding:0"}],
                timeout_s=0.05,
                connect_timeout_s=0.5,
                unit_retry_s_max=1,
            )
            with pytest.raises(LinkError, match=re.escape(next_step)):
                async with config.open(make_context(tmp_path)) as session:
                    while True:
                        await session.read()


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
