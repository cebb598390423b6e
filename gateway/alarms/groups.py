"""Which alarms are shown as one: a flood of an area, else what one cause raises in one machine."""

from collections.abc import Callable, Iterable, Sequence

from gateway.alarms.states import Life
from gateway.core.alarm import AlarmGroup, AlarmView, Cause, Shown

SHOWN = frozenset({Life.ACTIVE_UNACKED, Life.ACTIVE_ACKED, Life.RETURNED_UNACKED})
"""What is put aside, or waits for a reset, stands for itself."""


def grouped(
    alarms: Sequence[AlarmView],
    area_of: Callable[[str], str],
    *,
    flood_count: int = 10,
    flood_s: float = 600.0,
) -> list[Shown]:
    """The alarms, in their order, with those that belong together in the place of their first.

    Args:
        alarms: As the engine gives them, most urgent first.
        area_of: The area of an asset; "" for none.
        flood_count: More than this many within `flood_s` in one area are a flood.
        flood_s: Span of a flood, s.
    """
    group_of: dict[int, AlarmGroup] = {}
    areas: dict[tuple[bool, str], list[int]] = {}
    for n, view in enumerate(alarms):
        if view.state in SHOWN and view.active_since_ns:
            areas.setdefault((not view.asset, area_of(view.asset)), []).append(n)
    for (_, area), members in areas.items():
        for run in _runs(members, alarms, flood_count, round(flood_s * 1e9)):
            flood = AlarmGroup(True, area, "", None, tuple(alarms[n] for n in run))
            group_of |= dict.fromkeys(run, flood)
    causes: dict[tuple[str, Cause], list[int]] = {}
    for n, view in enumerate(alarms):
        if n not in group_of and view.asset and view.state in SHOWN:
            causes.setdefault((view.asset, view.cause), []).append(n)
    for (asset, cause), members in causes.items():
        if len(members) > 1:
            mine = tuple(alarms[n] for n in members)
            group_of |= dict.fromkeys(
                members, AlarmGroup(False, area_of(asset), asset, cause, mine)
            )
    out: list[Shown] = []
    told: set[int] = set()
    for n, view in enumerate(alarms):
        group = group_of.get(n)
        if group is None:
            out.append(view)
        elif id(group) not in told:
            told.add(id(group))
            out.append(group)
    return out


def _runs(
    members: Iterable[int], alarms: Sequence[AlarmView], flood_count: int, flood_ns: int
) -> list[list[int]]:
    """Those that came so close to others that they are a flood; floods that touch are one."""
    order = sorted(members, key=lambda n: alarms[n].active_since_ns)
    times = [alarms[n].active_since_ns for n in order]
    runs: list[list[int]] = []
    last = -1
    for end in range(flood_count, len(order)):
        start = end - flood_count
        if times[end] - times[start] > flood_ns:
            continue
        if start > last:
            runs.append([])
        runs[-1] += order[max(start, last + 1) : end + 1]
        last = end
    return runs
