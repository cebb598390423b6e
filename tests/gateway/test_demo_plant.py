"""The plant as its own process, read by libraries that are not the gateway's adapters."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import serial
from asyncua.client.client import Client
from modbus_tk import defines, modbus_rtu
from modbus_tk.modbus import ModbusInvalidResponseError
from pyModbusTCP.client import ModbusClient

from gateway.config import load
from gateway.demo.layout import ASSETS, LINE, NAMESPACE, REGISTERS, Register
from gateway.demo.machines import CLASSES
from gateway.demo.modbus_device import answer_pdu, answer_rtu, crc16
from gateway.demo.serial_device import print_line, pty, unread_bytes
from tests.eventually import eventually_blocking

END_S = 5.0


@contextmanager
def plant(tmp_path: Path, *arguments: str) -> Iterator[tuple[Any, subprocess.Popen[str]]]:
    """A running plant: its addresses and its process."""
    ports = tmp_path / "ports.json"
    log = (tmp_path / "plant.log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway.demo", "--ports-file", str(ports), *arguments],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        eventually_blocking(lambda: ports.exists() or process.poll() is not None, timeout_s=30)
        assert process.poll() is None, (tmp_path / "plant.log").read_text()
        yield json.loads(ports.read_text())["sources"], process
    finally:
        process.kill()
        process.wait()
        log.close()
        if process.stdin:
            process.stdin.close()


def said(tmp_path: Path) -> list[dict[str, Any]]:
    """The events that the plant wrote so far."""
    lines = (tmp_path / "plant.log").read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def decode(words: list[int], register: Register) -> float:
    """The value of a register block, by the published layout and nothing of the device's code."""
    raw = np.array(words, ">u2").tobytes()
    code = {"uint16": ">u2", "int16": ">i2", "uint32": ">u4", "float32": ">f4"}[register.type]
    return float(np.frombuffer(raw, code)[0]) * register.scale


def decoded(asset: str, words: list[int], first: int) -> dict[str, float]:
    """Every signal of an asset from one block of registers that starts at `first`."""
    out = {}
    for name, register in REGISTERS[asset].items():
        at = register.address - first
        width = 2 if register.type in ("uint32", "float32") else 1
        out[name] = decode(words[at : at + width], register)
    return out


def plausible(asset: str, reading: dict[str, float]) -> None:
    """Every signal within its sensor's scale, and the machine at work."""
    sensors = CLASSES[ASSETS[asset]].sensors
    assert set(reading) == set(sensors)
    for name, value in reading.items():
        assert sensors[name].low <= value <= sensors[name].high, (asset, name, value)
    assert reading["energy"] > 400


async def test_every_machine_answers_in_its_own_protocol(tmp_path: Path) -> None:
    with plant(tmp_path, "--seed", "5") as (addresses, _):
        async with Client(addresses["pump-1"]["url"]) as client:
            index = await client.get_namespace_index(NAMESPACE)
            pump = {}
            for name in CLASSES["pump"].sensors:
                node = client.get_node(f"ns={index};s=pump-1.{name}")
                value: Any = await node.read_data_value()
                age_s = (datetime.now(UTC) - value.SourceTimestamp).total_seconds()
                assert -1 < age_s < 60
                pump[name] = value.Value.Value
                units = await (await node.get_child("0:EngineeringUnits")).read_value()
                assert units.DisplayName.Text == CLASSES["pump"].sensors[name].unit
            plausible("pump-1", pump)

        tcp = ModbusClient(
            addresses["compressor-1"]["host"], addresses["compressor-1"]["port"], unit_id=1
        )
        words = await asyncio.to_thread(tcp.read_holding_registers, 0, 10)
        plausible("compressor-1", decoded("compressor-1", words, 0))
        assert await asyncio.to_thread(tcp.read_holding_registers, 250, 10) is None
        assert tcp.last_except == 2
        assert not await asyncio.to_thread(tcp.write_single_register, 0, 1)
        assert tcp.last_except == 1
        tcp.close()

        line = serial.Serial(addresses["conveyor-1"]["path"], 19200, timeout=2)
        master = modbus_rtu.RtuMaster(line)
        master.set_timeout(2.0)
        words = await asyncio.to_thread(master.execute, 7, defines.READ_HOLDING_REGISTERS, 100, 9)
        plausible("conveyor-1", decoded("conveyor-1", list(words), 100))
        master.set_timeout(0.2)
        with pytest.raises(ModbusInvalidResponseError):
            await asyncio.to_thread(master.execute, 8, defines.READ_HOLDING_REGISTERS, 100, 9)
        master.close()

        with serial.Serial(addresses["lathe-1"]["path"], 9600, timeout=5) as printer:
            await asyncio.to_thread(printer.readline)
            words_read = (await asyncio.to_thread(printer.readline)).decode().split()
        letters = dict(zip(words_read[::2], map(float, words_read[1::2]), strict=True))
        plausible("lathe-1", {name: letters[letter] for name, letter in LINE.items()})


def test_faults_begin_by_schedule_and_by_command_and_bad_commands_are_refused(
    tmp_path: Path,
) -> None:
    with plant(tmp_path, "--fault", "pump-1:imbalance:0.5:10", "--factor", "5") as (_, process):
        assert process.stdin
        process.stdin.write('{"inject": {"asset": "lathe-1", "kind": "overheating"}}\n')
        process.stdin.write('{"inject": {"asset": "lathe-1", "kind": "gremlins"}}\nnot json\n{}\n')
        process.stdin.flush()
        eventually_blocking(lambda: len(said(tmp_path)) == 6)
        events = said(tmp_path)
        began = {(e["asset"], e["kind"]) for e in events if e["event"] == "fault"}
        assert began == {("pump-1", "imbalance"), ("lathe-1", "overheating")}
        refused = [e["reason"] for e in events if e["event"] == "refused"]
        assert any("gremlins" in reason for reason in refused)
        assert len(refused) == 3
        process.stdin.close()
        assert process.wait(END_S) == 0
        process.stdin = None


def test_it_ends_on_sigterm_and_can_outlive_its_standard_input(tmp_path: Path) -> None:
    with plant(tmp_path, "--no-commands", "--cold") as (addresses, process):
        assert process.stdin
        process.stdin.close()
        process.stdin = None
        compressor = addresses["compressor-1"]
        client = ModbusClient(compressor["host"], compressor["port"], unit_id=1)
        seen: set[tuple[int, ...]] = set()

        def it_lives() -> bool:
            seen.add(tuple(client.read_holding_registers(0, 10) or ()))
            return len(seen) > 2

        eventually_blocking(it_lives)
        client.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(END_S) == 0


def test_a_modbus_request_is_answered_or_refused_by_the_specification() -> None:
    image = np.arange(200, dtype=np.uint16)
    assert answer_pdu(bytes([3, 0, 10, 0, 2]), image) == bytes([3, 4, 0, 10, 0, 11])
    assert answer_pdu(bytes([6, 0, 10, 0, 2]), image) == bytes([0x86, 1])
    assert answer_pdu(bytes([3, 0, 199, 0, 2]), image) == bytes([0x83, 2])
    assert answer_pdu(bytes([3, 0, 0, 0, 126]), image) == bytes([0x83, 3])
    assert answer_pdu(bytes([3, 0]), image) == bytes([0x83, 3])


def test_rtu_skips_noise_and_waits_for_the_rest() -> None:
    image = np.arange(200, dtype=np.uint16)
    request = bytes([7, 3, 0, 10, 0, 1])
    request += crc16(request).to_bytes(2, "little")
    answers, rest = answer_rtu(b"\xff\x00noise" + request + request[:3], 7, image)
    assert rest == request[:3]
    assert len(answers) == 1
    assert answers[0][:5] == bytes([7, 3, 2, 0, 10])
    assert answer_rtu(rest + request[3:], 7, image)[1] == b""
    assert answer_rtu(request, 8, image) == ([], b"")


def test_a_line_that_nobody_reads_loses_old_lines_and_never_blocks() -> None:
    with pty() as (ours, theirs, path):
        before = 0

        def handed_over() -> bool:
            return unread_bytes(theirs) != before

        for number in range(300):
            before = unread_bytes(theirs)
            print_line(ours, theirs, b"S %d\r\n" % number)
            # The kernel hands characters over in its own time.
            eventually_blocking(handed_over)
        with open(path, "rb", buffering=0) as reader:  # noqa: PTH123
            lines = reader.read(4096).split(b"\r\n")
    assert lines[-2] == b"S 299"
    assert len(lines) < 200


def test_the_plant_writes_a_configuration_that_the_gateway_takes(tmp_path: Path) -> None:
    file = tmp_path / "forewarn.toml"
    with plant(tmp_path, "--config", str(file)):
        config = load(file)
    assert {source.id: source.kind for source in config.sources} == {
        "pump-1": "opcua",
        "compressor-1": "modbus",
        "conveyor-1": "modbus",
        "lathe-1": "serial",
    }
    for source in config.sources:
        sensors = CLASSES[ASSETS[source.id]].sensors
        assert {(s.signal, s.unit) for s in source.signals} == {
            (name, sensor.unit) for name, sensor in sensors.items()
        }
