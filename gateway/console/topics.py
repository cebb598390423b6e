"""What each live page shows now, as fragments; taken from memory, rendered later."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from gateway.console.live import Fragment, Snapshot
from gateway.console.plant import Plant
from gateway.console.render import Pages
from gateway.console.views import AssetState, AssetView
from gateway.core.alarm import AlarmGroup, AlarmView, Priority, Shown
from gateway.core.meter import LinkState, SourceMeter

UNACKED = frozenset({"active_unacked", "returned_unacked", "latched_unacked"})
ROWS_MAX = 500
"""Alarms shown at once; the most urgent come first."""

EVENTS_SHOWN = 12
"""Of one machine, the newest."""

Floods = tuple[tuple[str, int], ...]
"""Area and size of each flood."""
Summary = tuple[int, int, int, int, int, int, Floods, int]


def badges(alarms: Sequence[AlarmView]) -> tuple[int, int, int]:
    """Unacknowledged alarms of high, medium and low priority."""
    waiting = [v.priority for v in alarms if v.state in UNACKED]
    return (
        waiting.count(Priority.HIGH),
        waiting.count(Priority.MEDIUM),
        waiting.count(Priority.LOW),
    )


def summary(assets: Sequence[AssetView], shown: Sequence[Shown]) -> Summary:
    """(machines, needing attention, unacknowledged alarms, without data, in part, learning,
    floods, healthy as far as limits without a model can tell)."""
    states = [v.state for v in assets]
    return (
        len(assets),
        states.count(AssetState.ALARM) + states.count(AssetState.ACKED),
        sum(v.state in UNACKED for s in shown for v in members(s)),
        states.count(AssetState.NO_DATA),
        states.count(AssetState.PARTIAL),
        states.count(AssetState.LEARNING),
        tuple((s.area, len(s.alarms)) for s in shown if isinstance(s, AlarmGroup) and s.flood),
        sum(v.state is AssetState.OK and not v.bundle for v in assets),
    )


def members(shown: Shown) -> Sequence[AlarmView]:
    """The alarms behind what is shown as one."""
    return shown.alarms if isinstance(shown, AlarmGroup) else (shown,)


def key_of(shown: Shown) -> str:
    """Names what is shown, as long as it is shown. No machine's name holds a slash."""
    if isinstance(shown, AlarmView):
        return f"alarm:{shown.asset}/{shown.alarm}"
    if shown.flood:
        return f"alarm://{'gateway' if not shown.first.asset else 'flood'}/{shown.area}"
    return f"alarm://{shown.asset}/{shown.cause}"


def first_of_several(shown: Sequence[Shown]) -> list[Shown]:
    """The same, where "came first" stands only in machines that have more than one alarm."""
    counts = Counter(v.asset for s in shown for v in members(s))

    def marked(view: AlarmView) -> AlarmView:
        return replace(view, first_out=view.first_out and counts[view.asset] > 1)

    return [
        replace(s, alarms=tuple(map(marked, s.alarms))) if isinstance(s, AlarmGroup) else marked(s)
        for s in shown
    ]


def pulse(sources: Sequence[SourceMeter]) -> tuple[int, int, int, tuple[str, ...]]:
    """(sources, connected, samples lost, the first few that are not connected)."""
    away = [m.source for m in sources if m.state is not LinkState.UP]
    lost = sum(m.samples_lost for m in sources)
    return len(sources), len(sources) - len(away), lost, tuple(away[:3])


class Topics:
    """Finds the snapshot of a topic: `plant`, `alarms`, `sources`, `banner`, `asset:ID`."""

    def __init__(self, plant: Plant, pages: Pages) -> None:
        self._plant = plant
        self._part: Callable[[str], Callable[..., str]] = pages.part
        self._rates: dict[str, tuple[float, int, float | None]] = {}

    def find(self, topic: str) -> Snapshot | None:
        """The snapshot of a topic; None for one that there is not."""
        if topic.startswith("asset:"):
            asset = topic.removeprefix("asset:")
            return partial(self._asset, asset) if self._plant.asset(asset) is not None else None
        fixed: dict[str, Snapshot] = {
            "plant": self._overview,
            "alarms": self._alarms,
            "sources": self._sources,
            "banner": lambda: [self._banner(self._plant.alarms())],
        }
        return fixed.get(topic)

    def _banner(self, alarms: Sequence[AlarmView]) -> Fragment:
        counts = badges(alarms)
        return Fragment("banner", counts, lambda: self._part("banner")(*counts))

    def _summary(self, shown: Sequence[Shown]) -> Fragment:
        figures = summary(self._plant.assets(), shown)
        return Fragment("summary", figures, lambda: self._part("summary")(*figures))

    def _overview(self) -> list[Fragment]:
        alarms = self._plant.alarms()
        fragments = [self._banner(alarms), self._summary(self._plant.shown()), self._pulse()]
        fragments += [
            # The age of the last sample alone is no reason to draw a tile anew each second.
            Fragment(
                f"tile:{v.id}",
                replace(v, last_sample_ns=v.last_sample_ns // (5 * 10**9)),
                partial(self._part("tile"), v),
            )
            for v in self._plant.assets()
        ]
        return fragments

    def _pulse(self) -> Fragment:
        beat = pulse(self._plant.sources())
        return Fragment("pulse", beat, lambda: self._part("pulse")(*beat))

    def _rows(self, shown: Sequence[Shown], *, link: bool) -> list[Fragment]:
        row = self._part("shown")
        return [
            Fragment(key_of(s), s, partial(row, s, key_of(s), link))
            for s in first_of_several(shown)[:ROWS_MAX]
        ]

    def _alarms(self) -> list[Fragment]:
        shown = self._plant.shown()
        banner = self._banner(self._plant.alarms())
        return [banner, self._summary(shown), *self._rows(shown, link=True)]

    def _asset(self, asset: str) -> list[Fragment] | None:
        detail = self._plant.asset(asset)
        if detail is None:
            return None
        alarms = self._plant.alarms()
        events = tuple(self._plant.events(asset, EVENTS_SHOWN, taken_back=True))
        view = replace(detail.view, last_sample_ns=0, trend=())
        model = (view.bundle, view.shadow, view.learning, view.learning_text, view.coverage)
        return [
            self._banner(alarms),
            Fragment("head", view, partial(self._part("asset_head"), detail.view)),
            Fragment(
                "why",
                (view.drivers, detail.context),
                partial(self._part("asset_why"), detail),
            ),
            Fragment(
                "model",
                (
                    *model,
                    tuple(detail.failures.items()),
                    detail.rul,
                    detail.learning,
                    detail.context,
                ),
                partial(self._part("asset_model"), detail),
            ),
            Fragment("events", events, partial(self._part("asset_events"), events)),
            Fragment(
                "values",
                (detail.signals, view.unseen),
                partial(self._part("asset_values"), detail.signals, view.unseen),
            ),
            *self._rows([v for v in alarms if v.asset == asset], link=False),
        ]

    def _sources(self) -> list[Fragment]:
        out = [self._banner(self._plant.alarms())]
        for meter in self._plant.sources():
            rate = self._rate(meter.source, meter.samples)
            # Meters are counters in place: what is shown is copied, so that a change is seen.
            shown = replace(meter, errors=meter.errors.copy(), quarantined=dict(meter.quarantined))
            figures = repr((shown, rate))
            out.append(
                Fragment(
                    f"source:{meter.source}", figures, partial(self._part("source"), shown, rate)
                )
            )
        return out

    def _rate(self, source: str, samples: int) -> float | None:
        """Samples a second since the last look, over at least two seconds."""
        now_s = time.monotonic()
        then_s, before, rate = self._rates.get(source, (0.0, 0, None))
        if then_s == 0.0:
            self._rates[source] = (now_s, samples, None)
        elif now_s - then_s >= 2:
            rate = (samples - before) / (now_s - then_s)
            self._rates[source] = (now_s, samples, rate)
        return rate
