"""What a tile says: what calls nobody is counted, and does not colour it."""

from pathlib import Path

import numpy as np

from gateway.app import Gateway
from gateway.config import parse
from gateway.console.views import AssetState
from gateway.core.alarm import Cause, Command, Condition, Verb
from gateway.core.assessment import Context, ModelKind
from gateway.core.batch import make_batch
from gateway.core.texts import Phrase, as_said
from gateway.latest import Verdict
from gateway.pipeline.unseen import Gone

TEXT = """
[[source]]
kind = "modbus"
id = "hall"
url = "tcp://192.0.2.1:502"
signals = [{ asset = "press-1", signal = "speed", address = "holding:0" }]

[[event_log]]
id = "repair"
codes = ["belt"]

[[asset]]
id = "press-1"
limits = [{ signal = "speed", low = 100, high = 900 }]

[alarms]
areas = { "line 2" = ["press-1"] }
"""


async def test_a_shelved_alarm_is_counted_and_calls_nobody(tmp_path: Path) -> None:
    gateway = Gateway(parse(TEXT, tmp_path / "forewarn.toml"))
    try:
        for n, alarm in enumerate(("a", "b")):
            condition = Condition(
                asset="press-1",
                alarm=alarm,
                cause=Cause.LIMIT,
                active=True,
                t_ns=0,
                text=as_said(f"press-1 {alarm}"),
                on_delay_s=0.0,
            )
            gateway.annunciator.engine.update([condition], mono_ns=n, wall_ns=1000 + n)

        def shelve(alarm: str) -> None:
            command = Command(Verb.SHELVE, "press-1", alarm, "eva", duration_s=60.0)
            gateway.annunciator.engine.command(command, mono_ns=2, wall_ns=1002)

        (tile,) = gateway.view.assets()
        assert (tile.state, tile.alarms, tile.put_aside) == (AssetState.ALARM, 2, 0)
        assert (tile.area, tile.since_ns) == ("line 2", 1000)
        shelve("a")
        (tile,) = gateway.view.assets()
        assert (tile.state, tile.cause, tile.alarms) == (AssetState.ALARM, "press-1 b", 1)
        assert (tile.put_aside, tile.since_ns) == (1, 1001)
        shelve("b")
        (tile,) = gateway.view.assets()
        assert (tile.state, tile.cause, tile.put_aside) == (AssetState.NO_DATA, "", 2)
        assert tile.priority is None
        machine = gateway.view.asset("press-1")
        assert machine is not None
        assert machine.signals[0].limits == (("high", 900.0), ("low", 100.0))
    finally:
        gateway.trends.close()
        gateway.log.close()


async def test_what_is_made_of_events_is_no_life_of_a_machine(tmp_path: Path) -> None:
    gateway = Gateway(parse(TEXT, tmp_path / "forewarn.toml"))
    try:
        numbers = {signal.name: number for number, signal in gateway.parts.signals_of("press-1")}
        latest, size = gateway.flow.latest, len(gateway.log.signals)

        def at(name: str, t_ns: int) -> None:
            signal, value = np.array([numbers[name]], np.int32), np.ones(1)
            stamp, good = np.array([t_ns], np.int64), np.zeros(1, np.uint8)
            latest.take(make_batch("hall", signal, stamp, value, good, t_ns), size)

        at("speed", 1000)
        at("repair.belt.ago_h", 5000)
        (tile,) = gateway.view.assets()
        assert tile.last_sample_ns == 1000
        machine = gateway.view.asset("press-1")
        assert machine is not None
        assert {s.signal for s in machine.signals} == {"speed", "repair.belt", "repair.belt.ago_h"}
    finally:
        gateway.trends.close()
        gateway.log.close()


async def test_what_surrounds_a_verdict_is_said_in_words(tmp_path: Path) -> None:
    gateway = Gateway(parse(TEXT, tmp_path / "forewarn.toml"))
    try:
        moved = Phrase("fixed.moved", signal="valve", value="7 %", was="5 %")
        verdict = Verdict(
            ModelKind.ANOMALY, "b", shadow=False, context=lambda: Context(fixed=(moved,))
        )
        gateway.flow.latest.verdicts["press-1"] = {"b": verdict}
        machine = gateway.view.asset("press-1")
        assert machine is not None
        assert machine.context is not None
        assert machine.context.fixed == ("valve 7 % (always 5 %)",)
    finally:
        gateway.trends.close()
        gateway.log.close()


async def test_what_is_not_seen_for_long_makes_a_machine_judged_in_part(tmp_path: Path) -> None:
    gateway = Gateway(parse(TEXT, tmp_path / "forewarn.toml"))
    try:
        numbers = {signal.name: number for number, signal in gateway.parts.signals_of("press-1")}
        now_ns, since_ns = gateway.clock.wall_ns(), 5 * 10**9
        signal, stamp = np.array([numbers["speed"]], np.int32), np.array([now_ns], np.int64)
        batch = make_batch("hall", signal, stamp, np.ones(1), np.zeros(1, np.uint8), now_ns)
        gateway.flow.latest.take(batch, len(gateway.log.signals))
        verdict = Verdict(ModelKind.ANOMALY, "b", shadow=False, severity=0.3, coverage=0.75)
        gateway.flow.latest.verdicts["press-1"] = {"b": verdict}
        (tile,) = gateway.view.assets()
        assert (tile.state, tile.unseen, tile.since_ns) == (AssetState.OK, (), 0)
        # A repair that nobody has told of yet is not missing.
        gone = [Gone(name, since_ns, "missing") for name in ("heat", "repair.belt.ago_h")]
        verdict.unseen = (*gone, Gone("speed", 2 * since_ns, "stuck"))
        (tile,) = gateway.view.assets()
        assert (tile.state, tile.since_ns) == (AssetState.PARTIAL, since_ns)
        assert [(u.signal, u.why, u.text) for u in tile.unseen] == [
            ("heat", "missing", "no usable samples"),
            ("speed", "stuck", "does not move any more"),
        ]
    finally:
        gateway.trends.close()
        gateway.log.close()
