"""The signal table: which integer stands for which `asset/signal`."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Signal:
    """One measured quantity of one asset.

    Attributes:
        asset: Identifier of the machine (ISA-95 equipment).
        name: Identifier of the quantity within the asset.
        unit: Engineering unit as written in the configuration; "" for a pure number.
    """

    asset: str
    name: str
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.asset}/{self.name}"


class SignalTable:
    """Signals by number, append-only: a number, once given, means the same signal for ever.

    The log keeps this table beside its samples, so numbers survive a restart. The unit is part of
    the identity: a signal whose unit was changed is another signal, and old data keep the old one.
    """

    def __init__(self, signals: Iterable[Signal] = ()) -> None:
        self._signals: list[Signal] = []
        self._index: dict[Signal, int] = {}
        for signal in signals:
            self.intern(signal)

    def intern(self, signal: Signal) -> int:
        """Give the number of `signal`, a new one if it was never seen."""
        index = self._index.get(signal)
        if index is None:
            index = len(self._signals)
            self._index[signal] = index
            self._signals.append(signal)
        return index

    def __len__(self) -> int:
        return len(self._signals)

    def __getitem__(self, index: int) -> Signal:
        return self._signals[index]

    def signals(self) -> tuple[Signal, ...]:
        """Every signal, in the order of its number."""
        return tuple(self._signals)
