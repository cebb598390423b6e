"""Static limits, evaluated over whole batches at once; no model, no Python object per sample."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gateway.alarms.config import LimitConfig
from gateway.core.alarm import Cause, Condition, Contribution, Priority
from gateway.core.batch import Batch
from gateway.core.signals import SignalTable
from gateway.core.texts import Phrase

LEVELS = ("high_high", "high", "low_low", "low")
"""Outer limits first, so that they are reported before those that they make pointless."""
_SIGN = np.array([1.0, 1.0, -1.0, -1.0])
REFRESH = 0.05
"""A condition that holds is reported again when its severity has moved by this share."""
_UNSEEN, _CLEAR, _HOLDS, _UNKNOWN = np.int8(-2), np.int8(0), np.int8(1), np.int8(-1)


class Limits:
    """The limits of all signals, `s` of them with `LEVELS` each.

    A level holds from the first sample beyond it until one is back by more than the deadband. A
    signal that turns BAD makes its levels unknown, which neither raises nor clears an alarm.
    """

    def __init__(self, limits: Sequence[tuple[str, LimitConfig]], signals: SignalTable) -> None:
        self._configs = [config for _, config in limits]
        self._names = [(asset, config.signal) for asset, config in limits]
        self._signals = signals
        self._slot_of = {name: slot for slot, name in enumerate(self._names)}
        assert len(self._slot_of) == len(limits), "LimitList refuses a signal listed twice"
        self._threshold = np.array(
            [
                [np.nan if (v := getattr(c, k)) is None else v for k in LEVELS]
                for c in self._configs
            ],
            dtype=np.float64,
        ).reshape(-1, 4)
        self._threshold *= _SIGN
        self._deadband = np.array([c.deadband for c in self._configs], dtype=np.float64)
        self._state = np.full((len(self._configs), 4), _UNSEEN, dtype=np.int8)
        self._reported = np.zeros((len(self._configs), 4))
        self._slots: NDArray[np.int32] = np.zeros(0, dtype=np.int32)
        self._units = [""] * len(self._configs)

    @property
    def alarms(self) -> set[tuple[str, str]]:
        """Asset and alarm of every limit that is set."""
        return {
            (asset, f"{config.signal}.{level}")
            for (asset, _), config in zip(self._names, self._configs, strict=True)
            for level in LEVELS
            if getattr(config, level) is not None
        }

    def update(self, batch: Batch) -> list[Condition]:
        """What has changed with this batch. A signal's first sample reports all of its levels.

        Samples from the past (`history`) are left out: they alarm nobody.
        """
        if not self._configs or batch.history or not len(batch):
            return []
        if len(self._slots) < len(self._signals):
            self._map_signals()
        slot = self._slots[batch.signal]
        mine = np.flatnonzero(slot >= 0)
        if not len(mine):
            return []
        order = mine[np.argsort(slot[mine], kind="stable")]
        slot, value, t_ns = slot[order], batch.value[order], batch.t_ns[order]
        start = np.flatnonzero(np.r_[True, slot[1:] != slot[:-1]])
        last = np.r_[start[1:], len(slot)] - 1
        return self._evaluate(
            slot[start],
            np.fmax.reduceat(value, start),
            np.fmin.reduceat(value, start),
            value[last],
            t_ns[last],
        )

    def _evaluate(
        self,
        slot: NDArray[np.int32],
        top: NDArray[np.float64],
        bottom: NDArray[np.float64],
        last: NDArray[np.float64],
        t_ns: NDArray[np.int64],
    ) -> list[Condition]:
        threshold = self._threshold[slot]
        state = self._state[slot]
        now = last[:, None] * _SIGN
        extreme = np.stack([top, top, -bottom, -bottom], axis=1)
        back = threshold - self._deadband[slot][:, None]
        bad = np.isnan(now)
        held = state == _HOLDS
        with np.errstate(invalid="ignore"):
            holds = np.where(held, now >= back, now > threshold)
            crossed = (extreme > threshold) & ~held
        new = np.where(bad, _UNKNOWN, np.where(holds, _HOLDS, _CLEAR))
        has = ~np.isnan(threshold)
        severity = severities(now, threshold)
        with np.errstate(invalid="ignore"):
            moved = np.abs(severity - self._reported[slot]) > REFRESH * self._reported[slot]
        blip = crossed & (new != _HOLDS)
        changed = has & ((new != state) | blip | ((new == _HOLDS) & moved))
        self._state[slot] = np.where(has, new, state)
        out: list[Condition] = []
        for row, level in zip(*(a.tolist() for a in np.nonzero(changed)), strict=True):
            s = int(slot[row])
            at = int(t_ns[row])
            if blip[row, level]:
                # It went beyond and came back within one batch: both are told, in order.
                peak = float(extreme[row, level] * _SIGN[level])
                beyond = float(
                    severities(extreme[row : row + 1, level], threshold[row : row + 1, level])[0]
                )
                out.append(self._condition(s, level, _HOLDS, peak, beyond, at))
            verdict = new[row, level]
            amount = float(severity[row, level])
            self._reported[s, level] = amount if verdict == _HOLDS else 0.0
            out.append(self._condition(s, level, verdict, float(last[row]), amount, at))
        return out

    def _condition(
        self, slot: int, level: int, verdict: np.int8, value: float, severity: float, t_ns: int
    ) -> Condition:
        asset, signal = self._names[slot]
        config = self._configs[slot]
        name = LEVELS[level]
        common = {
            "asset": asset,
            "alarm": f"{signal}.{name}",
            "cause": Cause.LIMIT,
            "t_ns": t_ns,
            "on_delay_s": config.on_delay_s,
            "off_delay_s": config.off_delay_s,
            "latched": config.latched,
        }
        if verdict != _HOLDS:
            return Condition(active=False if verdict == _CLEAR else None, severity=0.0, **common)  # type: ignore[arg-type]
        unit = self._units[slot]
        limit = float(self._threshold[slot, level] * _SIGN[level])
        measured = f"{value:.4g}{unit}"
        outer = level in (0, 2)
        side = Phrase(
            "driver.limit_high" if level < 2 else "driver.limit_low",
            signal=signal,
            value=measured,
            limit=f"{limit:.4g}",
        )
        return Condition(
            active=True,
            severity=severity,
            priority=config.priority or (Priority.HIGH if outer else Priority.MEDIUM),
            text=Phrase(f"limit.{name}", signal=signal, value=measured, limit=f"{limit:.4g}{unit}"),
            drivers=(Contribution(signal, 1.0, side),),
            **common,  # type: ignore[arg-type]
        )

    def _map_signals(self) -> None:
        table = self._signals.signals()
        slots = np.full(len(table), -1, dtype=np.int32)
        for number, signal in enumerate(table):
            slot = slots[number] = self._slot_of.get((signal.asset, signal.name), -1)
            if slot >= 0:
                # The last one: a signal whose unit was changed is another of the same name.
                self._units[slot] = f" {signal.unit}" if signal.unit else ""
        self._slots = slots


def severities(value: NDArray[np.float64], threshold: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far past the limit, both signed so that larger is worse.

    Returns:
        1 at the limit, 2 when past it by as much as the limit is from zero; NaN where unknown.
    """
    span = np.maximum(np.abs(threshold), 1e-9)
    return 1.0 + (value - threshold) / span
