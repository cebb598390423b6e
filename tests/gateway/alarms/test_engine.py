"""The engine through whole episodes, in virtual time: arguments, no clock."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.alarms.config import AlarmsConfig, DelayConfig, SuppressConfig
from gateway.alarms.engine import Engine
from gateway.core.alarm import Cause, Command, Condition, Priority, Transition, Verb, Verdict
from gateway.core.errors import DataError
from gateway.core.refusal import Refused

WALL_NS = 1_700_000_000_000_000_000
SECOND = 1_000_000_000


class Plant:
    """An engine and the time that passes for it."""

    def __init__(self, **config: Any) -> None:
        self.engine = Engine(AlarmsConfig(**config))
        self.now_s = 0.0
        self.log: list[Transition] = []

    @property
    def times(self) -> Any:
        now_ns = round(self.now_s * 1e9)
        return {"mono_ns": now_ns, "wall_ns": WALL_NS + now_ns}

    def keep(self, transitions: list[Transition]) -> list[tuple[str, str]]:
        self.log += transitions
        return [(t.event, t.state) for t in transitions]

    def wait(self, seconds: float) -> list[tuple[str, str]]:
        self.now_s += seconds
        return self.keep(self.engine.tick(**self.times))

    def say(self, active: bool | None = True, alarm: str = "a", **more: Any) -> Any:
        fields: dict[str, Any] = {"cause": Cause.LIMIT, "t_ns": 0, "asset": "pump"} | more
        condition = Condition(alarm=alarm, active=active, **fields)
        return self.keep(self.engine.update([condition], **self.times))

    def do(self, verb: Verb, alarm: str = "a", **more: Any) -> list[tuple[str, str]]:
        fields: dict[str, Any] = {"who": "eva"} | more
        return self.keep(self.engine.command(Command(verb, "pump", alarm, **fields), **self.times))

    def states(self) -> dict[str, str]:
        return {v.alarm: v.state for v in self.engine.active(self.times["mono_ns"])}

    def restart(self) -> None:
        data = self.engine.dump()
        self.engine = Engine(self.engine.config)
        self.engine.restore(data, mono_ns=5 * SECOND, wall_ns=self.times["wall_ns"])


NOW: Any = {"on_delay_s": 0.0, "off_delay_s": 0.0}


def test_a_whole_episode() -> None:
    plant = Plant()
    assert plant.say(on_delay_s=2.0) == []
    assert plant.wait(1.9) == []
    assert plant.wait(0.2) == [("active", "active_unacked")]
    assert plant.do(Verb.ACK, note="on my way") == [("ack", "active_acked")]
    assert plant.do(Verb.CONFIRM) == [("confirm", "active_acked")]
    assert plant.say(False, off_delay_s=5.0) == []
    assert plant.wait(5.1) == [("gone", "normal")]
    assert plant.states() == {}
    first, ack = plant.log[:2]
    assert (first.occurrence, first.t_ns, first.who) == (1, WALL_NS + 2_100_000_000, "")
    assert (ack.who, ack.note, ack.active_since_ns) == ("eva", "on my way", first.t_ns)
    assert plant.log[-1].active_since_ns == 0


def test_a_blip_shorter_than_the_on_delay_alarms_nobody() -> None:
    plant = Plant()
    plant.say(on_delay_s=2.0)
    plant.wait(1.0)
    plant.say(False)
    assert plant.wait(60) == []
    assert plant.log == []


def test_not_knowing_neither_raises_nor_clears() -> None:
    plant = Plant()
    plant.say(on_delay_s=2.0)
    plant.say(None)
    assert plant.wait(10) == []
    plant.say(**NOW)
    plant.say(False, off_delay_s=2.0)
    plant.say(None)
    assert plant.wait(10) == []
    assert plant.states() == {"a": "active_unacked"}
    assert not plant.engine.active(0)[0].known


def test_gone_before_acknowledged_stays_until_somebody_has_seen_it() -> None:
    plant = Plant()
    plant.say(**NOW)
    assert plant.say(False, **NOW) == [("gone", "returned_unacked")]
    assert plant.do(Verb.ACK) == [("ack", "normal")]


def test_coming_back_unacknowledged_is_a_new_episode() -> None:
    plant = Plant()
    plant.say(**NOW)
    plant.say(False, **NOW)
    assert plant.say(**NOW) == [("active", "active_unacked")]
    assert [t.occurrence for t in plant.log if t.event == "active"] == [1, 2]


def test_latched_until_reset() -> None:
    plant = Plant(latched=["pump/*"])
    plant.say(**NOW)
    assert plant.say(False, **NOW) == [("gone_latched", "latched_unacked")]
    with pytest.raises(Refused, match="acknowledged before it is reset"):
        plant.do(Verb.RESET)
    plant.do(Verb.ACK)
    assert plant.do(Verb.RESET) == [("reset", "normal")]


def test_told_again_only_when_it_changes() -> None:
    plant = Plant()
    plant.say(severity=1.2, **NOW)
    plant.do(Verb.ACK)
    assert plant.say(severity=2.3, **NOW) == []
    assert plant.say(severity=2.5, **NOW) == [("worse", "active_unacked")]
    plant.do(Verb.ACK)
    assert plant.say(severity=2.5, **NOW) == []
    assert plant.say(severity=2.5, priority=Priority.HIGH, **NOW) == [("worse", "active_unacked")]


def test_realarm_calls_again() -> None:
    plant = Plant(realarm_s=600)
    plant.say(**NOW)
    plant.do(Verb.ACK)
    assert plant.wait(599) == []
    assert plant.wait(2) == [("realarm", "active_unacked")]
    assert plant.engine.active(0)[0].acked_by == ""


def test_anomaly_hysteresis() -> None:
    plant = Plant()
    anomaly: Any = {"cause": Cause.ANOMALY, **NOW}
    plant.say(severity=1.1, **anomaly)
    assert plant.say(False, severity=0.95, **anomaly) == []
    assert plant.say(False, severity=0.85, **anomaly) == [("gone", "returned_unacked")]


def test_a_timed_shelf_comes_back_by_itself() -> None:
    plant = Plant()
    plant.say(**NOW)
    assert plant.do(Verb.SHELVE, duration_s=3600) == [("shelve", "shelved")]
    plant.say(severity=50.0, **NOW)
    assert plant.states() == {"a": "shelved"}
    assert plant.wait(3601) == [("shelf_expired", "active_unacked")]


def test_a_one_shot_shelf_ends_with_the_episode() -> None:
    plant = Plant()
    plant.say(**NOW)
    plant.do(Verb.SHELVE_ONCE)
    assert plant.say(False, **NOW) == [("gone_quiet", "shelved"), ("shelf_returned", "normal")]


def test_shelving_has_a_maximum() -> None:
    plant = Plant(shelve_s_max=3600)
    plant.say(**NOW)
    with pytest.raises(Refused, match="at most 3600"):
        plant.do(Verb.SHELVE, duration_s=3601)
    with pytest.raises(Refused, match="above 0"):
        plant.do(Verb.SHELVE, duration_s=float("nan"))
    assert plant.states() == {"a": "active_unacked"}


def test_the_outer_limit_suppresses_the_inner_one() -> None:
    plant = Plant()
    plant.say(alarm="t.high", on_delay_s=1.0)
    plant.say(alarm="t.high_high", on_delay_s=1.0, priority=Priority.HIGH)
    assert plant.wait(1) == [("active", "active_unacked"), ("active", "suppressed")]
    assert plant.states() == {"t.high_high": "active_unacked", "t.high": "suppressed"}
    plant.say(False, alarm="t.high_high", off_delay_s=0.0)
    assert plant.states()["t.high"] == "active_unacked"


def test_a_parent_suppresses_by_rule_and_a_stopped_machine_by_reason() -> None:
    rule_ = SuppressConfig(while_active="*/off", suppress=["{asset}/*"])
    plant = Plant(suppress=[rule_])
    plant.say(alarm="a", **NOW)
    plant.say(alarm="off", **NOW)
    assert plant.states() == {"off": "active_unacked", "a": "suppressed"}
    plant.say(False, alarm="off", **NOW)
    assert plant.states()["a"] == "active_unacked"
    args: Any = {"patterns": ["pump/*"], "holds": True}
    plant.keep(plant.engine.suppress_while("pump is stopped", **args, **plant.times))
    plant.say(alarm="b", **NOW)
    assert plant.states()["b"] == "suppressed"
    assert plant.engine.active(0)[0].covered_by == "pump is stopped"


def test_a_reason_that_is_said_again_changes_nothing_and_one_that_narrows_frees_the_rest() -> None:
    plant = Plant()
    plant.say(alarm="a", **NOW)
    plant.say(alarm="b", **NOW)
    why = "pump is stopped"

    def stop(*patterns: str, holds: bool = True) -> list[tuple[str, str]]:
        said = plant.engine.suppress_while(why, patterns, holds=holds, **plant.times)
        return plant.keep(said)

    assert [event for event, _ in stop("pump/*")] == ["suppress", "suppress"]
    assert stop("pump/*") == []
    assert stop("pump/a") == [("unsuppress", "active_unacked")]
    assert plant.states() == {"a": "suppressed", "b": "active_unacked"}
    assert stop(holds=False) == [("unsuppress", "active_unacked")]
    assert stop(holds=False) == []


def test_other_rules_over_a_running_engine() -> None:
    plant = Plant(realarm_s=600)
    plant.say(alarm="off", **NOW)
    plant.say(alarm="a", **NOW)
    plant.do(Verb.ACK, "off")
    rule_ = SuppressConfig(while_active="*/off", suppress=["{asset}/*"])
    to = AlarmsConfig(realarm_s=60, suppress=[rule_], latched=["*/a"], shelve_s_max=5)
    said = plant.engine.reconfigure(to, **plant.times)
    assert plant.keep(said) == [("suppress", "suppressed")]
    assert plant.engine.reconfigure(to, **plant.times) == []
    assert plant.wait(61) == [("realarm", "active_unacked")]
    with pytest.raises(Refused, match="at most 5"):
        plant.do(Verb.SHELVE, "off", duration_s=10)
    back = plant.engine.reconfigure(AlarmsConfig(), **plant.times)
    assert plant.keep(back) == [("unsuppress", "active_unacked")]


def test_out_of_service_and_back() -> None:
    plant = Plant()
    plant.say(**NOW)
    plant.do(Verb.OUT_OF_SERVICE)
    with pytest.raises(Refused, match="already out of service"):
        plant.do(Verb.OUT_OF_SERVICE)
    assert plant.do(Verb.IN_SERVICE) == [("in_service", "active_unacked")]


def test_first_out_stays_first_until_the_group_is_quiet() -> None:
    plant = Plant()
    plant.say(alarm="a", **NOW)
    plant.say(alarm="b", **NOW)
    plant.say(False, alarm="a", **NOW)
    assert {v.alarm: v.first_out for v in plant.engine.active(0)} == {"a": True, "b": False}
    plant.say(False, alarm="b", **NOW)
    plant.say(alarm="b", **NOW)
    assert {v.alarm: v.first_out for v in plant.engine.active(0)} == {"a": False, "b": True}


def test_chattering_and_stale_are_marked() -> None:
    plant = Plant(acknowledge=False)
    for _ in range(3):
        plant.say(**NOW)
        plant.wait(5)
        plant.say(False, **NOW)
    plant.say(**NOW)
    view = plant.engine.active(plant.times["mono_ns"])[0]
    assert (view.chattering, view.stale) == (True, False)
    plant.wait(86_401)
    view = plant.engine.active(plant.times["mono_ns"])[0]
    assert (view.chattering, view.stale) == (False, True)


def test_feedback_on_this_and_on_an_earlier_episode() -> None:
    plant = Plant()
    plant.say(**NOW)
    plant.say(False, **NOW)
    plant.say(**NOW)
    plant.do(Verb.FEEDBACK, verdict=Verdict.FALSE, note="door was open", occurrence=1)
    assert (plant.log[-1].event, plant.log[-1].occurrence) == ("feedback.false", 1)
    assert plant.engine.active(0)[0].verdict is None
    plant.do(Verb.FEEDBACK, verdict=Verdict.REAL)
    assert plant.engine.active(0)[0].verdict is Verdict.REAL
    with pytest.raises(Refused, match="needs a verdict"):
        plant.do(Verb.FEEDBACK)


def test_an_acknowledgement_of_an_episode_that_is_over_is_refused() -> None:
    plant = Plant()
    plant.say(**NOW)
    plant.say(False, **NOW)
    plant.say(**NOW)
    with pytest.raises(Refused, match="episode 1 is over"):
        plant.do(Verb.ACK, occurrence=1)


@pytest.mark.parametrize("verb", [v for v in Verb if v is not Verb.FEEDBACK])
def test_commands_on_nothing_are_refused_and_change_nothing(verb: Verb) -> None:
    plant = Plant()
    with pytest.raises(Refused, match="no such alarm"):
        plant.do(verb)
    assert plant.engine.active(0) == []


def test_active_at_start_alarms_once_and_only_once_over_restarts() -> None:
    plant = Plant()
    assert plant.say(**NOW) == [("active", "active_unacked")]
    plant.do(Verb.ACK)
    plant.restart()
    assert plant.say(**NOW) == []
    assert plant.states() == {"a": "active_acked"}
    assert plant.say(False, **NOW) == [("gone", "normal")]


def test_a_shelf_survives_a_restart_and_a_stepped_clock_cannot_make_it_last() -> None:
    plant = Plant()
    plant.say(**NOW)
    plant.do(Verb.SHELVE, duration_s=3600)
    data = plant.engine.dump()
    engine = Engine(AlarmsConfig())
    engine.restore(data, mono_ns=0, wall_ns=WALL_NS + 1800 * SECOND)
    assert engine.tick(mono_ns=1799 * SECOND, wall_ns=0) == []
    assert [t.event for t in engine.tick(mono_ns=1801 * SECOND, wall_ns=0)] == ["shelf_expired"]
    engine = Engine(AlarmsConfig())
    engine.restore(data, mono_ns=0, wall_ns=0)  # The clock says 1970.
    week_ns = 7 * 86_400 * SECOND
    assert engine.tick(mono_ns=week_ns - 1, wall_ns=0) == []
    assert [t.event for t in engine.tick(mono_ns=week_ns, wall_ns=0)] == ["shelf_expired"]


def test_what_nobody_reports_any_more_can_be_reset_by_a_person() -> None:
    plant = Plant()
    plant.say(**NOW)
    with pytest.raises(Refused, match="not latched"):
        plant.do(Verb.RESET)
    plant.restart()
    assert plant.do(Verb.RESET) == [("gone_quiet", "normal")]


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b'{"format":9}', b'{"format":1,"alarms":[{}]}']
)
def test_a_damaged_state_is_refused_and_changes_nothing(data: bytes) -> None:
    engine = Engine(AlarmsConfig())
    with pytest.raises(DataError):
        engine.restore(data, mono_ns=0, wall_ns=0)
    assert engine.active(0) == []


def test_the_number_of_alarms_is_bounded_and_the_rest_is_counted() -> None:
    plant = Plant(alarms_max=100)
    for i in range(150):
        plant.say(alarm=f"a{i}", **NOW)
    assert len(plant.engine.active(0)) == 100
    assert plant.engine.alarms_dropped == 50
    plant.say(False, alarm="a0", **NOW)
    plant.do(Verb.ACK, "a0")
    plant.say(alarm="new", **NOW)
    assert "new" in plant.states()


ALARMS = ("a", "t.high", "t.high_high")
COMMANDS: Sequence[Verb] = list(Verb)


class Anything(RuleBasedStateMachine):
    """Whatever reporters, people and time do, in any order."""

    def __init__(self) -> None:
        super().__init__()
        delays = dict.fromkeys(Cause, DelayConfig(on_s=3, off_s=3))
        self.plant = Plant(delays=delays, realarm_s=50, shelve_s_max=100, latched=["*/a"])

    @rule(alarm=st.sampled_from(ALARMS), active=st.sampled_from([True, False, None]))
    def report(self, alarm: str, active: bool | None) -> None:
        self.plant.say(active, alarm=alarm)

    @rule(alarm=st.sampled_from(ALARMS), verb=st.sampled_from(COMMANDS))
    def command(self, alarm: str, verb: Verb) -> None:
        before = self.plant.engine.dump()
        try:
            self.plant.do(verb, alarm, duration_s=40.0, verdict=Verdict.KNOWN)
        except Refused:
            assert self.plant.engine.dump() == before

    @rule(seconds=st.sampled_from([0.5, 2, 4, 60]))
    def wait(self, seconds: float) -> None:
        self.plant.wait(seconds)

    @rule()
    def restart(self) -> None:
        data = self.plant.engine.dump()
        engine = Engine(self.plant.engine.config)
        engine.restore(data, **self.plant.times)
        before = {v.alarm: v.state for v in self.plant.engine.active(0)}
        assert {v.alarm: v.state for v in engine.active(0)} == before
        self.plant.engine = engine

    @invariant()
    def episodes_are_counted_one_by_one(self) -> None:
        for alarm in ALARMS:
            begun = [
                t.occurrence for t in self.plant.log if (t.alarm, t.event) == (alarm, "active")
            ]
            assert begun == list(range(1, len(begun) + 1))

    @invariant()
    def the_log_tells_the_state(self) -> None:
        last = {t.alarm: t.state for t in self.plant.log if not t.event.startswith("feedback")}
        now = {a: s for a, s in last.items() if s != "normal"}
        assert now == self.plant.states()

    @invariant()
    def people_are_named(self) -> None:
        assert all(
            bool(t.who) == (t.event in {*Verb, "feedback.known"})
            for t in self.plant.log
            if t.event not in {"suppress", "unsuppress", "gone_quiet"}
        )


TestAnything = Anything.TestCase
TestAnything.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
