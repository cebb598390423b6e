"""What each live page shows now, as fragments; taken from memory, rendered later."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from gateway.console.live import Fragment, Snapshot
from gateway.console.plant import AssetState, AssetView, Plant
from gateway.console.render import Pages
from gateway.core.alarm import AlarmView, Priority

UNACKED = frozenset({"active_unacked", "returned_unacked", "latched_unacked"})
FLOOD_COUNT = 10
FLOOD_NS = 600 * 10**9
ROWS_MAX = 500
"""Alarms shown at once; the most urgent come first."""

Summary = tuple[int, int, int, int, int, int, int]


def badges(alarms: Sequence[AlarmView]) -> tuple[int, int, int]:
    """Unacknowledged alarms of high, medium and low priority."""
    waiting = [v.priority for v in alarms if v.state in UNACKED]
    return (
        waiting.count(Priority.HIGH),
        waiting.count(Priority.MEDIUM),
        waiting.count(Priority.LOW),
    )


def summary(assets: Sequence[AssetView], alarms: Sequence[AlarmView], now_ns: int) -> Summary:
    """(machines, needing attention, unacknowledged alarms, without data, learning,
    flood size, healthy as far as limits without a model can tell)."""
    states = [v.state for v in assets]
    fresh = sum(
        1 for v in alarms if v.active_since_ns and 0 <= now_ns - v.active_since_ns < FLOOD_NS
    )
    return (
        len(assets),
        states.count(AssetState.ALARM) + states.count(AssetState.ACKED),
        sum(v.state in UNACKED for v in alarms),
        states.count(AssetState.NO_DATA),
        states.count(AssetState.LEARNING),
        fresh if fresh > FLOOD_COUNT else 0,
        sum(v.state is AssetState.OK and not v.bundle for v in assets),
    )


def first_of_several(alarms: Sequence[AlarmView]) -> Sequence[AlarmView]:
    """The alarms, where "came first" stands only in machines that have more than one."""
    counts = Counter(v.asset for v in alarms)
    return [replace(v, first_out=v.first_out and counts[v.asset] > 1) for v in alarms]


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

    def _summary(self, alarms: Sequence[AlarmView]) -> Fragment:
        figures = summary(self._plant.assets(), alarms, time.time_ns())
        return Fragment("summary", figures, lambda: self._part("summary")(*figures))

    def _overview(self) -> list[Fragment]:
        alarms = self._plant.alarms()
        fragments = [self._banner(alarms), self._summary(alarms)]
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

    def _rows(self, alarms: Sequence[AlarmView], *, link: bool) -> list[Fragment]:
        row = self._part("alarm")
        alarms = first_of_several(alarms)
        return [
            Fragment(f"alarm:{v.asset}/{v.alarm}", v, partial(row, v, link))
            for v in alarms[:ROWS_MAX]
        ]

    def _alarms(self) -> list[Fragment]:
        alarms = self._plant.alarms()
        return [self._banner(alarms), self._summary(alarms), *self._rows(alarms, link=True)]

    def _asset(self, asset: str) -> list[Fragment] | None:
        detail = self._plant.asset(asset)
        if detail is None:
            return None
        alarms = self._plant.alarms()
        view = replace(detail.view, last_sample_ns=0, trend=())
        model = (view.bundle, view.shadow, view.learning, view.learning_text, view.coverage)
        return [
            self._banner(alarms),
            Fragment("head", view, partial(self._part("asset_head"), detail.view)),
            Fragment("why", view.drivers, partial(self._part("asset_why"), detail.view)),
            Fragment(
                "model",
                (*model, tuple(detail.failures.items()), detail.rul),
                partial(self._part("asset_model"), detail),
            ),
            Fragment("values", detail.signals, partial(self._part("asset_values"), detail.signals)),
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
