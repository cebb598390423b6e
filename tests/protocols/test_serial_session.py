"""The serial source on a real pty: samples, noise, unplugging, reload without touching the link."""

import asyncio
import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import ValidationError
from structlog.testing import capture_logs

from gateway.cli import group
from gateway.core.batch import Batch, Quality
from gateway.core.errors import LinkError, LinkLost, LinkRefused, LinkTimeout
from gateway.core.source import Session
from protocols.serial import Config

from ..conformance import bench
from ..eventually import eventually
from .serial_line import PtyMachine

PATTERN = r"RPM\s+(?P<rpm>\S+)\s+T\s+(?P<temp>\S+)(?:\s+(?P<state>\w+))?"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[PtyMachine]:
    machine = PtyMachine(tmp_path)
    yield machine
    machine.unplug()


def lathe(machine: PtyMachine, **changes: Any) -> Config:
    table: dict[str, Any] = {
        "kind": "serial",
        "id": "lathe",
        "port": str(machine.port),
        "baud_rate": 115_200,
        "text": {"pattern": PATTERN},
        "signals": [
            {"asset": "lathe-1", "signal": "speed", "unit": "rpm", "field": "rpm"},
            {"asset": "lathe-1", "signal": "temperature", "unit": "°C", "field": "temp"},
        ],
    }
    return Config.model_validate(table | changes)


async def take(session: Session, n: int) -> list[tuple[int, float, int]]:
    """At least `n` samples as (signal, value, quality)."""
    got: list[tuple[int, float, int]] = []
    async with asyncio.timeout(30):
        while len(got) < n:
            batch = await session.read()
            assert isinstance(batch, Batch)
            got += zip(
                batch.signal.tolist(), batch.value.tolist(), batch.quality.tolist(), strict=True
            )
    return got


async def test_lines_become_samples(machine: PtyMachine, tmp_path: Path) -> None:
    context = bench("lathe", "serial", tmp_path).context
    async with lathe(machine).open(context) as session:
        before_ns = context.clock.wall_ns()
        machine.say(b"RPM 1500 T 41.5\r\nRPM 1501 T 41.75\r\nRPM 15")
        batch = await session.read()
        assert isinstance(batch, Batch)
        assert batch.source == "lathe"
        assert batch.value.tolist() == [1500, 41.5, 1501, 41.75]
        names = [str(context.signals[i]) for i in batch.signal]
        assert names == ["lathe-1/speed", "lathe-1/temperature"] * 2
        assert batch.t_ns[0] == batch.t_ns[1] < batch.t_ns[2] <= batch.received_ns
        assert before_ns <= batch.received_ns <= context.clock.wall_ns()
        machine.say(b"02 T 42\r\n")
        assert await take(session, 2) == [(0, 1502, 0), (1, 42, 0)]


async def test_what_is_no_number_is_bad_and_its_neighbour_lives(
    machine: PtyMachine, tmp_path: Path
) -> None:
    context = bench("lathe", "serial", tmp_path).context
    async with lathe(machine).open(context) as session:
        machine.say(b"RPM nan T 41.5\nRPM 1_0 T inf\n")
        got = await take(session, 4)
        assert [quality for _, _, quality in got] == [Quality.BAD, Quality.GOOD, 2, 2]
        assert context.meter.errors == {"value": 3}


async def test_an_unplugged_port_is_lost_and_read_again_when_plugged_in(
    machine: PtyMachine, tmp_path: Path
) -> None:
    context = bench("lathe", "serial", tmp_path).context
    source = lathe(machine)
    async with source.open(context) as session:
        machine.say(b"RPM 1 T 1\n")
        assert len(await take(session, 2)) == 2
        machine.unplug()
        with pytest.raises(LinkLost, match="unplugged"):
            async with asyncio.timeout(30):
                await session.read()
    with pytest.raises(LinkError, match="is not there; plug it in"):
        async with source.open(context):
            pass
    machine.plug()
    async with source.open(context) as session:
        machine.say(b"RPM 2 T 2\n")
        assert (await take(session, 2))[0] == (0, 2, 0)


async def test_a_port_in_use_is_refused(machine: PtyMachine, tmp_path: Path) -> None:
    context = bench("lathe", "serial", tmp_path).context
    async with lathe(machine).open(context):
        with pytest.raises(LinkRefused, match="in use by another program"):
            async with lathe(machine).open(context):
                pass


async def test_silence_is_a_time_out_where_it_is_configured(
    machine: PtyMachine, tmp_path: Path
) -> None:
    context = bench("lathe", "serial", tmp_path).context
    async with lathe(machine, silence_timeout_s=0.05).open(context) as session:
        with pytest.raises(LinkTimeout, match=r"silent for 0\.05 s"):
            await session.read()


async def test_cancelling_a_read_loses_nothing(machine: PtyMachine, tmp_path: Path) -> None:
    context = bench("lathe", "serial", tmp_path).context
    async with lathe(machine).open(context) as session:
        machine.say(b"RPM 7 T")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await session.read()
        machine.say(b" 8\n")
        assert await take(session, 2) == [(0, 7, 0), (1, 8, 0)]


async def test_one_signal_is_added_and_removed_without_touching_the_link(
    machine: PtyMachine, tmp_path: Path
) -> None:
    context = bench("lathe", "serial", tmp_path).context
    source = lathe(machine)
    speed, temperature = source.signals
    state = {
        "asset": "lathe-1",
        "signal": "state",
        "states": {"RUN": 1, "STOP": 0},
    }
    async with source.open(context) as session:
        machine.say(b"RPM 1 T 1 RUN\n")
        await take(session, 2)
        machine.say(b"RPM 2 ")
        grown = lathe(machine, signals=[speed, temperature, state])
        assert await session.apply(grown)
        machine.say(b"T 2 RUN\nRPM 3 T 3 STOP\nRPM 3 T 3\n")
        assert [value for _, value, _ in await take(session, 8)] == [2, 2, 1, 3, 3, 0, 3, 3]
        assert await session.apply(lathe(machine, signals=[temperature]))
        machine.say(b"RPM 4 T 4 RUN\n")
        assert await take(session, 1) == [(1, 4, 0)]
        assert not await session.apply(lathe(machine, baud_rate=9600))


async def test_a_stretch_of_unreadable_records_is_told_once(
    machine: PtyMachine, tmp_path: Path
) -> None:
    context = bench("lathe", "serial", tmp_path).context
    with capture_logs() as logs:
        async with lathe(machine).open(context) as session:
            machine.say(b"?\n" * 50 + b"RPM 1 T 1\n")
            await take(session, 2)
    assert [line["event"] for line in logs] == ["serial.unreadable", "serial.readable"]
    assert context.meter.errors == {"pattern": 50}


async def test_frames_that_all_fail_their_check_are_told_too(
    machine: PtyMachine, tmp_path: Path
) -> None:
    binary = {
        "start": "AA", "length": 4, "check": {"name": "SUM-8"},
        "fields": [{"name": "v", "offset": 1, "type": "u16"}],
    }  # fmt: skip
    signals = [{"asset": "a", "signal": "v"}]
    context = bench("lathe", "serial", tmp_path).context
    with capture_logs() as logs:
        source = lathe(machine, text=None, binary=binary, signals=signals)
        async with source.open(context) as session:
            reading = asyncio.create_task(session.read())
            for n in range(1, 23):
                machine.say(bytes([0xAA, 0, 1, 0]))
                await eventually(lambda n=n: context.meter.errors["checksum"] == n)  # type: ignore[misc]
            machine.say(bytes([0xAA, 0, 1, 0xAB]))
            assert isinstance(await reading, Batch)
    assert [line["event"] for line in logs] == ["serial.unreadable", "serial.readable"]


async def test_doctor_shows_what_came_and_what_became_of_it(
    machine: PtyMachine, tmp_path: Path
) -> None:
    file = tmp_path / "forewarn.toml"
    file.write_text(
        f'[gateway]\ndata_dir = "{tmp_path}"\n[[source]]\nkind = "serial"\nid = "lathe"\n'
        f'port = "{machine.port}"\ntext = {{ pattern = "RPM (?P<v>.*)" }}\n'
        'signals = [{ asset = "lathe", signal = "v", unit = "rpm" }]\n'
    )

    async def listen(shown: Callable[[str], bool], *options: str) -> None:
        """Until that is shown, and whoever looks goes by Ctrl-C."""
        command = ["-m", "gateway", "doctor", str(file), "--listen", "lathe", "--timeout-s", "90"]
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, *options, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        output = b""
        async with asyncio.timeout(60):
            while not shown(output.rpartition(b"\n")[0].decode()):
                machine.say(b"RPM 1500\nRPN 9\nRPM x\n")
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        output += await process.stdout.read(1 << 16)
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0, "a sample came, so the answer is yes"

    wanted = (
        "   0  52 50 4d 20 31 35 30 30 0a 52 50 4e 20 39 0a 52  RPM 1500.RPN 9.R",
        "  = lathe/v: 1500 rpm\n  = lathe/v: BAD\n",
        "× pattern",
        "× value",
    )
    await listen(lambda output: all(text in output for text in wanted))

    def as_json(output: str) -> bool:
        told = [json.loads(line) for line in output.splitlines()]
        rows = [row for line in told for row in line.get("samples", ())]
        return {"signal": "lathe/v", "value": 1500, "unit": "rpm"} in rows and any(
            line.get("hex", "").startswith("52 50 4d 20") for line in told
        )

    await listen(as_json, "--json")
    code, output = await asyncio.to_thread(_nobody, file)
    assert code == 2
    assert "SOURCE must be one of lathe" in output


def _nobody(file: Path) -> tuple[int, str]:
    result = CliRunner().invoke(group, ["doctor", str(file), "--listen", "lahte"])
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"port": "192.0.2.1:4001"}, r"socket://192\.0\.2\.1:4001 \(raw TCP\) or rfc2217://"),
        ({"text": {"pattern": PATTERN, "delimiter": r"\r\n"}}, "in double quotes"),
        ({"read_request": [{"text": r"W?\x0D"}]}, "in double quotes"),
    ],
)
def test_what_people_write_by_mistake_is_told_with_the_right_way(
    machine: PtyMachine, changes: dict[str, Any], rule: str
) -> None:
    with pytest.raises(ValidationError, match=rule):
        lathe(machine, **changes)


async def test_a_file_is_no_serial_port(tmp_path: Path, machine: PtyMachine) -> None:
    file = tmp_path / "ttyUSB0"
    file.touch()
    with pytest.raises(LinkRefused, match="is no serial port"):
        async with lathe(machine, port=str(file)).open(bench("lathe", "serial", tmp_path).context):
            pass


@pytest.mark.parametrize("command", ["check", "doctor"])
@pytest.mark.parametrize("speaks", [True, False])
async def test_a_wrong_pattern_is_told_from_a_dead_line(
    machine: PtyMachine, tmp_path: Path, command: str, *, speaks: bool
) -> None:
    file = tmp_path / "forewarn.toml"
    file.write_text(
        f'[gateway]\ndata_dir = "{tmp_path}"\n[[source]]\nkind = "serial"\nid = "lathe"\n'
        f'port = "{machine.port}"\ntext = {{ pattern = "RPN (?P<v>.*)" }}\n'
        'signals = [{ asset = "lathe", signal = "v" }]\n'
    )
    options = ["--connect", "--timeout-s", "1"] if command == "check" else ["--timeout-s", "1"]
    asking = asyncio.create_task(
        asyncio.to_thread(CliRunner().invoke, group, [command, str(file), *options, "--json"])
    )
    while not asking.done():
        if speaks:
            machine.say(b"RPM 1500\n")
        await asyncio.sleep(0.05)
    output = asking.result().output
    assert ("pattern, last heard: b'RPM 1500" in output) == speaks
    assert ("nothing was heard" in output) != speaks
