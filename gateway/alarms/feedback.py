"""What people said of alarms, as spans of time: what the next training may call healthy."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.core.alarm import Cause, Transition, Verdict

LEAD_NS = 60 * 10**9
"""A machine was not healthy up to the moment of its alarm; so much before it counts as well."""
OF_THE_MACHINE = frozenset({Cause.ANOMALY, Cause.FAILURE, Cause.LIMIT, Cause.RUL})


@dataclass(frozen=True, slots=True)
class Episode:
    """One alarm from its coming to its going.

    Attributes:
        asset, alarm, cause, occurrence: Which.
        start_ns, end_ns: UTC ns; `end_ns` is None while it lasts.
        verdict: What an engineer said last; None while nobody has.
        note: The words to it.
    """

    asset: str
    alarm: str
    cause: Cause
    occurrence: int
    start_ns: int
    end_ns: int | None = None
    verdict: Verdict | None = None
    note: str = ""


def episodes(transitions: Iterable[Transition]) -> list[Episode]:
    """Every episode that the transitions speak of, by its begin. They come in the log's order."""
    begun: dict[tuple[str, str, int], Transition] = {}
    ended: dict[tuple[str, str, int], int] = {}
    judged: dict[tuple[str, str, int], tuple[Verdict, str]] = {}
    for t in transitions:
        key = (t.asset, t.alarm, t.occurrence)
        if t.event == "active":
            begun[key] = t
        elif t.event.startswith("gone"):
            ended.setdefault(key, t.t_ns)
        elif t.event.startswith("feedback."):
            judged[key] = (Verdict(t.event.removeprefix("feedback.")), t.note)
    out = [
        Episode(*key[:2], t.cause, key[2], t.t_ns, ended.get(key), *judged.get(key, (None, "")))
        for key, t in begun.items()
    ]
    return sorted(out, key=lambda e: e.start_ns)


def unhealthy(all_: Sequence[Episode], asset: str, t_ns: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which moments lie in an alarm of the asset that nobody called false or known.

    Args:
        all_: Every episode.
        asset: The machine.
        t_ns: int64[n], UTC ns.

    Returns:
        bool[n]. What was judged false or known is healthy running, and so is what alarms of the
        gateway itself or of data quality say nothing about.
    """
    out = np.zeros(len(t_ns), dtype=bool)
    for e in all_:
        trusted = e.verdict in (Verdict.FALSE, Verdict.KNOWN)
        if e.asset == asset and e.cause in OF_THE_MACHINE and not trusted:
            ended = np.iinfo(np.int64).max if e.end_ns is None else e.end_ns
            out |= (t_ns >= e.start_ns - LEAD_NS) & (t_ns <= ended)
    return out
