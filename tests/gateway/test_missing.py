"""A signal that does not come although its source is up is an alarm; what explains it is not."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from gateway.alarms.config import AlarmsConfig
from gateway.alarms.engine import Engine
from gateway.config import parse
from gateway.core.alarm import AlarmView, Cause, Priority, Transition
from gateway.core.assessment import ModelKind
from gateway.core.signals import Signal, SignalTable
from gateway.core.texts import as_said, english
from gateway.flow.missing import Missing
from gateway.latest import Verdict
from gateway.parts import Parts
from gateway.pipeline.config import AssetConfig, DeriveConfig
from gateway.pipeline.derive import Derive
from gateway.pipeline.fleet import Assignment, muster
from gateway.pipeline.supervise import link_condition
from gateway.pipeline.unseen import Gone
from models.record import Record
from models.training.anomaly import train
from tests.gateway.test_flow import START_NS, STEP_NS, Bench, stages
from tests.models.plants import healthy

LOST = 5
"""Number of the signal that is lost."""


class Clock:
    """As late as what was poured."""

    now_ns = 0

    def wall_ns(self) -> int:
        """UTC nanoseconds."""
        return START_NS + self.now_ns

    def mono_ns(self) -> int:
        """Since the first row."""
        return self.now_ns


class Hall(Bench):
    """A lathe behind a link, in the time of what is poured; alarms come and go at once."""

    clock: Clock

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, Clock())
        self.names = [signal.name for signal in self.manifest.signals]
        self.lost = f"{self.names[LOST]}.missing"
        self.span = self.manifest.window.cells
        self.at = 0
        self.told: list[Transition] = []
        self.annunciator.listeners.append(self.told.append)
        signals = ", ".join(
            f'{{ asset = "lathe-1", signal = "{name}", address = "holding:{i}" }}'
            for i, name in enumerate(self.names)
        )
        text = f"""
            [alarms.delays]
            data_quality = {{ on_s = 0, off_s = 0 }}
            [[source]]
            kind = "modbus"
            id = "line"
            url = "tcp://192.0.2.1:502"
            signals = [{signals}]
        """
        config = parse(text, folder / "forewarn.toml")
        self.annunciator.reconfigure(Parts(config, SignalTable()).alarms, english())

    async def run(self, spans: float, *without: int) -> None:
        """Rows of so many windows, which lack some signals."""
        for _ in range(round(spans * self.span) // 8):
            self.rows[self.at : self.at + 8, list(without)] = np.nan
            await self.pour(self.at, self.at + 8)
            await self.rest(8 / self.span)

    async def rest(self, spans: float) -> None:
        """Time passes for so many windows."""
        for _ in range(round(spans * self.span) // 8):
            self.at += 8
            self.clock.now_ns = self.at * STEP_NS
            await self.flow.tick()

    async def link(self, fault: str) -> None:
        """The source loses its link, or "" has it again."""
        text = as_said(fault) if fault else None
        self.annunciator.report(link_condition("line", self.clock.wall_ns(), text))
        await self.flow.tick()

    def standing(self) -> dict[str, AlarmView]:
        """Every alarm of the machine that calls somebody."""
        active = self.annunciator.engine.active(self.clock.mono_ns())
        return {a.alarm: a for a in active if a.asset and a.state == "active_unacked"}

    def events(self) -> list[str]:
        """What became of alarms of the machine, in order."""
        return [f"{t.alarm} {t.event}" for t in self.told if t.asset]


def in_hall(test: Callable[[Hall], Awaitable[None]]) -> Callable[[Path], None]:
    """A test of a hall that has run well for three windows."""

    async def main(folder: Path) -> None:
        hall = Hall(folder)
        await hall.run(3)
        assert hall.told == []
        await test(hall)
        hall.log.close()

    def run(tmp_path: Path) -> None:
        asyncio.run(main(tmp_path))

    return run


@in_hall
async def test_a_signal_that_does_not_come_is_told_once_and_over_when_it_is_back(
    hall: Hall,
) -> None:
    await hall.run(1, LOST)
    assert hall.told == [], "not for longer than a window yet"
    await hall.run(2, LOST)
    (alarm,) = hall.standing().values()
    assert (alarm.alarm, alarm.cause, alarm.priority) == (
        hall.lost,
        Cause.DATA_QUALITY,
        Priority.LOW,
    )
    name = hall.names[LOST]
    assert alarm.text.startswith(f"{name} of lathe-1 has brought no usable sample since 20")
    assert alarm.text.endswith(" UTC, though its source line is up")
    await hall.run(1)
    assert hall.standing() == {}
    await hall.run(3, LOST)
    assert hall.events() == [f"{hall.lost} {event}" for event in ("active", "gone", "active")]


@in_hall
async def test_nothing_of_a_machine_from_a_source_that_is_up_is_one_alarm(hall: Hall) -> None:
    await hall.run(4, *range(len(hall.names)))
    (alarm,) = hall.standing().values()
    assert alarm.alarm == "source.line.missing"
    assert alarm.text.startswith("lathe-1 has brought no usable sample since ")
    await hall.run(2, 0, LOST)
    assert sorted(hall.standing()) == sorted([f"{hall.names[0]}.missing", hall.lost])
    await hall.run(1)
    assert hall.standing() == {}


@in_hall
async def test_a_source_that_is_down_says_so_itself_then_and_when_it_is_back(hall: Hall) -> None:
    await hall.link("cable")
    await hall.rest(6)
    await hall.link("")
    await hall.run(3)
    assert hall.events() == []


@in_hall
async def test_what_was_told_before_its_link_failed_stands_until_that_is_known(hall: Hall) -> None:
    await hall.run(3, LOST)
    await hall.link("cable")
    await hall.rest(4)
    assert hall.standing() == {}, "suppressed by design"
    await hall.link("")
    await hall.rest(1)
    await hall.run(3, LOST)
    assert hall.events() == [f"{hall.lost} {e}" for e in ("active", "suppress", "unsuppress")]
    await hall.run(1)
    assert hall.standing() == {}


@in_hall
async def test_a_machine_that_stands_is_not_asked_for_its_signals(hall: Hall) -> None:
    hall.annunciator.silence("lathe-1", holds=True)
    await hall.run(4, LOST)
    assert hall.standing() == {}


@in_hall
async def test_what_is_derived_is_not_missed_beside_what_it_is_made_of(hall: Hall) -> None:
    one = DeriveConfig(asset="lathe-1", signal="power", expression="load * speed", unit="kW")
    made = stages(hall.log.signals, hall.sources)
    derive = Derive([one], hall.sources, hall.log.signals)
    await hall.flow.restation(hall.posts(), replace(made, derive=derive))
    await hall.run(4, hall.names.index("load"), hall.names.index("power"))
    assert set(hall.standing()) == {"load.missing"}


@in_hall
async def test_what_nobody_judges_any_more_is_not_missed(hall: Hall) -> None:
    await hall.run(3, LOST)
    await hall.flow.restation([])
    await hall.flow.tick()
    assert hall.standing() == {}


def test_a_restart_tells_nothing_twice_and_ends_what_is_over(tmp_path: Path) -> None:
    async def main() -> None:
        hall = Hall(tmp_path)
        await hall.run(3)
        await hall.run(3, LOST)
        hall.flow.keep()
        await hall.log.flush()
        hall.log.close()
        again = Hall(tmp_path)
        again.at, again.clock.now_ns = hall.at, hall.clock.now_ns
        again.annunciator.restore()
        await again.flow.warm_up()
        await again.run(3, LOST)
        assert set(again.standing()) == {again.lost}
        assert again.told == []
        await again.run(1)
        assert again.standing() == {}
        again.log.close()

    asyncio.run(main())


def test_a_waveform_is_missed_whole_and_a_signal_called_like_a_part_is_its_own(
    tmp_path: Path,
) -> None:
    parts = ("speed", "vibration rms", "case rms", "case kurtosis")
    record = healthy(3000)
    trained = train(Record(record.values, parts, ("rpm", "", "", ""), time_s=record.time_s))
    trained.write(tmp_path / "m.fwm")
    table, clock = SignalTable(), Clock()
    keys = [Signal("press-1", "speed", "rpm"), Signal("press-1", "vibration rms")]
    sources = dict.fromkeys([*keys, Signal("press-1", "case")], "line")
    wanted = [Assignment(AssetConfig(id="press-1"), tmp_path / "m.fwm", "asset[0].bundle")]
    missing = Missing(Engine(AlarmsConfig()), clock)
    assert missing.station(muster(wanted, sources, table), stages(table, sources), table) == []

    def told(*names: str, why: str = "missing") -> dict[str, bool | None]:
        clock.now_ns += 3600 * 10**9
        verdict = Verdict(ModelKind.ANOMALY, "m", shadow=False)
        verdict.unseen = tuple(Gone(name, START_NS, why) for name in names)
        seen = missing.conditions(["press-1"], {"press-1": {"m": verdict}})
        return {each.alarm: each.active for each in seen}

    assert told() == {}
    assert told("case kurtosis") == {}, "a part of what comes"
    assert told("case", "vibration") == {"case.missing": True, "vibration rms.missing": True}
    assert told("case") == {"case.missing": True, "vibration rms.missing": False}
    assert told("case", why="sparse") == {"case.missing": False}
    assert told("speed", "case", "vibration") == {"source.line.missing": True}
