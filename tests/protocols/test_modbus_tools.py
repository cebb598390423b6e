"""`forewarn scan` and `forewarn doctor` against a real device, as an operator calls them."""

import asyncio
import json
import os
import struct
import tempfile
import threading
import tomllib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from pymodbus.pdu.device import ModbusDeviceIdentification
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from gateway.cli import doctor, scan
from protocols.modbus import Config
from protocols.modbus.address import Table
from protocols.modbus.orders import readings
from protocols.modbus.scan import Found, open_probe
from protocols.modbus.scan import scan as scan_units
from tests.faults.modbus_device import Asked, Device, Write, on_tcp, on_tty
from tests.protocols.modbus_peers import make_config, make_context, unheard


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A pymodbus server with units 1 and 7 in a thread of its own; gives its port."""
    ready, box = threading.Event(), []
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        floats = list(struct.unpack(">2H", struct.pack(">f", 21.5)))
        one = SimDevice(
            1,
            simdata=[
                SimData(10, values=[*floats[::-1], 3, 4], datatype=DataType.REGISTERS),
                SimData(40, values=list(range(20)), datatype=DataType.REGISTERS),
            ],
        )
        seven = SimDevice(7, simdata=[SimData(0, values=[7], datatype=DataType.REGISTERS)])
        identity = ModbusDeviceIdentification(  # type: ignore[no-untyped-call]
            info_name={"VendorName": "ACME", "ProductCode": "P-9", "MajorMinorRevision": "1.2"}
        )
        server = ModbusTcpServer([one, seven], identity=identity, address=("127.0.0.1", 0))
        await server.serve_forever(background=True)
        box.append(cast("asyncio.Server", server.transport).sockets[0].getsockname()[1])
        stop = asyncio.Event()
        box.append(stop)
        ready.set()
        await stop.wait()
        await server.shutdown()  # type: ignore[no-untyped-call]

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(10)
    yield box[0]
    loop.call_soon_threadsafe(box[1].set)
    thread.join(10)
    loop.close()


def call(command: Any, *args: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(command, [str(arg) for arg in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


SCAN = (
    "--units",
    "1-8",
    "--addresses",
    "0-99",
    "--pause-s",
    "0",
    "--timeout-s",
    "2",
)


def test_scan_finds_units_and_ranges(port: int) -> None:
    code, out, _ = call(
        scan.command, f"modbus://127.0.0.1:{port}", *SCAN, "--tables", "holding,input", "--json"
    )
    assert code == 0
    report = json.loads(out)
    # This server refuses, rather than ignores, what is asked of units that it does not have.
    assert report["units"][0]["identity"] == "ACME P-9 1.2"
    ranges = {unit["unit"]: unit["ranges"] for unit in report["units"] if unit["ranges"]}
    assert list(ranges) == [1, 7]
    runs = [(r["table"], r["start"], r["count"]) for r in ranges[1]]
    assert runs == [("holding", 10, 4), ("holding", 40, 20), ("input", 10, 4), ("input", 40, 20)]


def test_what_scan_prints_is_a_source(port: int) -> None:
    code, out, _ = call(scan.command, f"127.0.0.1:{port}", *SCAN, "--tables", "holding")
    assert code == 0
    (table,) = tomllib.loads(out)["source"]
    config = Config.model_validate(table)
    assert len(config.signals) == 25
    assert "# unit 1 is: ACME P-9 1.2" in out
    assert {config.unit_of(signal) for signal in config.signals} == {1, 7}


def test_scan_of_nothing_is_no() -> None:
    code, _, err = call(scan.command, "tcp://127.0.0.1:1")
    assert code == 1
    assert "127.0.0.1:1" in err


@pytest.mark.parametrize(
    "args",
    [("http://x",), ("tcp://x", "--units", "0-300"), ("tcp://x", "--tables", "registers"),
     ("tcp://x", "--addresses", "a-b")],
)  # fmt: skip
def test_scan_says_what_is_wrong_with_its_arguments(args: tuple[str, ...]) -> None:
    code, _, err = call(scan.command, *args)
    assert code == 2
    assert "must" in err


def write(folder: Path, port: int, extra: str = "") -> Path:
    path = folder / "forewarn.toml"
    path.write_text(
        f'[gateway]\ndata_dir = "data"\n[store]\ngb_max = 0.001\n'
        f'[[source]]\nkind = "modbus"\nid = "plc"\nurl = "tcp://127.0.0.1:{port}"\n{extra}'
        'signals = [{ asset = "a", signal = "t", address = "holding:10", type = "float32" }]\n'
    )
    return path


def findings(*args: str | Path) -> tuple[int, dict[str, dict[str, str]]]:
    code, out, _ = call(doctor.command, *args, "--json")
    return code, {row["check"]: row for row in json.loads(out)}


def test_doctor_finds_nothing_wrong_where_nothing_is(tmp_path: Path, port: int) -> None:
    code, found = findings(write(tmp_path, port))
    assert code == 0
    assert {row["state"] for row in found.values()} == {"ok"}
    assert found.keys() == {"configuration", "data_dir", "disk", "clock", "source plc"}
    assert not (tmp_path / "data").exists()


def test_doctor_names_a_source_that_is_not_there(tmp_path: Path) -> None:
    code, found = findings(write(tmp_path, 1))
    assert code == 1
    assert found["source plc"]["state"] == "bad"
    assert "127.0.0.1:1" in found["source plc"]["text"]


def test_doctor_names_a_refused_signal(tmp_path: Path, port: int) -> None:
    path = write(tmp_path, port)
    path.write_text(path.read_text().replace("holding:10", "holding:90"))
    code, found = findings(path)
    assert code == 0
    assert found["source plc"]["state"] == "warning"
    assert "illegal data address" in found["source plc"]["text"]


def test_doctor_tells_of_a_signal_that_answers_bad_beside_good_ones(
    tmp_path: Path, port: int
) -> None:
    path = write(tmp_path, port)
    absent = '{ asset = "a", signal = "absent", address = "holding:41", invalid = 1 }, '
    path.write_text(path.read_text().replace("signals = [", f"signals = [{absent}"))
    code, found = findings(path)
    assert code == 0
    assert found["source plc"]["state"] == "warning"
    assert found["source plc"]["text"] == "1 of 2 samples is BAD (1 × invalid)"
    assert "--listen plc" in found["source plc"]["todo"]


def test_doctor_cuts_nothing_off_where_the_terminal_is_narrow(tmp_path: Path) -> None:
    path = write(tmp_path, 1)
    host = "a-plc-with-a-rather-long-name.hall-3.plant.invalid"
    path.write_text(path.read_text().replace("127.0.0.1", host))
    _, out, _ = call(doctor.command, path)
    assert "…" not in out
    assert host in "".join(line.split("│")[3].strip() for line in out.splitlines() if "│" in line)


def test_doctor_names_a_secret_that_cannot_be_read(tmp_path: Path, port: int) -> None:
    secret = 'tls_key_password = "env:NO_SUCH_SECRET"\n'
    code, found = findings(write(tmp_path, port, secret))
    assert code == 1
    assert "NO_SUCH_SECRET" in found["secret"]["text"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a folder that nobody can write")
def test_doctor_names_a_data_directory_that_cannot_be_written(tmp_path: Path, port: int) -> None:
    path = write(tmp_path, port)
    path.write_text(path.read_text().replace('"data"', '"/proc/forewarn"'))
    code, found = findings(path)
    assert code == 1
    assert "cannot be written" in found["data_dir"]["text"]


@pytest.mark.parametrize(
    ("now_s", "state"), [(0.0, "bad"), (1_800_000_000.0, "bad"), (1_900_000_000.0, "ok")]
)
def test_doctor_judges_the_clock(now_s: float, state: str) -> None:
    assert doctor.check_clock(now_s, config_changed_s=1_850_000_000.0).state == state


def test_doctor_shows_registers_under_each_order(tmp_path: Path, port: int) -> None:
    path = write(tmp_path, port)
    code, out, _ = call(doctor.command, path, "--orders", "plc", "holding:10", "--json")
    assert code == 0
    rows = {(r["type"], r["order"]): r for r in json.loads(out)["readings"]}
    assert rows["float32", "word_swap"]["value"] == 21.5
    assert rows["float32", "word_swap"]["likely"]
    assert rows["float32", "word_swap"]["letters"] == "CDAB"
    code, out, _ = call(doctor.command, path, "--orders", "plc", "holding:10")
    assert code == 0
    (row,) = [line for line in out.splitlines() if "float32" in line]
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells[3] == "21.5 *"
    assert not any("*" in cell for cell in cells[1:3] + cells[4:])


@pytest.mark.parametrize(
    ("source", "address", "code"),
    [("no", "holding:10", 2), ("plc", "coil:1", 2), ("plc", "x", 2), ("plc", "holding:90", 1)],
)
def test_doctor_says_why_there_are_no_orders(
    tmp_path: Path, port: int, source: str, address: str, code: int
) -> None:
    assert call(doctor.command, write(tmp_path, port), "--orders", source, address)[0] == code


@given(st.integers(1, 4).flatmap(lambda n: st.binary(min_size=2 * n, max_size=2 * n)))
def test_readings_agree_with_struct(wire: bytes) -> None:
    found = {(r.type, r.order): r.value for r in readings(wire)}
    assert found["uint16", "big"] == struct.unpack(">H", wire[:2])[0]
    assert found["int16", "little"] == struct.unpack("<h", wire[:2])[0]
    if len(wire) >= 4:
        assert found["uint32", "little"] == struct.unpack("<I", wire[:4])[0]
        swapped = wire[2:4] + wire[:2]
        assert found["int32", "word_swap"] == struct.unpack(">i", swapped)[0]
    if len(wire) == 8:
        assert found["uint64", "big"] == float(struct.unpack(">Q", wire)[0])


async def scanned(
    device: Device, folder: Path, units: Sequence[int], addresses: range, **how: Any
) -> list[Found]:
    """What a scan of the device's holding registers finds."""
    found: list[Found] = []
    async with on_tty(device) if device.framing == "rtu" else on_tcp(device) as url:
        config = make_config(url, [{"address": "holding:0"}])
        async with (
            asyncio.timeout(30),
            open_probe(config, make_context(folder), timeout_s=0.3, pause_s=0) as probe,
        ):
            await scan_units(probe, units, [Table.HOLDING], addresses, unheard, found, **how)
    return found


def holding(legal: Collection[int], *, pairs: bool = False) -> Device:
    """A device that refuses every read that touches another address, or half a pair."""

    async def answer(device: Device, asked: Asked, write: Write) -> None:
        wanted = range(asked.start, asked.start + asked.count)
        if pairs and (asked.start % 2 == 0 or asked.count % 2):
            write(device.frame(asked, asked.refusal(3)))
        elif all(address in legal for address in wanted):
            write(device.frame(asked, asked.pdu()))
        else:
            write(device.frame(asked, asked.refusal(2)))

    return Device(behaviour=answer)


def runs(found: Found) -> list[tuple[int, int]]:
    return [(r.start, r.count) for r in found.ranges]


@pytest.mark.parametrize("resolution", [1, 3, 4, 8, 9])
async def test_a_scan_finds_edges_to_the_register(tmp_path: Path, resolution: int) -> None:
    """Islands as wide as the resolution are found whole, whatever their place."""
    islands = [range(3, 17), range(41, 50), range(91, 100)]
    device = holding({a for island in islands for a in island})
    (found,) = await scanned(device, tmp_path, [5], range(100), resolution=resolution)
    assert runs(found) == [(i.start, len(i)) for i in islands]
    assert found.ranges[0].data == tuple(5000 + a for a in islands[0])
    assert {asked.function for asked in device.asked} == {3}


@settings(max_examples=10, deadline=None)
@given(st.sets(st.integers(0, 149), max_size=12))
def test_a_scan_of_each_address_misses_none(legal: set[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        device = holding(legal)
        (found,) = asyncio.run(scanned(device, Path(folder), [1], range(150), resolution=1))
    assert {a for start, n in runs(found) for a in range(start, start + n)} == legal
    assert not any("not asked" in note for note in found.notes)
    assert len(device.asked) <= 150 * 1.4 + 4


async def test_a_scan_looks_closer_only_where_something_is(tmp_path: Path) -> None:
    """Nothing: every 4th. Something: every 2nd, and each in the same 125 addresses."""
    empty = holding(())
    (found,) = await scanned(empty, tmp_path, [1], range(500))
    assert len(empty.asked) == 1 + 4 + 125  # The first one is asked who is there.
    missed = "375 of 500 addresses (fewer than 4 in a row may be there; --resolution 1 asks each)"
    assert found.notes == [
        f"holding: not asked: {missed}",
        "answers, but nothing of it can be read",
    ]
    device = holding({20, 21, 22, 23, 77, 342, 343, 477})
    (found,) = await scanned(device, tmp_path, [1], range(500))
    assert runs(found) == [(20, 4), (77, 1), (342, 2)]  # Alone, and far from all: 477.
    assert len(device.asked) < 400
    assert "a lone one may be there" in found.notes[0]
    thorough = holding({477})
    (found,) = await scanned(thorough, tmp_path, [1], range(500), resolution=1)
    assert runs(found) == [(477, 1)]


async def test_a_quick_look_says_what_it_did_not_look_at(tmp_path: Path) -> None:
    device = holding({*range(10), 50})
    (found,) = await scanned(device, tmp_path, [1], range(100), resolution=20)
    assert runs(found) == [(0, 10)]
    (note,) = found.notes
    assert note.startswith(
        "holding: not asked: 11-19, 21-39, 41-59, 61-79, 81-99 (fewer than 20 in"
    )
    assert len(device.asked) < 20


async def test_a_scan_asks_a_device_for_half_of_its_time_at_most(tmp_path: Path) -> None:
    (pause,) = (option for option in scan.command.params if option.name == "pause_s")
    answered_s: list[float] = []
    rests_s: list[float] = []
    works_s = (0.0, 0.03)

    async def note(device: Device, asked: Asked, write: Write) -> None:
        now_s = asyncio.get_running_loop().time()
        if answered_s:
            rests_s.append(now_s - answered_s[-1])
        await asyncio.sleep(works_s[len(answered_s) // 10 % 2])
        answered_s.append(asyncio.get_running_loop().time())
        write(device.frame(asked, asked.refusal(2) if asked.count > 1 else asked.pdu()))

    async with on_tcp(Device(behaviour=note)) as url:
        config = make_config(url, [{"address": "holding:0"}])
        async with open_probe(
            config, make_context(tmp_path), timeout_s=5, pause_s=cast("float", pause.default)
        ) as probe:
            await scan_units(probe, [1], [Table.HOLDING], range(20), unheard, [])
    assert len(rests_s) > 20
    assert min(rests_s) >= 0.02
    assert min(rests_s[10:19]) >= 0.03


async def test_a_scan_says_how_much_is_left(tmp_path: Path) -> None:
    """What is foreseen is not far from what comes, and never more than half as much again."""
    said: list[tuple[int, int]] = []
    device = holding({*range(20, 60), 130})
    async with on_tcp(device) as url:
        config = make_config(url, [{"address": "holding:0"}])
        async with open_probe(config, make_context(tmp_path), timeout_s=5, pause_s=0) as probe:
            await scan_units(
                probe, [1], [Table.HOLDING], range(500),
                lambda doing, left: said.append((probe.requests, left)), [],
            )  # fmt: skip
    asked = len(device.asked)
    for done, left in said[5:]:
        assert left <= 1.5 * (asked - done) + 5, (done, left, asked)
    for done, left in said[asked // 2 :]:
        assert left >= 0.5 * (asked - done) - 5, (done, left, asked)


async def test_registers_that_come_only_in_pairs_are_found(tmp_path: Path) -> None:
    device = holding({11, 12, 13, 14, 31, 32}, pairs=True)
    (found,) = await scanned(device, tmp_path, [1], range(60))
    assert runs(found) == [(11, 4), (31, 2)]


async def test_a_scan_that_is_ended_keeps_what_it_found(tmp_path: Path) -> None:
    device = holding(range(10))
    right = device.behaviour
    found: list[Found] = []

    async def until_forty(device: Device, asked: Asked, write: Write) -> None:
        if len(device.asked) < 40:
            await right(device, asked, write)
        else:
            scanning.cancel()

    device.behaviour = until_forty
    async with on_tcp(device) as url:
        config = make_config(url, [{"address": "holding:0"}])
        async with open_probe(config, make_context(tmp_path), timeout_s=5, pause_s=0) as probe:
            scanning = asyncio.create_task(
                scan_units(probe, [1], [Table.HOLDING], range(100), unheard, found)
            )
            await asyncio.wait([scanning])
    assert scanning.cancelled()
    assert runs(found[0]) == [(0, 10)]
    assert "of 100 addresses (ended before)" in found[0].notes[0]


async def test_a_unit_that_fails_is_given_up_and_that_is_said(tmp_path: Path) -> None:
    async def broken(device: Device, asked: Asked, write: Write) -> None:
        write(device.frame(asked, asked.refusal(4)))

    device = Device(behaviour=broken)
    (found,) = await scanned(device, tmp_path, [1], range(500))
    assert "given up at 250: device failure" in found.notes[0]
    assert "not asked: 0-499" in found.notes[1]
    assert len(device.asked) == 4


async def test_a_silent_unit_is_asked_once(tmp_path: Path) -> None:
    async def only_two(device: Device, asked: Asked, write: Write) -> None:
        if asked.unit == 2:
            write(device.frame(asked, asked.pdu()))

    device = Device("rtu", behaviour=only_two)
    assert [unit.unit for unit in await scanned(device, tmp_path, [1, 2, 3], range(50))] == [2]
    assert [asked.unit for asked in device.asked if asked.unit != 2] == [1, 3]
