"""Turns waveforms into signals: RMS, bands, velocity, a bearing's knocks."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from gateway.core.batch import Batch, Quality, Waveform, make_batch
from gateway.core.signals import Signal, SignalTable
from gateway.pipeline.config import AssetConfig
from models.errors import RecordError
from models.features.bearing import Bearing
from models.features.burst import base_of, described, knocks

SAMPLES_MIN = 32
ACCELERATION_UNITS = ("g", "gn", "g_n")
_NO_UNIT = ("crest factor", "kurtosis", "outer race", "inner race", "roller", "cage")


class Waves:
    """Describes every waveform of a gateway.

    Attributes:
        too_short: Waveforms with too few samples, or too few turns of the shaft for the bearing.
    """

    def __init__(
        self,
        assets: Sequence[AssetConfig],
        table: SignalTable,
        value_of: Callable[[int], float],
        number_of: Callable[[str, str], int | None],
    ) -> None:
        """Prepare.

        Args:
            assets: As configured; some have a bearing.
            table: Gives each described signal its number.
            value_of: Latest value of a signal by its number; NaN where there is none.
            number_of: Number of a signal by asset and name.
        """
        self.too_short = 0
        self._table = table
        self._value_of = value_of
        self._bearings: dict[str, tuple[Bearing, int | None]] = {
            asset.id: (asset.bearing.geometry(), number_of(asset.id, asset.bearing.speed))
            for asset in assets
            if asset.bearing is not None
        }

    def describe(self, wave: Waveform) -> Batch | None:
        """One sample of each part, at the burst's end; None where it is too short."""
        if len(wave) < SAMPLES_MIN:
            self.too_short += 1
            return None
        signal = self._table[wave.signal]
        burst = wave.value.astype(np.float64)
        acceleration = signal.unit in ACCELERATION_UNITS
        parts = {
            name: float(value[0])
            for name, value in described(
                signal.name, burst[None], wave.rate_hz, acceleration_g=acceleration
            ).items()
        }
        parts |= self._knocks(signal, burst, wave.rate_hz)
        numbers = [self._table.intern(part_signal(signal, name)) for name in parts]
        end_ns = wave.t0_ns + round(len(wave) / wave.rate_hz * 1e9)
        return make_batch(
            wave.source,
            np.array(numbers, dtype=np.int32),
            np.full(len(numbers), end_ns, dtype=np.int64),
            np.array(list(parts.values()), dtype=np.float64),
            np.full(len(numbers), Quality.GOOD, dtype=np.uint8),
            wave.received_ns,
        )

    def _knocks(
        self, signal: Signal, burst: np.ndarray[tuple[int], np.dtype[np.float64]], rate_hz: float
    ) -> dict[str, float]:
        bearing = self._bearings.get(signal.asset)
        if bearing is None or bearing[1] is None:
            return {}
        speed_rpm = self._value_of(bearing[1])
        if not speed_rpm > 0:  # Standing still, or not known.
            return {}
        try:
            return knocks(signal.name, burst, rate_hz, speed_rpm, bearing[0])
        except RecordError:
            self.too_short += 1
            return {}


def part_signal(base: Signal, name: str) -> Signal:
    """The signal that a part of `base` is: its unit is the base's where it has one."""
    if name.endswith("[mm/s]"):
        return Signal(base.asset, name, "mm/s")
    return Signal(base.asset, name, "" if name.endswith(_NO_UNIT) else base.unit)


def parts_wanted(
    names: Sequence[str], there: Mapping[str, Signal], sources_of: Mapping[Signal, str]
) -> dict[Signal, str]:
    """Those of `names` that no source has but a waveform's description will, with their sources.

    Args:
        names: Of the signals that a bundle wants.
        there: The signals of one asset, by name.
        sources_of: The source of each.
    """
    out = {}
    for name in names:
        base = there.get(base_of(name))
        if name not in there and base is not None:
            out[part_signal(base, name)] = sources_of[base]
    return out
