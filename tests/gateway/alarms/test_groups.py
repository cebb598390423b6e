"""What is shown as one: floods by area, then what one cause raises in one machine."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gateway.alarms.groups import grouped
from gateway.core.alarm import AlarmGroup, AlarmView, Cause, Priority

MINUTE = 60 * 10**9
AREAS = {"press-1": "line 1", "press-2": "line 1", "lathe-1": "line 2"}


def view(asset: str, alarm: str, at_min: float = 0, cause: Cause = Cause.LIMIT) -> AlarmView:
    return AlarmView(
        asset=asset,
        alarm=alarm,
        cause=cause,
        state="active_unacked",
        life="active_unacked",
        occurrence=1,
        active_since_ns=10**18 + round(at_min * MINUTE),
        changed_ns=10**18,
        severity=1.0,
        priority=Priority.MEDIUM,
        text=alarm,
    )


def area_of(asset: str) -> str:
    return AREAS.get(asset, "")


def test_alone_they_stand_for_themselves() -> None:
    alarms = [view("press-1", "a"), view("press-2", "a"), view("lathe-1", "a")]
    assert grouped(alarms, area_of) == alarms


def test_one_cause_in_one_machine_is_one() -> None:
    alarms = [
        view("press-1", "t.high"),
        view("lathe-1", "anomaly", cause=Cause.ANOMALY),
        view("press-1", "p.high"),
        view("press-1", "anomaly", cause=Cause.ANOMALY),
    ]
    group, lathe, anomaly = grouped(alarms, area_of)
    assert isinstance(group, AlarmGroup)
    assert (group.flood, group.asset, group.cause) == (False, "press-1", Cause.LIMIT)
    assert group.alarms == (alarms[0], alarms[2])
    assert (lathe, anomaly) == (alarms[1], alarms[3])


def test_what_is_put_aside_is_in_no_group() -> None:
    shelved = replace(view("press-1", "a"), state="shelved")
    assert len(grouped([shelved, view("press-1", "b"), view("press-1", "c")], area_of)) == 2


def test_more_than_ten_in_ten_minutes_on_one_line_are_one_flood() -> None:
    line_1 = [view(f"press-{1 + n % 2}", f"a{n}", n * 0.9) for n in range(11)]
    other = [view("lathe-1", "a")]
    flood, lathe = grouped([*line_1, *other], area_of)
    assert isinstance(flood, AlarmGroup)
    assert (flood.flood, flood.area, len(flood.alarms)) == (True, "line 1", 11)
    assert flood.first == line_1[0]
    assert lathe == other[0]
    # Ten are none, and neither are eleven that take their time.
    assert not any(g.flood for g in grouped(line_1[:10], area_of) if isinstance(g, AlarmGroup))
    slow = [view("press-1", f"a{n}", n * 1.1) for n in range(11)]
    assert not any(g.flood for g in grouped(slow, area_of) if isinstance(g, AlarmGroup))


def test_the_gateways_own_alarms_are_no_flood_of_machines_without_an_area() -> None:
    links = [view("", f"link.{n}", cause=Cause.SYSTEM) for n in range(6)]
    nowhere = [view(f"m{n}", "a") for n in range(6)]
    assert grouped([*links, *nowhere], area_of) == [*links, *nowhere]


def test_two_floods_hours_apart_are_two() -> None:
    early = [view("press-1", f"a{n}") for n in range(12)]
    late = [view("press-1", f"b{n}", 300) for n in range(12)]
    floods = grouped([*early, *late], area_of)
    assert [len(g.alarms) for g in floods if isinstance(g, AlarmGroup)] == [12, 12]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*AREAS, ""]),
            st.integers(0, 60),
            st.sampled_from(["active_unacked", "shelved"]),
        ),
        max_size=60,
    )
)
def test_every_alarm_is_shown_once(rows: list[tuple[str, int, str]]) -> None:
    alarms = [
        replace(view(asset, f"a{n}", at), state=state) for n, (asset, at, state) in enumerate(rows)
    ]
    shown = grouped(alarms, area_of, flood_count=3)
    flat = [v for s in shown for v in (s.alarms if isinstance(s, AlarmGroup) else (s,))]
    assert sorted(v.alarm for v in flat) == sorted(v.alarm for v in alarms)
