"""Each sample beside a protocol's page, read for real; only its address and secrets are changed."""

import asyncio
import gc
import struct
import tomllib
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.structures104 import new_struct, new_struct_field
from modbus_tk.utils import calculate_crc

from gateway.core.batch import Batch, Quality
from protocols import as_source, config_type
from protocols.opcua.certificates import own_identity, pin

from ..authority import Authority
from ..conformance import bench
from ..servers import free_port
from .modbus_others import jsmodbus, stunnel
from .modbus_peers import pty_pair, registers, serial_server
from .mqtt_broker import broker, sparkplug
from .opcua_plant import Plant, plant
from .serial_line import PtyMachine
from .test_opcua_security import Users

PROTOCOLS = Path(__file__).parents[2] / "protocols"
Values = Mapping[str, float]
"""The last value of each signal; of a burst, how many samples it has."""


async def values(
    kind: str, name: str, folder: Path, again: Callable[[], Awaitable[None]], **changes: Any
) -> Values:
    """Open a sample with these changes, and read until each of its signals has a value.

    `again` makes the machine speak; it is called whenever a while brought nothing.
    """
    (table,) = tomllib.loads((PROTOCOLS / kind / f"{name}.toml").read_text())["source"]
    source = as_source(config_type(kind).model_validate(table | changes))
    world = bench(source.id, kind, folder)
    got: dict[str, float] = {}
    picked = sum(len(device.get("pick", ())) for device in table.get("devices", ()))
    wanted = len(table["signals"]) + picked
    async with asyncio.timeout(60), source.open(world.context) as session:
        await again()
        while len(got) < wanted:
            try:
                async with asyncio.timeout(0.5):
                    item = await session.read()
            except TimeoutError:
                await again()
                continue
            if not isinstance(item, Batch):
                got[str(world.context.signals[item.signal])] = len(item.value)
                continue
            for number, value in zip(item.signal, item.value, strict=True):
                got[str(world.context.signals[int(number)])] = float(value)
            assert (item.quality == Quality.GOOD).all()
    assert not world.meter.quarantined
    return got


async def nothing() -> None:
    """For machines that speak by themselves."""


async def add(made: Plant, index: int, name: str, value: Any, **kind: Any) -> Any:
    return await made.pump.add_variable(
        ua.NodeId(ua.String(name), ua.Int16(index)),
        ua.QualifiedName(name, ua.UInt16(index)),
        value,
        **kind,
    )


async def test_opcua_open(tmp_path: Path) -> None:
    async with plant(before=["urn:of:the:plc"]) as made:
        server = made.server
        index = await server.register_namespace("urn:db")
        assert index == 4
        await add(made, 3, "DB10.Speed", 900.0)
        block = await server.nodes.objects.add_object(3, "DB10")
        await block.add_variable(3, "Torque", 12.5)
        got = await values("opcua", "open", tmp_path, nothing, url=made.url)
    assert got == {"mixer-3/speed": 90, "mixer-3/torque": 12.5}


async def test_opcua_secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRESS_PASSWORD", "s3cret")
    now = datetime.now(UTC)
    identity = own_identity(tmp_path / "server", "server", "urn:test:press", now)
    pin(identity.certificate, tmp_path / "trusted")
    types = [ua.SecurityPolicyType.Aes256Sha256RsaPss_SignAndEncrypt]
    async with plant(identity=identity, types=types, before=["urn:plant:press"]) as made:
        made.server.iserver.user_manager = Users()
        index = await made.server.get_namespace_index("urn:plant:press")
        for name, value in (("Force", 250.0), ("Stroke", 80.0), ("Oil.T", 41.0)):
            await add(made, index, name, value)
        changes = {"url": made.url, "username": "press"}
        got = await values("opcua", "secure", tmp_path, nothing, **changes)
    assert got == {"press-1/force": 250, "press-1/stroke": 80, "press-1/oil temperature": 41}


async def test_opcua_vibration(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    identity = own_identity(tmp_path / "server", "server", "urn:test:monitor", now)
    user = own_identity(tmp_path / "user", "user", "urn:test:user", now)
    (tmp_path / "forewarn-user.der").write_bytes(user.certificate_der)
    pin(identity.certificate, tmp_path / "trusted")
    types = [ua.SecurityPolicyType.Basic256Sha256_Sign]
    async with plant(identity=identity, types=types, before=["urn:monitor"]) as made:
        server = made.server
        server.iserver.user_manager = Users(user.certificate_der)
        index = await server.get_namespace_index("urn:monitor")
        ring, _ = await new_struct(
            server, index, "SampleRing", [new_struct_field("Temperature", ua.VariantType.Double)]
        )
        bearing, _ = await new_struct(
            server, index, "SampleBearing", [new_struct_field("Outer", ring)]
        )
        await server.load_data_type_definitions()
        hot = ua.SampleBearing(Outer=ua.SampleRing(Temperature=61.5))  # type: ignore[attr-defined]
        await add(made, index, "Bearing", hot, datatype=bearing.nodeid)
        await add(made, index, "Burst", [0.5] * 256)
        await add(made, index, "Currents", [4.0, 4.5, 5.0])
        await add(made, index, "State", "running")
        key = f"file:{tmp_path}/user/own.key.pem"
        got = await values("opcua", "vibration", tmp_path, nothing, url=made.url, user_key=key)
    assert got == {
        "gearbox-2/vibration": 256,
        "gearbox-2/bearing temperature": 61.5,
        "gearbox-2/phase current": 4.5,
        "gearbox-2/state": 1,
    }


async def test_mqtt_json(tmp_path: Path) -> None:
    with broker(tmp_path / "broker") as (running, publisher):

        async def again() -> None:
            for asset, oil, state in (("press-1", 41.5, "running"), ("press-2", 39.0, "none")):
                said = {"ts": round(1e3 * datetime.now(UTC).timestamp()), "sensors": {"oil": oil}}
                topic = f"plant/{asset}/telemetry"
                await asyncio.to_thread(publisher.say, topic, said | {"state": state})

        changes = {"host": "127.0.0.1", "port": running.port}
        got = await values("mqtt", "json", tmp_path, again, **changes)
    assert got == {
        "press-1/oil_temperature": 41.5,
        "press-1/state": 1,
        "press-2/oil_temperature": 39,
    }


# paho leaves the socket of a handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed.*SSLSocket:ResourceWarning")
async def test_mqtt_values(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("broker")
    port = free_port()
    secured = f"listener {port} 127.0.0.1\ncertfile {certificate}\nkeyfile {key}"
    (tmp_path / "mqtt").write_text("secret\n")
    with broker(tmp_path / "broker", secured) as (_, publisher):

        async def again() -> None:
            await asyncio.to_thread(publisher.say, "plant/pump-1/flow", "12.5")
            await asyncio.to_thread(publisher.say, "plant/pump-1/pressure", "2500")

        changes = {"host": "127.0.0.1", "port": port, "password": f"file:{tmp_path}/mqtt"}
        changes["tls"] = {"ca_file": str(authority.path)}
        got = await values("mqtt", "values", tmp_path, again, **changes)
        await asyncio.get_running_loop().shutdown_default_executor()
        gc.collect()
    assert got == {"pump-1/flow": 12.5, "pump-1/pressure": 2.5}


async def test_mqtt_sparkplug(tmp_path: Path) -> None:
    wave = struct.pack("<128f", *(0.25 * i for i in range(128)))
    with broker(tmp_path / "broker") as (running, publisher):

        async def again() -> None:
            now = {"t_ms": round(1e3 * datetime.now(UTC).timestamp())}
            uptime = {"name": "Node Info/Uptime", "datatype": 8, "long_value": 3600}
            sequence = {"name": "bdSeq", "datatype": 8, "long_value": 0}
            pressure = {"name": "Outputs/Pressure", "datatype": 9, "float_value": 7.5}
            burst = {"name": "Vibration/Burst", "datatype": 30, "bytes_value": wave}
            births = (
                ("NBIRTH/Line 4", sparkplug([sequence, uptime], seq=0, **now)),
                ("DBIRTH/Line 4/Compressor", sparkplug([pressure, burst], seq=1, **now)),
            )
            for place, payload in births:
                await asyncio.to_thread(publisher.say, f"spBv1.0/Plant A/{place}", payload)

        changes = {"host": "127.0.0.1", "port": running.port}
        got = await values("mqtt", "sparkplug", tmp_path, again, **changes)
    assert got == {"compressor/pressure": 7.5, "compressor/vibration": 128, "line-4/uptime": 3600}


async def test_serial_lathe(tmp_path: Path) -> None:
    machine = PtyMachine(tmp_path)

    async def again() -> None:
        machine.say(b"RPM 1500 T 41.5 RUN\r\n")

    got = await values("serial", "lathe", tmp_path, again, port=str(machine.port))
    assert got == {"lathe-1/speed": 1500, "lathe-1/temperature": 41.5, "lathe-1/state": 1}
    machine.unplug()


async def test_serial_scale(tmp_path: Path) -> None:
    gone = asyncio.Event()
    answers = {b"W?\r\n": "   12,5 kg\r\n", b"T?\r\n": "21,5 °C\r\n"}

    async def scale(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while question := await reader.readline():
            writer.write(answers[question].encode("latin-1"))
        writer.close()
        await writer.wait_closed()
        gone.set()

    async with await asyncio.start_server(scale, "127.0.0.1", 0) as server:
        port = f"socket://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        got = await values("serial", "scale", tmp_path, nothing, port=port)
        await gone.wait()
    assert got == {"filler/weight": 12.5, "filler/temperature": 21.5}


async def test_serial_vibration(tmp_path: Path) -> None:
    machine = PtyMachine(tmp_path)
    frame = struct.pack("<2sBh64h", b"\xaa\x55", 2 + 2 * 64, 415, *range(64))
    frame += calculate_crc(frame).to_bytes(2, "big")  # It gives the low byte first.

    async def again() -> None:
        machine.say(frame)

    got = await values("serial", "vibration", tmp_path, again, port=str(machine.port))
    assert got == {"fan-3/temperature": 41.5, "fan-3/vibration": 64}
    machine.unplug()


async def test_modbus_tcp(tmp_path: Path) -> None:
    tables = {
        "holding": [0] * 100 + [0, 0x44BB],  # 1496.0, low word first.
        "input": [0] * 10 + [0xFF9C, 612],
        "coil": [1],
        "discrete": [0],
    }
    async with jsmodbus(tables) as url:
        got = await values("modbus", "tcp", tmp_path, nothing, url=url)
    assert got == {
        "compressor-1/discharge_temp": -10,
        "compressor-1/oil_pressure": pytest.approx(6.12),
        "compressor-1/speed": 1496,
        "compressor-1/running": 1,
    }


async def test_modbus_rtu(tmp_path: Path) -> None:
    def words(value: float) -> list[int]:
        return list(struct.unpack(">2H", struct.pack(">f", value)))

    meter = registers({6: words(9.5), 52: words(2200.0), 72: words(1234.5)}, [1])
    drive = registers({101: [1480], 119: [412]}, [7])
    async with pty_pair() as (ours, theirs), serial_server(theirs, meter + drive):
        got = await values("modbus", "rtu", tmp_path, nothing, url=f"rtu://{ours}")
    assert got == {
        "conveyor-1/current_l1": 9.5,
        "conveyor-1/power": 2200,
        "conveyor-1/energy_import": 1234.5,
        "conveyor-1/drive_speed": 1480,
        "conveyor-1/drive_temp": pytest.approx(41.2),
    }


async def test_modbus_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("gateway")
    holding = [0] * 200 + [1, 0x86A0, 0x0012, 0x3456, *[0] * 6, 0x4155, 0x544F, 0, 0, *[0] * 6]
    tables = {"holding": [*holding, 0x0508], "input": [0], "coil": [0], "discrete": [0]}
    files = {"tls_ca": authority.path, "tls_cert": certificate, "tls_key": key}
    async with jsmodbus(tables) as plain, stunnel(authority, plain, tmp_path) as url:
        got = await values(
            "modbus", "tls", tmp_path, nothing, url=url, tls_key_password=None, **files
        )
    assert got == {
        "press-1/strokes": 100_000,
        "press-1/energy": pytest.approx(12_345.6),
        "press-1/mode": 1,
        "press-1/guard_open": 1,
        "press-1/program": 5,
    }


@pytest.mark.parametrize("kind", ["modbus", "mqtt", "opcua", "serial"])
def test_no_sample_is_left_out(kind: str) -> None:
    names = {path.stem for path in (PROTOCOLS / kind).glob("*.toml")}
    assert names
    assert {name for name in names if f"test_{kind}_{name}" not in globals()} == set()
