"""Sums of counters that roll over, so that an energy meter never jumps back."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.core.source import SourceContext
from protocols.modbus.signal import ModbusSignal

COUNTERS_FILE = "counters.json"
SAVED_EVERY_NS = 60 * 10**9


@dataclass(frozen=True, slots=True)
class CounterState:
    """What must survive a restart: the last count, and what was counted before it started over."""

    last: float
    base: float


class Counters:
    """The counters among a group's rows.

    A count below the last one is a roll-over where it lies within the half of the range that
    follows (the counter ran forward past its end), and a reset of the device otherwise (it starts
    at 0 again, and what it shows is added). Either way the sum goes on and never falls.
    """

    def __init__(
        self, signals: Sequence[ModbusSignal], identity: Callable[[ModbusSignal], str]
    ) -> None:
        self.rows = np.array([i for i, s in enumerate(signals) if s.counter], dtype=np.intp)
        self._keys = [identity(signals[i]) for i in self.rows]
        self._modulus = np.array([float(signals[i].modulus()) for i in self.rows])
        self._last = np.full(len(self.rows), np.nan)
        self._base = np.zeros(len(self.rows))

    def accumulate(
        self,
        value: NDArray[np.float64],
        good: NDArray[np.bool_],
        rows: NDArray[np.intp] | None = None,
    ) -> dict[str, int]:
        """Replace counts by sums in `value` where they are `good`.

        Args:
            value: float64[m], raw units; changed in place.
            good: bool[m].
            rows: intp[m], ascending, which of the group's rows they are; all if not given.
        Returns:
            How many started over, by cause: `counter_rollover`, `counter_reset`.
        """
        if not len(self.rows):
            return {}
        at = self.rows if rows is None else np.searchsorted(rows, self.rows)
        there = at < len(value)
        at = np.where(there, at, 0)
        if rows is not None:
            there &= rows[at] == self.rows
        count = value[at]
        new = there & good[at]
        fell = new & (count < self._last)
        events: dict[str, int] = {}
        if fell.any():
            rolled = fell & (count - self._last + self._modulus < self._modulus / 2)
            reset = fell & ~rolled
            self._base[rolled] += self._modulus[rolled]
            self._base[reset] += self._last[reset]
            for name, which in (("counter_rollover", rolled), ("counter_reset", reset)):
                if which.any():
                    events[name] = int(np.count_nonzero(which))
        self._last[new] = count[new]
        value[at[new]] = (count + self._base)[new]
        return events

    def state(self) -> dict[str, CounterState]:
        """Of each counter that was read at least once."""
        return {
            key: CounterState(float(last), float(base))
            for key, last, base in zip(self._keys, self._last, self._base, strict=True)
            if not np.isnan(last)
        }

    def restore(self, state: Mapping[str, CounterState]) -> None:
        """Go on from where an earlier `state` stood."""
        for i, key in enumerate(self._keys):
            if key in state:
                self._last[i], self._base[i] = state[key].last, state[key].base


class CounterFile:
    """Where the counters of a source outlive its sessions; one file, written now and then."""

    def __init__(self, context: SourceContext) -> None:
        self._context = context
        self._path = context.data_dir / COUNTERS_FILE
        self._saved_ns = context.clock.mono_ns()
        self._state = self._load()

    def restore(self, counters: Counters) -> None:
        """Let them go on from where they stood."""
        counters.restore(self._state)

    def keep(self, counters: Counters) -> None:
        """Remember where they stand; `save` writes it."""
        self._state |= counters.state()

    def due(self, now_ns: int) -> bool:
        """Whether it is time to write again."""
        return now_ns >= self._saved_ns + SAVED_EVERY_NS

    def save(self) -> None:
        """Replace the file as a whole, so that a crash leaves the old one or the new one."""
        context = self._context
        self._saved_ns = context.clock.mono_ns()
        if not self._state:
            return
        new = self._path.with_suffix(".new")
        try:
            with new.open("w", encoding="utf-8") as file:
                json.dump({key: asdict(one) for key, one in self._state.items()}, file)
            new.replace(self._path)
        except OSError as error:
            context.meter.errors["counter_file"] += 1
            context.log.warning("modbus.counters_not_saved", path=str(self._path), error=str(error))

    def _load(self) -> dict[str, CounterState]:
        """What an earlier one saved; nothing where there is no file or it cannot be read."""
        context = self._context
        try:
            rows = json.loads(self._path.read_text(encoding="utf-8"))
            return {
                str(key): CounterState(float(row["last"]), float(row["base"]))
                for key, row in rows.items()
            }
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            context.meter.errors["counter_file"] += 1
            context.log.warning("modbus.counters_lost", path=str(self._path), error=str(error))
            return {}
