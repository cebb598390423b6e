"""Sensors that cannot be believed, and those that can again: the alarms that say so."""

from collections.abc import Collection

import numpy as np

from gateway.core.alarm import Cause, Condition, Priority
from gateway.core.texts import Phrase
from gateway.pipeline import wording
from gateway.pipeline.assess import Judge, Judged
from gateway.pipeline.windows import Windows
from models.sensors import SensorFault

DOUBTED = 255
"""An earlier judge doubted a sensor; why, only its alarm knows."""


class Doubts:
    """What is held against each sensor of the assets that share a bundle."""

    def __init__(self, judge: Judge) -> None:
        self._assets, self._signals = judge.assets, judge.plan.signals
        self._units = tuple(signal.unit for signal in judge.bundle.manifest.signals)
        self._majority = judge.majority
        self._pairs = {pair.first: pair for pair in judge.pairs}
        self._names = judge.plan.names
        self._faulty = np.zeros((len(self._assets), len(self._signals)), dtype=np.uint8)

    def recall(self, standing: Collection[tuple[str, str]]) -> None:
        """Know of sensors that an earlier judge doubted, so that their alarms can end.

        Args:
            standing: (asset, alarm) of the alarms that stand.
        """
        for i, asset in enumerate(self._assets):
            for k, signal in enumerate(self._signals):
                if (asset, f"{signal}.sensor") in standing:
                    self._faulty[i, k] = DOUBTED

    def conditions(self, windows: Windows, judged: Judged) -> list[Condition]:
        """What changed; a bundle in shadow may say so too."""
        if judged.sensors is None:
            return []
        a = judged.assessments
        seen = judged.sensors * (windows.full & (a.coverage > 0))[:, None]
        before = self._faulty[windows.rows]
        if windows.running is not None:
            # What a machine's signals do while it stands says nothing of its sensors.
            seen = np.where(windows.running[:, None] == 1, seen, before).astype(np.uint8)
        self._faulty[windows.rows] = seen
        return [
            Condition(
                asset=a.assets[row],
                alarm=f"{a.signals[column]}.sensor",
                cause=Cause.DATA_QUALITY,
                active=bool(seen[row, column]),
                t_ns=int(a.t_ns[row]),
                priority=Priority.LOW,
                text=self._text(judged, row, column, SensorFault(seen[row, column])),
            )
            for row, column in np.argwhere(((seen > 0) | (before > 0)) & (seen != DOUBTED)).tolist()
        ]

    def _text(self, judged: Judged, row: int, column: int, fault: SensorFault) -> Phrase | None:
        asset = judged.assessments.assets[row]
        if fault is SensorFault.NONE:
            return None
        if fault is SensorFault.OUTVOTED:
            others = [self._signals[k] for k in self._majority.witnesses(column)]
            return wording.outvoted(asset, self._signals[column], others)
        if fault is not SensorFault.APART:
            return wording.sensor(asset, self._signals[column], fault)
        pair = self._pairs[column]
        at = [self._names.index(f"{self._signals[i]}:mean") for i in (pair.first, pair.second)]
        gap = pair.gap(*(float(judged.features[row, i]) for i in at))
        return wording.apart(asset, self._signals, self._units, gap)
