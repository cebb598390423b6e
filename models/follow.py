"""Follows slow healthy change within bounds: moves what a model compares with, never the model.

A season, a new supplier or an ageing sensor moves levels by a little a week. For each signal of
each machine an offset follows the side on which the signal steadily lies, at a fixed slow pace,
and only up to a fixed room. It is taken off the levels before the model sees them; the graph, its
limit and its bundle stay as they were trained. Whatever looks like a fault holds it still.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.features.bends import BENDS, SHARES
from models.features.earlier import EARLIER
from models.manifest import Manifest

WEEK_S = 7 * 86_400.0
PACE_A_WEEK = 0.25
"""Healthy spreads a week that an offset may move: wear of weeks outruns it, a season does not."""
SPREADS_MAX = 2.0
"""Healthy spreads that one signal may be followed in all."""
ROOM = 1 / 3
"""Share of the limit that all offsets together may be worth, by the model's own norm. So what would
have scored more than 4/3 of the limit without following is an alarm with it."""
CALM = 0.7
"""Severity above which a window teaches nothing."""
STEP_S = 6 * 3600.0
"""One step a quarter of a day, at the same hours everywhere, so that a replay makes the same."""
STEPS_A_DAY = 4
STEADY = 0.5
"""How much more often than not a signal must lie on one side, over a day, to be followed."""
SPOKEN_MIN = 0.1
"""Share of a step's windows in which a signal must lie on either side for that to mean anything."""
QUIET_S = 86_400.0
"""So long after a window above the limit nothing is followed."""
RISE = 1.2
RISE_MIN = 0.03
"""The day's severity over the fortnight's, and the least difference, that count as rising."""
TOGETHER_MIN, TOGETHER_SHARE = 3, 1 / 3
"""So many signals, and so large a share of them, that go at once are a fault until proven else."""
LEVELS = ("mean", "recent_mean")
"""Features that tell where a signal lies."""
MOVED = dict.fromkeys((*LEVELS, *EARLIER), 1.0) | {
    kind: 1.0 - SHARES[which] for kind, (which, _) in BENDS.items()
}
"""By how much an offset of its signal moves a feature: what lies above a level by the share of the
samples that do. Spreads are never followed: they do not drift."""

Floats = NDArray[np.float64]


class Held(StrEnum):
    """Why an asset is not followed at present."""

    NO = ""
    ALARM = "an alarm stands, or stood within a day"
    RISING = "its severity rises"
    TOGETHER = "several signals move at once"
    FULL = "it has moved as far as may be followed"


@dataclass(frozen=True, slots=True, eq=False)
class Bounds:
    """What training measured, for `k` signals.

    Attributes:
        signals: The names.
        units: Their units.
        spread: float64[k], in the signal's unit: one healthy standard deviation of its level given
            all the others, wider where the record held few independent windows. Infinite where a
            signal cannot be followed.
        features: int64[m], which of the `d` features an offset moves.
        owner: int64[m], the signal of each of these.
        share: float64[m], by how much of the offset it moves each.
        norm: How many features the model's norm is over.
        limit: Of the score.
    """

    signals: tuple[str, ...]
    units: tuple[str, ...]
    spread: Floats
    features: NDArray[np.int64]
    owner: NDArray[np.int64]
    share: Floats
    norm: int
    limit: float

    @classmethod
    def of(cls, manifest: Manifest) -> "Bounds | None":
        """From a bundle; None where its training measured nothing to follow by."""
        held = manifest.detail.get("follow")
        if not isinstance(held, dict) or manifest.limit is None:
            return None
        names = tuple(signal.name for signal in manifest.signals)
        at = {name: i for i, name in enumerate(names)}
        moved = [
            (i, at[signal], MOVED[kind])
            for i, (signal, _, kind) in enumerate(f.rpartition(":") for f in manifest.features)
            if kind in MOVED and signal in at
        ]
        if not moved:
            return None
        spread = held["spread"]
        return cls(
            signals=names,
            units=tuple(signal.unit for signal in manifest.signals),
            spread=np.array([float(spread.get(name) or np.inf) for name in names]),
            features=np.array([i for i, _, _ in moved], np.int64),
            owner=np.array([owner for _, owner, _ in moved], np.int64),
            share=np.array([share for _, _, share in moved]),
            norm=int(held["norm"]),
            limit=manifest.limit.value,
        )

    @property
    def room(self) -> float:
        """What the fourth powers of all offsets, in spreads, may add up to."""
        return self.norm * (ROOM * self.limit) ** 4


@dataclass(frozen=True, slots=True)
class Step:
    """One step of one asset.

    Attributes:
        row: Which asset.
        moved: Signal -> its offset now, of those that moved.
        held: Why it was held still.
    """

    row: int
    moved: Mapping[str, float]
    held: Held


class Follow:
    """The offsets of `a` assets that share one bundle.

    Attributes:
        bounds: As measured in training.
        offset: float64[a, k], in the signals' units.
        held: Why each asset is not followed at present.
    """

    def __init__(self, bounds: Bounds, assets: int) -> None:
        k = len(bounds.signals)
        self.bounds = bounds
        self.offset = np.zeros((assets, k))
        self.held = [Held.NO] * assets
        self._lean = np.zeros((assets, k))
        self._up, self._down = np.zeros((assets, k)), np.zeros((assets, k))
        self._seen, self._calm = np.zeros(assets), np.zeros(assets)
        self._severity = np.zeros(assets)
        self._day, self._fortnight = np.full(assets, np.nan), np.full(assets, np.nan)
        self._turn = np.full(assets, -1, np.int64)
        self._above_ns = np.full(assets, np.iinfo(np.int64).min // 2)

    def corrected(
        self, rows: NDArray[np.int64], features: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """What the model is to see of windows: their features without what was followed.

        Args:
            rows: int64[n], the asset of each.
            features: float32[n, d], as measured.
        """
        if not self.offset.any():
            return features
        out = features.copy()
        bounds = self.bounds
        moved = self.offset[rows][:, bounds.owner] * bounds.share
        out[:, bounds.features] -= moved.astype(np.float32)
        return out

    def saw(
        self,
        rows: NDArray[np.int64],
        t_ns: NDArray[np.int64],
        severity: NDArray[np.float32],
        direction: NDArray[np.int8],
        *,
        alarmed: NDArray[np.bool_] | None = None,
    ) -> list[Step]:
        """Take verdicts, oldest first; the steps that fell due before them.

        Args:
            rows: int64[n], the asset of each, all different; a lone asset may recur within one
                `turn_of`, as in a replay.
            t_ns: int64[n], UTC ns.
            severity: float32[n]; NaN where abstained, which says nothing.
            direction: int8[n, k], +1 higher than expected, -1 lower, 0 neither.
            alarmed: bool[n], an alarm of any kind stands on the machine.
        """
        turn = turn_of(t_ns)
        steps = []
        for row in np.unique(rows[turn != self._turn[rows]]).tolist():
            if self._turn[row] >= 0 and self._seen[row]:
                steps.append(self._step(row))
            self._turn[row] = int(turn[rows == row].max())
            for sums in (self._up, self._down, self._seen, self._calm, self._severity):
                sums[row] = 0
        known = np.isfinite(severity)
        above = known & (severity > 1)
        if alarmed is not None:
            above |= alarmed
        self._above_ns[rows[above]] = np.maximum(self._above_ns[rows[above]], t_ns[above])
        calm = known & (severity <= CALM)
        self._add(self._seen, rows, known)
        self._add(self._severity, rows, np.where(known, severity, 0.0))
        self._add(self._calm, rows, calm)
        self._add(self._up, rows, (direction > 0) & calm[:, None])
        self._add(self._down, rows, (direction < 0) & calm[:, None])
        return steps

    def _add(self, sums: Floats, rows: NDArray[np.int64], part: NDArray[Any]) -> None:
        if len(sums) == 1:
            sums[0] += part.sum(axis=0)
        else:
            sums[rows] += part

    def _step(self, row: int) -> Step:
        """End a quarter of a day: note where each signal lay, and move what may move."""
        bounds = self.bounds
        spoken = self._up[row] + self._down[row]
        says = spoken >= max(1.0, SPOKEN_MIN * self._calm[row])
        side = np.where(says, (self._up[row] - self._down[row]) / np.maximum(spoken, 1), 0.0)
        self._lean[row] += (side - self._lean[row]) / STEPS_A_DAY
        severity = self._severity[row] / self._seen[row]
        if np.isnan(self._day[row]):
            self._day[row] = self._fortnight[row] = severity
        self._day[row] += (severity - self._day[row]) / STEPS_A_DAY
        self._fortnight[row] += (severity - self._fortnight[row]) / (14 * STEPS_A_DAY)
        steady = (np.abs(self._lean[row]) >= STEADY) & says & np.isfinite(bounds.spread)
        held = self._why_not(row, int(steady.sum()))
        before = self.offset[row].copy()
        if held is Held.NO and steady.any():
            step = PACE_A_WEEK * STEP_S / WEEK_S * bounds.spread[steady]
            self.offset[row, steady] += np.sign(self._lean[row, steady]) * step
            if not self._fits(row, before):
                held = Held.FULL
                # Back towards the baseline is always allowed.
                outward = np.abs(self.offset[row]) > np.abs(before)
                self.offset[row, outward] = before[outward]
        self.held[row] = held
        moved = np.flatnonzero(self.offset[row] != before).tolist()
        return Step(row, {bounds.signals[i]: float(self.offset[row, i]) for i in moved}, held)

    def _why_not(self, row: int, steady: int) -> Held:
        turn_ns = int(self._turn[row]) * round(STEP_S * 1e9)
        if self._above_ns[row] >= turn_ns - round(QUIET_S * 1e9):
            return Held.ALARM
        rise = self._day[row] - self._fortnight[row]
        if rise > max((RISE - 1) * self._fortnight[row], RISE_MIN):
            return Held.RISING
        if steady >= TOGETHER_MIN and steady > TOGETHER_SHARE * len(self.bounds.signals):
            return Held.TOGETHER
        return Held.NO

    def _fits(self, row: int, before: Floats) -> bool:
        """Whether the offsets of an asset keep within the room, or at least leave it no further."""
        spreads = np.abs(self.offset[row]) / self.bounds.spread
        if float(spreads.max()) > SPREADS_MAX:
            return False
        worth = float((spreads**4).sum())
        return worth <= max(self.bounds.room, float(((before / self.bounds.spread) ** 4).sum()))

    def followed(self, row: int) -> tuple[tuple[str, str, float], ...]:
        """What is followed of one asset: signal, offset with its unit, and the same in spreads."""
        bounds = self.bounds
        out = []
        for i in np.flatnonzero(self.offset[row]).tolist():
            unit = f" {bounds.units[i]}" if bounds.units[i] else ""
            spreads = float(abs(self.offset[row, i]) / bounds.spread[i])
            out.append((bounds.signals[i], f"{self.offset[row, i]:+.2g}{unit}", spreads))
        return tuple(out)

    def pack(self, row: int) -> bytes:
        """One asset's state, for a restart."""
        return json.dumps(
            {
                "signals": self.bounds.signals,
                "offset": self.offset[row].tolist(),
                "lean": self._lean[row].tolist(),
                "day": _number(self._day[row]),
                "fortnight": _number(self._fortnight[row]),
                "above_ns": int(self._above_ns[row]),
                "held": self.held[row],
            }
        ).encode()

    def unpack(self, row: int, data: bytes) -> None:
        """Take up what `pack` gave, signal by signal; what does not fit is not followed.

        Raises:
            ValueError, KeyError, TypeError: The bytes are not that.
        """
        held: dict[str, Any] = json.loads(data)
        known = dict(
            zip(held["signals"], zip(held["offset"], held["lean"], strict=True), strict=True)
        )
        pairs = [known.get(name, (0.0, 0.0)) for name in self.bounds.signals]
        state = np.array(pairs, np.float64)
        if not np.isfinite(state).all():
            raise ValueError("offsets must be finite")
        most = SPREADS_MAX * np.where(np.isfinite(self.bounds.spread), self.bounds.spread, 0)
        self._day[row] = _float(held["day"])
        self._fortnight[row] = _float(held["fortnight"])
        self._above_ns[row] = int(held["above_ns"])
        self.held[row] = Held(held["held"])
        self.offset[row], self._lean[row] = np.clip(state[:, 0], -most, most), state[:, 1]


def turn_of(t_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64[n], the quarter of a day of each moment."""
    return t_ns // round(STEP_S * 1e9)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _float(value: float | None) -> float:
    return float("nan") if value is None else float(value)
