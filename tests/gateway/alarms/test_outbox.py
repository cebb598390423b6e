"""What a channel tells, and when: in virtual time."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.alarms.config import AlarmsConfig
from gateway.alarms.notify import StateBox
from gateway.alarms.notify_config import AppriseConfig, HoursConfig, MqttConfig
from gateway.alarms.outbox import Message, Outbox, Tells, within
from gateway.alarms.words import words
from gateway.core.alarm import Cause, Driver, Priority, Transition
from gateway.core.errors import DataError
from gateway.core.texts import english

SECOND = 10**9
MONDAY_NS = 1_700_438_400 * SECOND  # 2023-11-20 00:00 UTC, a Monday.
STATES = {"active": "active_unacked", "ack": "active_acked", "shelve": "shelved"}


def transition(event: str, at_s: float, alarm: str = "a", **more: Any) -> Transition:
    fields: dict[str, Any] = {
        "asset": "pump",
        "alarm": alarm,
        "cause": Cause.LIMIT,
        "state": STATES.get(event, "normal"),
        "event": event,
        "occurrence": 1,
        "t_ns": MONDAY_NS + round(at_s * SECOND),
        "active_since_ns": MONDAY_NS,
        "severity": 1.5,
        "priority": Priority.MEDIUM,
        "text": "too hot",
        "drivers": (Driver("t", 1.0, "t 90 °C, high"),),
    }
    return Transition(**fields | more)


class Desk:
    """An outbox, time, and what was delivered."""

    def __init__(self, alarms: dict[str, Any] | None = None, **config: Any) -> None:
        url = {"id": "mail", "url": "env:URL"}
        self.config = AppriseConfig.model_validate(url | config)
        self.alarms = AlarmsConfig(**(alarms or {}))
        self.box = self.begin()
        self.now_s = 0.0
        self.number = 0

    def begin(self) -> Outbox:
        areas = {asset: area for area, mine in self.alarms.areas.items() for asset in mine}
        return Outbox(self.config, self.alarms, areas)

    @property
    def times(self) -> Any:
        return {
            "mono_ns": round(self.now_s * SECOND),
            "wall_ns": MONDAY_NS + round(self.now_s * SECOND),
        }

    def take(self, event: str, **more: Any) -> None:
        self.number += 1
        self.box.take(self.number, transition(event, self.now_s, **more), **self.times)

    def tell(self, at_s: float | None = None) -> list[Message]:
        """All that is sent at a moment."""
        self.now_s = self.now_s if at_s is None else at_s
        out = []
        while (message := self.box.next(**self.times)) is not None:
            assert self.box.next(**self.times) == message, "the same until it is sent"
            self.box.sent(message, mono_ns=self.times["mono_ns"])
            out.append(message)
        return out

    def restart(self) -> None:
        data = self.box.dump()
        self.box = self.begin()
        self.box.restore(data, **self.times)


def kinds(messages: list[Message]) -> list[str]:
    return [m.tells.value for m in messages]


def test_an_alarm_is_told_once_and_its_end() -> None:
    desk = Desk()
    desk.take("active")
    assert kinds(desk.tell()) == ["alarm"]
    desk.take("ack")
    assert desk.tell() == []
    desk.take("gone")
    assert kinds(desk.tell()) == ["clear"]


def test_nothing_is_taken_twice() -> None:
    desk = Desk()
    desk.take("active")
    desk.tell()
    desk.number = 0
    desk.take("active")
    assert desk.tell() == []


def test_what_was_told_survives_a_restart() -> None:
    desk = Desk()
    desk.take("active", alarm="a")
    desk.tell()
    desk.take("active", alarm="b")
    desk.restart()
    assert [i.transition.alarm for m in desk.tell() for i in m.items] == ["b"]
    desk.take("gone", alarm="a")
    desk.restart()
    assert kinds(desk.tell()) == ["clear"]


def test_escalation_only_when_nobody_acknowledged() -> None:
    desk = Desk(after_s=900)
    desk.take("active", alarm="a")
    desk.take("active", alarm="b")
    desk.take("active", alarm="c")
    assert desk.tell(899) == []
    desk.take("ack", alarm="a")
    desk.take("gone", alarm="b")
    assert [(m.tells, m.items[0].transition.alarm) for m in desk.tell(901)] == [("escalation", "c")]


def test_an_escalation_waits_no_longer_for_a_restart() -> None:
    desk = Desk(after_s=900)
    desk.take("active")
    desk.now_s = 600
    desk.restart()
    assert desk.tell(899) == []
    assert kinds(desk.tell(901)) == ["escalation"]


def test_quiet_hours_hold_all_but_the_urgent() -> None:
    desk = Desk(quiet=[{"start": "00:00", "end": "06:00"}])
    desk.take("active", alarm="a")
    desk.take("active", alarm="b")
    desk.take("active", alarm="c", priority=Priority.HIGH)
    assert [m.items[0].transition.alarm for m in desk.tell(60)] == ["c"]
    desk.take("ack", alarm="b")
    assert [m.items[0].transition.alarm for m in desk.tell(6 * 3600)] == ["a"]


def test_a_channel_off_duty_is_silent_and_stays_so() -> None:
    desk = Desk(roster=[{"days": ["mon"], "start": "06:00", "end": "14:00"}])
    desk.take("active", alarm="a")
    assert desk.tell(60) == []
    assert desk.tell(7 * 3600) == []
    desk.take("active", alarm="b")
    assert kinds(desk.tell()) == ["alarm"]


def test_rate_limit_loses_nothing() -> None:
    desk = Desk({"flood_count": 500}, rate_max=3, rate_s=600)
    for i in range(20):
        desk.take("active", asset=f"m{i}")
    first = desk.tell(1)
    assert kinds(first) == ["alarm", "alarm", "digest"]
    assert sum(len(m.items) for m in first) == 20
    for i in range(5):
        desk.take("active", asset=f"n{i}")
    assert desk.tell(300) == []
    later = desk.tell(602)
    assert sum(len(m.items) for m in later) == 5
    assert len(later) <= 3


def test_what_one_cause_raises_in_one_machine_at_once_is_one_message() -> None:
    desk = Desk()
    desk.take("active", alarm="t.high", text="pump temperature 90 °C is high")
    desk.take("active", alarm="p.high", text="pressure 12 bar is high", priority=Priority.HIGH)
    desk.take("active", alarm="anomaly", cause=Cause.ANOMALY)
    desk.take("active", asset="press")
    limits, anomaly, press = desk.tell()
    assert [i.transition.alarm for i in limits.items] == ["p.high", "t.high"]
    assert (len(anomaly.items), len(press.items)) == (1, 1)
    title, body = words(desk.config, limits, "hall-3", "", english())
    assert title == "pump: pressure 12 bar is high (and 1 more)"
    assert body.splitlines()[0] == "- temperature 90 °C is high"


def test_a_flood_is_one_message_with_the_list_behind_it() -> None:
    desk = Desk({"areas": {"line 2": ["pump"]}}, rate_max=100)
    for i in range(14):
        desk.take("active", alarm=f"a{i}")
    (flood,) = desk.tell(1)
    assert (flood.tells, flood.area, len(flood.items)) == (Tells.FLOOD, "line 2", 14)
    title, body = words(desk.config, flood, "hall-3", "http://gateway", english())
    assert title == "Flood on line 2: 14 alarms"
    assert body.count("too hot") == 14
    desk.take("active", alarm="late")
    assert desk.tell(60) == [], "held until the flood is over"
    assert len(desk.tell(602)) == 1


def test_filters() -> None:
    alarms = {"areas": {"north": ["pump"], "south": ["press"]}}
    desk = Desk(alarms, areas=["south"], priority_min=2)
    desk.take("active")
    desk.take("active", asset="press", priority=Priority.LOW)
    assert desk.tell() == []
    desk.take("active", asset="press", alarm="b")
    assert len(desk.tell()) == 1


def test_a_receiver_of_states_may_be_for_one_area() -> None:
    config = MqttConfig.model_validate({"id": "line", "host": "broker", "areas": ["south"]})
    box = StateBox(config, {"pump": "north", "press": "south"})
    for number, asset in enumerate(("pump", "press"), 1):
        box.take(number, transition("active", 0.0, asset=asset), mono_ns=0, wall_ns=0)
    message = box.next(mono_ns=0, wall_ns=0)
    assert message is not None
    assert [item.transition.asset for item in message.items] == ["press"]


def test_shelved_alarms_call_nobody_and_uncovered_ones_do() -> None:
    desk = Desk(after_s=60)
    desk.take("active")
    desk.take("shelve")
    assert desk.tell(100) == []
    desk.take("shelf_expired", state="active_unacked")
    assert kinds(desk.tell(200)) == ["escalation"]
    desk.take("unshelve", state="active_unacked")
    assert desk.tell(300) == [], "this episode was told"


def test_an_end_without_a_beginning_is_not_told() -> None:
    desk = Desk()
    desk.take("gone")
    assert desk.tell() == []


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["active", "ack", "gone"])), max_size=40)
)
def test_every_alarm_is_told_exactly_once_whatever_comes(events: list[tuple[int, str]]) -> None:
    desk = Desk({"flood_count": 900}, rate_max=1000)
    told: list[int] = []
    wanted: list[int] = []
    for alarm, event in events:
        desk.take(event, alarm=f"a{alarm}", occurrence=desk.number + 1)
        if event == "active":
            wanted.append(desk.number)
        if desk.number % 3 == 0:
            told += [i.number for m in desk.tell() for i in m.items if i.tells is Tells.ALARM]
            desk.restart()
    told += [i.number for m in desk.tell() for i in m.items if i.tells is Tells.ALARM]
    assert told == wanted


@pytest.mark.parametrize(
    ("hour", "inside"), [(21.9, False), (22.1, True), (24 + 5.9, True), (24 + 6.1, False)]
)
def test_hours_over_midnight_belong_to_the_day_they_began(hour: float, inside: bool) -> None:
    night = [HoursConfig.model_validate({"days": ["mon"], "start": "22:00", "end": "06:00"})]
    assert within(night, "UTC", MONDAY_NS + round(hour * 3600 * SECOND)) == inside


def test_hours_are_local() -> None:
    noon = [HoursConfig.model_validate({"start": "12:00", "end": "13:00"})]
    assert within(noon, "Asia/Tokyo", MONDAY_NS + 3 * 3600 * SECOND + 1)


def test_words_are_plain_and_name_what_drives() -> None:
    desk = Desk()
    desk.take("active")
    title, body = words(desk.config, desk.tell()[0], "hall-3", "http://gateway/alarms", english())
    assert title == "pump: too hot"
    assert body.splitlines()[0] == "- t 90 °C, high"
    assert "Since 2023-11-20 00:00:00" in body
    assert body.endswith("http://gateway/alarms")


def test_own_templates_and_their_faults() -> None:
    desk = Desk(title="{{ alarm.asset|upper }}\n!", body="{{ alarm.nothing.at_all }}")
    desk.take("active")
    message = desk.tell()[0]
    title, body = words(desk.config, message, "hall-3", "", english())
    assert title == "PUMP !"
    assert "medium priority" in body, "the default where the owner's own fails"
    evil = Desk(title="{{ ''.__class__.__mro__ }}")
    assert words(evil.config, message, "hall-3", "", english())[0] == "pump: too hot"
    with pytest.raises(ValidationError, match="line 1"):
        Desk(title="{{ alarm")


@pytest.mark.parametrize("data", [b"", b"[]", b'{"format":2}', b'{"format":1}'])
def test_a_damaged_outbox_is_refused(data: bytes) -> None:
    with pytest.raises(DataError):
        Desk().box.restore(data, mono_ns=0, wall_ns=0)
