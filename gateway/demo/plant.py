"""The simulated plant as a process: four machines, each behind a real protocol server.

Writes one JSON line with the addresses when every server listens, then one JSON line for each fault
that begins. Takes commands as JSON lines on its standard input:

    {"inject": {"asset": "pump-1", "kind": "bearing_wear", "grow_s": 30}}
    {"heal": "pump-1"}

Ends on SIGTERM, SIGINT, or when its standard input ends.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gateway.core.clock import Clock, SystemClock, sleep_until
from gateway.demo.configuration import configuration, shipped_bundles
from gateway.demo.layout import ASSETS, REGISTERS, UNIT, PlannedFault, lathe_line
from gateway.demo.machine import Machine
from gateway.demo.machines import CLASSES
from gateway.demo.modbus_device import modbus_rtu, modbus_tcp
from gateway.demo.opcua_device import opcua_machine
from gateway.demo.physics import Fault
from gateway.demo.serial_device import print_line, pty

TICK_S = 0.1
LINE_TICKS = 2
"""The lathe prints at every second tick."""
CATCH_UP_STEPS_MAX = 600
COMMAND_BYTES_MAX = 4096
STDIN = 0

Show = Callable[[Mapping[str, float], int], Awaitable[None]]


class Plant:
    """Four machines in step with the clock.

    Attributes:
        factor: Seconds of the machines for each second of the clock.
    """

    def __init__(self, seed: int, *, factor: float = 1.0, warm: bool = True) -> None:
        assert factor > 0
        seeds = np.random.SeedSequence(seed).spawn(len(ASSETS))
        self.machines = {
            asset: Machine(CLASSES[kind], np.random.default_rng(s), warm=warm)
            for (asset, kind), s in zip(ASSETS.items(), seeds, strict=True)
        }
        self.factor = factor
        self._begun: set[tuple[str, Fault]] = set()

    def inject(self, planned: PlannedFault) -> None:
        """Let a fault begin at its time; one in the past begins now."""
        machine = self.machines[planned.asset]
        fault = planned.fault
        machine.inject(replace(fault, at_s=max(fault.at_s * self.factor, machine.t_s)))

    def heal(self, asset: str) -> None:
        """Repair a machine: all its faults are gone."""
        self.machines[asset].faults.clear()

    def step(self, steps: int) -> dict[str, dict[str, float]]:
        """Live for some ticks; gives the last reading of each asset."""
        return {
            asset: {
                name: float(column[-1])
                for name, column in machine.advance(steps, TICK_S * self.factor).items()
            }
            for asset, machine in self.machines.items()
        }

    def begun(self) -> list[tuple[str, Fault]]:
        """Faults that have begun since the last call."""
        new = [
            (asset, fault)
            for asset, machine in self.machines.items()
            for fault in machine.faults
            if fault.at_s <= machine.t_s and (asset, fault) not in self._begun
        ]
        self._begun.update(new)
        return new


async def serve_plant(
    plant: Plant, clock: Clock, say: Callable[[dict[str, Any]], None], commands: bool
) -> None:
    """Run every server and the clock's ticks until cancelled or told to end."""
    async with AsyncExitStack() as stack:
        show, addresses = await _open_servers(plant, stack)
        say({"event": "listening", "sources": addresses})
        end = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end.set)
        if commands:
            loop.add_reader(STDIN, _Commands(plant, say, end))
            stack.callback(loop.remove_reader, STDIN)
        await _tick(plant, clock, show, say, end)


async def _open_servers(
    plant: Plant, stack: AsyncExitStack
) -> tuple[dict[str, Show], dict[str, Any]]:
    enter = stack.enter_async_context
    pump = await enter(opcua_machine("pump-1", plant.machines["pump-1"].kind.sensors))
    images = {asset: np.zeros(256, np.uint16) for asset in REGISTERS}
    port = await enter(modbus_tcp(UNIT["compressor-1"], images["compressor-1"]))
    rtu_path = await enter(modbus_rtu(UNIT["conveyor-1"], images["conveyor-1"]))
    ours, theirs, line_path = stack.enter_context(pty())
    ticks = 0

    def image(asset: str) -> Show:
        async def show(reading: Mapping[str, float], _t_ns: int) -> None:
            for name, register in REGISTERS[asset].items():
                words = register.words(reading[name])
                images[asset][register.address : register.address + len(words)] = words

        return show

    async def line(reading: Mapping[str, float], _t_ns: int) -> None:
        nonlocal ticks
        ticks += 1
        if ticks % LINE_TICKS:
            return
        print_line(ours, theirs, lathe_line(reading))

    return {
        "pump-1": pump.write,
        "compressor-1": image("compressor-1"),
        "conveyor-1": image("conveyor-1"),
        "lathe-1": line,
    }, {
        "pump-1": {"url": pump.url},
        "compressor-1": {"host": "127.0.0.1", "port": port, "unit": UNIT["compressor-1"]},
        "conveyor-1": {"path": rtu_path, "unit": UNIT["conveyor-1"]},
        "lathe-1": {"path": line_path},
    }


async def _tick(
    plant: Plant,
    clock: Clock,
    show: dict[str, Show],
    say: Callable[[dict[str, Any]], None],
    end: asyncio.Event,
) -> None:
    tick_ns = round(TICK_S * 1e9)
    due_ns = clock.mono_ns()
    while not end.is_set():
        # A machine that was asleep (a suspended box) goes on from where it was.
        steps = 1 + min((clock.mono_ns() - due_ns) // tick_ns, CATCH_UP_STEPS_MAX)
        readings = plant.step(steps)
        t_ns = clock.wall_ns()
        for asset, reading in readings.items():
            await show[asset](reading, t_ns)
        for asset, fault in plant.begun():
            say({"event": "fault", "asset": asset, "kind": fault.kind, "t_ns": t_ns})
        due_ns = max(due_ns + steps * tick_ns, clock.mono_ns() - tick_ns)
        await sleep_until(clock, due_ns)


class _Commands:
    """Takes JSON lines from standard input; its end is the end of the plant."""

    def __init__(
        self, plant: Plant, say: Callable[[dict[str, Any]], None], end: asyncio.Event
    ) -> None:
        self._plant, self._say, self._end = plant, say, end
        self._buffer = b""

    def __call__(self) -> None:
        data = os.read(STDIN, COMMAND_BYTES_MAX)
        if not data:
            self._end.set()
            asyncio.get_running_loop().remove_reader(STDIN)
            return
        *lines, rest = (self._buffer + data).split(b"\n")
        self._buffer = rest[-COMMAND_BYTES_MAX:]
        for text in filter(None, map(bytes.strip, lines)):
            try:
                self._obey(json.loads(text))
            except (ValueError, KeyError, TypeError) as error:
                self._say({"event": "refused", "reason": str(error)})

    def _obey(self, command: dict[str, Any]) -> None:
        if "inject" in command:
            self._plant.inject(PlannedFault.make(**{"at_s": 0.0} | command["inject"]))
        elif "heal" in command:
            self._plant.heal(command["heal"])
        else:
            raise ValueError('command: must hold "inject" or "heal"')


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m gateway.demo",
        description="Run the simulated plant alone: OPC UA, Modbus TCP and RTU, and a serial line.",
        epilog="example: python -m gateway.demo --seed 1 --fault pump-1:bearing_wear:35",
    )
    parser.add_argument("--seed", type=int, default=1, help="fixes every machine's life (1)")
    parser.add_argument("--ports-file", type=Path, help="write the addresses here, not to stdout")
    parser.add_argument(
        "--fault",
        type=PlannedFault.parse,
        action="append",
        default=[],
        metavar="ASSET:KIND:AT_S[:GROW_S[:LEVEL]]",
        help="let a fault begin; may be given more than once",
    )
    parser.add_argument("--factor", type=float, default=1.0, help="machine seconds per second (1)")
    parser.add_argument("--cold", action="store_true", help="start cold, not warm since an hour")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="write a configuration for `forewarn run` here"
    )
    parser.add_argument(
        "--no-commands", action="store_true", help="leave standard input alone; end on SIGTERM only"
    )
    return parser


def _configuration(addresses: dict[str, Any], path: Path) -> str:
    data_dir = path.absolute().parent / "data"
    return configuration(addresses, data_dir=data_dir, bundles=shipped_bundles())


def _write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all: whoever waits for it must not read half of it."""
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the plant; see the module."""
    options = _parser().parse_args(argv)
    plant = Plant(options.seed, factor=options.factor, warm=not options.cold)
    for planned in options.fault:
        plant.inject(planned)

    def say(event: dict[str, Any]) -> None:
        line = json.dumps(event) + "\n"
        if event["event"] == "listening":
            if options.config:
                _write_whole(options.config, _configuration(event["sources"], options.config))
            if options.ports_file:
                _write_whole(options.ports_file, line)
        sys.stdout.write(line)
        sys.stdout.flush()

    asyncio.run(serve_plant(plant, SystemClock(), say, not options.no_commands))
