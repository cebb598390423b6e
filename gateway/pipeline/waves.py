"""Turns waveforms into signals: RMS, bands, velocity, the orders of a shaft and its bearing."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import structlog

from gateway.core.batch import Batch, Quality, Waveform, make_batch
from gateway.core.signals import Signal, SignalTable
from gateway.pipeline.config import AssetConfig
from gateway.pipeline.shaft import Shaft
from models.errors import RecordError
from models.features.bearing import Bearing
from models.features.burst import base_of, described, orders_of, part_unit

SAMPLES_MIN = 32
ACCELERATION_UNITS = ("g", "gn", "g_n")
WAITING_MAX = 1 << 22
"""Samples of bursts that wait for the speed they were recorded at."""

_events = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Rotor:
    geometry: Bearing | None
    speed: int
    lateness_ns: int
    stale_s: float | None


class Waves:
    """Describes every waveform of a gateway.

    A burst's orders need the speed at the time of the burst, which may come after it: they wait for
    it, `lateness_s` of its asset at most, and then take what is known. Where that is too little
    for some they are BAD, which is told once until all are known again.

    Attributes:
        too_short: Waveforms with too few samples.
        without_orders: Waveforms of a machine with a shaft, some order of which could not be told.
    """

    def __init__(
        self,
        assets: Sequence[AssetConfig],
        table: SignalTable,
        number_of: Callable[[str, str], int | None],
    ) -> None:
        """Prepare.

        Args:
            assets: As configured; some have a shaft, and some of these a bearing.
            table: Gives each described signal its number.
            number_of: Number of a signal by asset and name.
        """
        self.too_short = 0
        self.without_orders = 0
        self._table = table
        self._rotors: dict[str, _Rotor] = {}
        self._shafts: dict[int, Shaft] = {}
        self._waiting: deque[tuple[Waveform, int]] = deque()
        self._lacking: set[Signal] = set()
        for asset in assets:
            if asset.rotor is None:
                continue
            speed = number_of(asset.id, asset.rotor.speed)
            if speed is not None:
                self._rotors[asset.id] = _Rotor(
                    asset.bearing.geometry() if asset.bearing else None,
                    speed,
                    round(asset.lateness_s * 1e9),
                    asset.stale_s,
                )
                self._shafts[speed] = Shaft(asset.rotor.pulses_per_turn)

    def carry(self, before: "Waves") -> None:
        """Go on with the counts, and with what is known of the shafts that are still there."""
        self.too_short, self.without_orders = before.too_short, before.without_orders
        self._lacking = before._lacking  # noqa: SLF001 (the same class)
        shafts = before._shafts  # noqa: SLF001 (the same class)
        self._shafts |= {
            number: shaft
            for number, shaft in shafts.items()
            if number in self._shafts
            and shaft.pulses_per_turn == self._shafts[number].pulses_per_turn
        }
        self._waiting.extend(
            (wave, due_ns)
            for wave, due_ns in before._waiting  # noqa: SLF001 (the same class)
            if self._table[wave.signal].asset in self._rotors
        )

    def describe(self, wave: Waveform, mono_ns: int) -> list[Batch]:
        """One sample of each part, at the burst's end; and orders that are known by now."""
        shaft = self._shafts.get(wave.signal)
        if shaft is not None and len(wave):
            name = self._table[wave.signal].name
            told = f"{name} speed [rpm]" if shaft.pulses_per_turn else name
            mean = {told: shaft.hear_burst(wave)}
            return [*self.due(mono_ns), self._batch(wave, mean)]
        if len(wave) < SAMPLES_MIN:
            self.too_short += 1
            return []
        signal = self._table[wave.signal]
        acceleration = signal.unit in ACCELERATION_UNITS
        burst = wave.value.astype(np.float64)[None]
        parts = described(signal.name, burst, wave.rate_hz, acceleration_g=acceleration)
        made = self._batch(wave, {name: float(value[0]) for name, value in parts.items()})
        if rotor := self._rotors.get(signal.asset):
            self._waiting.append((wave, mono_ns + rotor.lateness_ns))
        return [made, *self.due(mono_ns)]

    def hear(self, batch: Batch, mono_ns: int) -> list[Batch]:
        """Take the speeds of a batch; give the orders that are known by them."""
        if not self._shafts or batch.history:
            return []
        for number, shaft in self._shafts.items():
            mine = batch.signal == number
            if mine.any() and not shaft.pulses_per_turn:
                shaft.hear(batch.t_ns[mine], batch.value[mine])
        return self.due(mono_ns)

    def due(self, mono_ns: int) -> list[Batch]:
        """The orders whose speed is known, or has been waited for long enough."""
        if not self._waiting:
            return []
        waiting, self._waiting = self._waiting, deque()
        out: list[Batch] = []
        spare = WAITING_MAX
        for wave, due_ns in reversed(waiting):
            rotor = self._rotors[self._table[wave.signal].asset]
            spare -= len(wave)
            if (
                self._shafts[rotor.speed].known_ns >= _last_ns(wave)
                or mono_ns >= due_ns
                or spare < 0
            ):
                out.append(self._orders(wave, rotor))
            else:
                self._waiting.appendleft((wave, due_ns))
        return out[::-1]

    def _orders(self, wave: Waveform, rotor: _Rotor) -> Batch:
        signal = self._table[wave.signal]
        value = wave.value.astype(np.float64)
        why = ""
        try:
            speed = self._shafts[rotor.speed].over(wave, rotor.stale_s)
        except RecordError as error:
            speed, why = np.full(1, np.nan), str(error)
        parts, lacks = orders_of(signal.name, value, wave.rate_hz, speed, rotor.geometry)
        if lacks:
            self.without_orders += 1
            if signal not in self._lacking:
                self._lacking.add(signal)
                told = why or "; ".join(lacks)
                _events.warning("waveform.orders_unknown", signal=str(signal), why=told)
        elif signal in self._lacking:
            self._lacking.discard(signal)
            _events.info("waveform.orders_known", signal=str(signal))
        return self._batch(wave, parts)

    def _batch(self, wave: Waveform, parts: Mapping[str, float]) -> Batch:
        signal = self._table[wave.signal]
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


def _last_ns(wave: Waveform) -> int:
    return wave.t0_ns + round((len(wave) - 1) / wave.rate_hz * 1e9)


def part_signal(base: Signal, name: str) -> Signal:
    """The signal that a part of `base` is."""
    return Signal(base.asset, name, part_unit(name, base.unit))


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
