"""Signals computed from others of the same asset, sample by sample of the first that is named."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.core.batch import Batch, Quality, make_batch
from gateway.core.errors import ConfigError, Fault
from gateway.core.signals import Signal, SignalTable
from gateway.pipeline.config import DeriveConfig
from models.errors import RecordError
from models.formula import Formula


@dataclass(frozen=True, slots=True)
class _Derived:
    """One derived signal: its number, its inputs' numbers, by the name in the expression."""

    signal: int
    formula: Formula
    inputs: tuple[tuple[str, int], ...]


class Derive:
    """All derived signals of a gateway.

    A derived sample is made for each sample of the expression's first signal, with the last values
    of the others; BAD where any of them is BAD or not there yet.

    Attributes:
        sources: Each derived signal, and the source whose samples it follows.
    """

    def __init__(
        self, configs: Sequence[DeriveConfig], sources_of: Mapping[Signal, str], table: SignalTable
    ) -> None:
        """Prepare.

        Raises:
            ConfigError: An expression is no arithmetic over signals of its asset; all at once.
        """
        self.sources: dict[Signal, str] = {}
        self._derived: list[_Derived] = []
        faults = []
        of_asset: dict[str, dict[str, Signal]] = {config.asset: {} for config in configs}
        for signal in sources_of:
            of_asset.get(signal.asset, {})[signal.name] = signal
        for i, config in enumerate(configs):
            own = of_asset[config.asset]
            try:
                formula = Formula.parse(f"{config.signal} = {config.expression}")
                needs = formula.needs(list(own))
            except RecordError as error:
                faults.append(Fault(f"derive[{i}].expression", str(error)))
                continue
            if not needs:
                faults.append(Fault(f"derive[{i}].expression", "must name at least one signal"))
                continue
            key = Signal(config.asset, config.signal, config.unit)
            inputs = tuple((word, table.intern(own[name])) for word, name in needs.items())
            self.sources[key] = sources_of[own[next(iter(needs.values()))]]
            self._derived.append(_Derived(table.intern(key), formula, inputs))
        if faults:
            raise ConfigError(faults)
        size = 1 + max((n for d in self._derived for _, n in d.inputs), default=-1)
        self._of = np.full(size, -1, dtype=np.int32)
        for number, derived in enumerate(self._derived):
            self._of[derived.inputs[0][1]] = number
        self._first: dict[int, list[int]] = {}
        for number, derived in enumerate(self._derived):
            self._first.setdefault(derived.inputs[0][1], []).append(number)
        self._last = {n: (np.nan, Quality.BAD) for d in self._derived for _, n in d.inputs}

    def derive(self, batch: Batch) -> Batch | None:
        """The derived samples of a batch, of the same source; None where there are none."""
        if not self._derived or batch.history:
            return None
        inside = batch.signal[batch.signal < len(self._of)]
        due = [
            n for first in np.unique(inside[self._of[inside] >= 0]) for n in self._first[int(first)]
        ]
        made = [self._one(self._derived[number], batch) for number in due]
        for number in self._last:
            own = np.flatnonzero(batch.signal == number)
            if len(own):
                self._last[number] = (float(batch.value[own[-1]]), Quality(batch.quality[own[-1]]))
        if not made:
            return None
        signal, t_ns, value, quality = (np.concatenate([m[i] for m in made]) for i in range(4))
        return make_batch(batch.source, signal, t_ns, value, quality, batch.received_ns)

    def _one(
        self, derived: _Derived, batch: Batch
    ) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.float64], NDArray[np.uint8]]:
        lead = np.flatnonzero(batch.signal == derived.inputs[0][1])
        t_ns = batch.t_ns[lead]
        values: dict[str, NDArray[np.float64]] = {}
        quality = np.zeros(len(lead), dtype=np.uint8)
        for word, number in derived.inputs:
            own = np.flatnonzero(batch.signal == number)
            own = own[np.argsort(batch.t_ns[own], kind="stable")]
            at = np.searchsorted(batch.t_ns[own], t_ns, side="right") - 1
            carried, carried_quality = self._last[number]
            if len(own):
                here = own[np.maximum(at, 0)]
                values[word] = np.where(at >= 0, batch.value[here], carried)
                one = np.where(at >= 0, batch.quality[here], carried_quality)
            else:
                values[word] = np.full(len(lead), carried)
                one = np.full(len(lead), carried_quality)
            quality = np.maximum(quality, one).astype(np.uint8)
        value = derived.formula.compute(values, len(lead))
        return np.full(len(lead), derived.signal, dtype=np.int32), t_ns, value, quality
