"""How well the alarms serve, from their transitions alone: ISA-18.2 and EEMUA 191, and floods."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from gateway.alarms.states import Life
from gateway.core.alarm import AlarmKpis, AlarmView, Priority, Transition, Verdict

WINDOW_NS = 600 * 10**9
"""Both standards count in 10 minutes."""
FLOOD_COUNT = 10
"""More new alarms than this in 10 minutes are a flood, by both."""
LISTED_MAX = 50


def calls_people(transition: Transition) -> bool:
    """Whether this is an alarm that somebody is called for: new, worse, or called again."""
    return transition.state == Life.ACTIVE_UNACKED and transition.event in (
        "active",
        "worse",
        "realarm",
    )


def kpis(
    transitions: Iterable[Transition],
    now: Sequence[AlarmView],
    *,
    start_ns: int,
    end_ns: int,
    chattering_count: int = 3,
    chattering_s: float = 60.0,
) -> AlarmKpis:
    """The figures of the time from `start_ns` to `end_ns` (UTC ns).

    Args:
        transitions: Those of that time, in any order; others are left out.
        now: Every alarm that is not normal at its end.
        start_ns, end_ns: The time; `end_ns` is above `start_ns`.
        chattering_count, chattering_s: So many activations within so long are chattering.

    Source:
        ANSI/ISA-18.2 (monitoring and assessment) and EEMUA 191 for the measures and their targets.
    """
    assert end_ns > start_ns
    inside = sorted(
        (t for t in transitions if start_ns <= t.t_ns < end_ns),
        key=lambda t: (t.t_ns, t.occurrence),
    )
    called = [t for t in inside if calls_people(t)]
    times = np.array([t.t_ns for t in called], dtype=np.int64)
    priorities = Counter(t.priority for t in called)
    verdicts = {
        (t.asset, t.alarm, t.occurrence): t.event.removeprefix("feedback.")
        for t in inside
        if t.event.startswith("feedback.")
    }
    judged = Counter(verdicts.values())
    acked_s = _times_to_ack(inside)
    span_s = (end_ns - start_ns) / 1e9
    n = len(called)
    chatterers = _chatterers(inside, chattering_count, chattering_s)
    stale = sorted((v for v in now if v.stale), key=lambda v: v.active_since_ns)
    top = Counter((t.asset, t.alarm) for t in called).most_common(10)
    return AlarmKpis(
        span_s=span_s,
        annunciated=n,
        per_hour=n / (span_s / 3600),
        peak_10min=int(_in_window(times).max(initial=0)),
        flood_share=_flood_share(times, start_ns=start_ns, end_ns=end_ns),
        priorities=(
            priorities[Priority.LOW] / n if n else 0.0,
            priorities[Priority.MEDIUM] / n if n else 0.0,
            priorities[Priority.HIGH] / n if n else 0.0,
        ),
        standing=sum(v.life in (Life.ACTIVE_UNACKED, Life.ACTIVE_ACKED) for v in now),
        stale=sum(v.stale for v in now),
        chattering=len(chatterers),
        shelved=sum(v.state == "shelved" for v in now),
        suppressed=sum(v.state in ("suppressed", "out_of_service") for v in now),
        acked_s_median=float(np.median(acked_s)) if acked_s else float("nan"),
        judged_real=judged[Verdict.REAL],
        judged_false=judged[Verdict.FALSE],
        judged_known=judged[Verdict.KNOWN],
        top=tuple((asset, alarm, times_) for (asset, alarm), times_ in top),
        top_share=sum(times_ for _, times_ in top) / n if n else 0.0,
        chatterers=chatterers[:LISTED_MAX],
        stalest=tuple((v.asset, v.alarm, v.active_since_ns) for v in stale[:LISTED_MAX]),
    )


def _chatterers(
    transitions: Sequence[Transition], count: int, span_s: float
) -> tuple[tuple[str, str, int], ...]:
    """(asset, alarm, activations) of those that came so often within the span, worst first."""
    times: dict[tuple[str, str], list[int]] = {}
    for t in transitions:
        if t.event == "active":
            times.setdefault((t.asset, t.alarm), []).append(t.t_ns)
    found = [
        (*key, len(at))
        for key, at in times.items()
        if any(b - a <= span_s * 1e9 for a, b in zip(at, at[count - 1 :], strict=False))
    ]
    return tuple(sorted(found, key=lambda row: -row[2]))


def _in_window(times: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of the sorted times lie in the 10 minutes that end with each."""
    first = np.searchsorted(times, times - WINDOW_NS, side="right")
    return np.arange(1, len(times) + 1) - first


def _flood_share(times: NDArray[np.int64], *, start_ns: int, end_ns: int) -> float:
    """Share of the time, 0 to 1, in 10-minute slots that hold more than `FLOOD_COUNT` alarms.

    Slots are counted from `start_ns`; the last one may be short, and weighs what it lasts.
    """
    if not len(times):
        return 0.0
    slot = (times - start_ns) // WINDOW_NS
    counts = np.bincount(slot.astype(np.int64))
    flooded = np.flatnonzero(counts > FLOOD_COUNT)
    begin = start_ns + flooded * WINDOW_NS
    lasted = np.minimum(begin + WINDOW_NS, end_ns) - begin
    return float(lasted.sum() / (end_ns - start_ns))


def _times_to_ack(transitions: Sequence[Transition]) -> list[float]:
    called: dict[tuple[str, str, int], int] = {}
    waits: list[float] = []
    for t in transitions:
        episode = (t.asset, t.alarm, t.occurrence)
        if calls_people(t):
            called.setdefault(episode, t.t_ns)
        elif t.event == "ack" and episode in called:
            waits.append((t.t_ns - called.pop(episode)) / 1e9)
    return waits
