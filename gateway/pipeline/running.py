"""Which machines stand still, by the rule that the operator gave; and what that silences."""

from collections.abc import Mapping

import numpy as np

from gateway.core.batch import BAD, Batch

SILENT = ("*.low", "*.low_low", "*.sensor", "*.missing", "model.drift")
"""Alarms that mean nothing while a machine stands: low speed, low pressure, signals that do not
move. What is too high stays an alarm, and so does what stood when the machine stopped: it may have
stopped because of that."""

START_NS = 60_000_000_000
"""So long after it has begun to run a machine stays silent: what was too low is still coming up,
and an alarm returns only after its delay."""


class Running:
    """The newest state of each machine that has a rule.

    Attributes:
        runs: Machine -> whether it runs; missing while that is not known.
        starting: Machine -> monotonic ns, when it has run for long enough to be heard again.
    """

    def __init__(self, signals: Mapping[int, str]) -> None:
        """Take the number of each state signal, and the machine that it is of."""
        self._asset_of = dict(signals)
        self.runs: dict[str, bool] = {}
        self.starting: dict[str, int] = {}

    def update(self, batch: Batch, mono_ns: int) -> list[tuple[str, bool]]:
        """Take samples; the machines that began to run or to stand, and which of the two."""
        if not self._asset_of or batch.history:
            return []
        out = []
        for number in np.intersect1d(batch.signal, list(self._asset_of)).tolist():
            usable = np.flatnonzero((batch.signal == number) & (batch.quality != BAD))
            if not len(usable):
                continue
            runs = bool(batch.value[usable[np.argmax(batch.t_ns[usable])]] > 0)
            asset = self._asset_of[number]
            if self.runs.get(asset) is not runs:
                self.runs[asset] = runs
                if runs:
                    self.starting[asset] = mono_ns + START_NS
                else:
                    self.starting.pop(asset, None)
                out.append((asset, runs))
        return out

    def started(self, mono_ns: int) -> list[str]:
        """The machines that have run for long enough by now to be heard again."""
        out = [asset for asset, due_ns in self.starting.items() if due_ns <= mono_ns]
        for asset in out:
            del self.starting[asset]
        return out

    @property
    def assets(self) -> frozenset[str]:
        """The machines that have a rule."""
        return frozenset(self._asset_of.values())

    def stands(self, asset: str) -> bool:
        """Whether it is known to stand still."""
        return self.runs.get(asset) is False

    def carry(self, before: "Running") -> None:
        """Take over what is known from the rules before a reload."""
        mine = self.assets
        self.runs = {a: runs for a, runs in before.runs.items() if a in mine}
        self.starting = {a: due_ns for a, due_ns in before.starting.items() if a in mine}
