"""What never changed while a model learned, and is not what it was: told beside what is strange."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from gateway.core.batch import Quality
from gateway.core.signals import Signal, SignalTable
from gateway.core.texts import Phrase
from models.fixed import moved

Seen = Callable[[int], tuple[float, int, int]]
"""Value, UTC ns and quality of a signal, by its number, as it was seen last."""


class Fixed:
    """The signals of the machines of one judge that its model knows one value of.

    A model is not asked of them, for it learned nothing; that one has moved explains what else is
    strange (a standby pump that runs, another set point), or is a fault that nothing else shows.

    Attributes:
        seen: Gives what was seen last; nothing before the flow has given it.
    """

    def __init__(
        self, own: Mapping[str, Sequence[tuple[int, Signal, float]]] | None = None
    ) -> None:
        """Know of each machine such signals, with their numbers, and what they always were."""
        self.seen: Seen = lambda _number: (float("nan"), 0, int(Quality.BAD))
        self._own = own or {}

    @classmethod
    def of(
        cls,
        known: Mapping[str, float],
        named: Mapping[str, Mapping[str, Signal]],
        signals: SignalTable,
    ) -> "Fixed":
        """Of what a model knows.

        Args:
            known: The signals, and what they always were.
            named: Of each machine, its signals by name; one may lack some.
            signals: Gives each its number.
        """
        return cls(
            {
                asset: [(signals.intern(of[n]), of[n], was) for n, was in known.items() if n in of]
                for asset, of in named.items()
            }
        )

    def told(self, asset: str) -> Sequence[Phrase]:
        """Which of a machine's have moved: to what, and what they always were."""
        out = []
        for number, signal, was in self._own.get(asset, ()):
            value, *_ = self.seen(number)
            if moved(np.array(value), was):
                unit = f" {signal.unit}" if signal.unit else ""
                now, before = f"{value:.6g}{unit}", f"{was:.6g}{unit}"
                out.append(Phrase("fixed.moved", signal=signal.name, value=now, was=before))
        return out
