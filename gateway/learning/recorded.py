"""The signals that numbers are recorded of: of a waveform the parts that describe it."""

from collections.abc import Sequence

from gateway.core.signals import Signal, SignalTable
from models.features.burst import base_of


class Recorded:
    """Reads the table of signals on: a waveform's parts stand in it from its first burst."""

    def __init__(self, table: SignalTable) -> None:
        self._table = table
        self._looked_at = 0
        self._parts: dict[str, dict[str, tuple[int, Signal]]] = {}

    def of(self, asset: str, signals: Sequence[tuple[int, Signal]]) -> list[tuple[int, Signal]]:
        """An asset's signals, with their numbers; parts in place of the waveforms among them."""
        self._look()
        own = {signal.name for _, signal in signals}
        every = self._parts.get(asset, {})
        parts = {n: p for n, p in every.items() if n not in own and base_of(n) in own}
        waves = {base_of(name) for name in parts}
        return [*(each for each in signals if each[1].name not in waves), *parts.values()]

    def _look(self) -> None:
        for number in range(self._looked_at, len(self._table)):
            signal = self._table[number]
            if base_of(signal.name):
                self._parts.setdefault(signal.asset, {})[signal.name] = number, signal
        self._looked_at = len(self._table)
