"""Sensors that cannot be believed, and those that can again: the alarms that say so."""

from collections.abc import Collection, Sequence

import numpy as np

from gateway.core.alarm import Cause, Condition, Priority
from gateway.pipeline import wording
from gateway.pipeline.assess import Judged
from gateway.pipeline.windows import Windows
from models.sensors import SensorFault

DOUBTED = 255
"""An earlier judge doubted a sensor; why, only its alarm knows."""


class Doubts:
    """What is held against each sensor of the assets that share a bundle."""

    def __init__(self, assets: Sequence[str], signals: Sequence[str]) -> None:
        self._assets = tuple(assets)
        self._signals = tuple(signals)
        self._faulty = np.zeros((len(assets), len(signals)), dtype=np.uint8)

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
                text=wording.sensor(a.assets[row], a.signals[column], SensorFault(fault))
                if (fault := int(seen[row, column] or before[row, column])) != DOUBTED
                else None,
            )
            for row, column in np.argwhere(((seen > 0) | (before > 0)) & (seen != DOUBTED)).tolist()
        ]
