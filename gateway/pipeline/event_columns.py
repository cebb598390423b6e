"""Lays events and facts on the cells of a window: the columns that no sample fills."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.core.batch import Batch, make_batch
from gateway.core.signals import Signal, SignalTable
from gateway.pipeline.events import NEVER_NS, Events
from gateway.pipeline.windows import Watch, Windows
from models.events import AGO_H_MAX, lay
from models.manifest import Manifest

HOUR_NS = 3600 * 10**9
SOURCE = "events"


@dataclass(frozen=True, slots=True, eq=False)
class EventColumns:
    """Which columns of a watch come from events and facts: `a` assets, `k` signals.

    Attributes:
        events: Where what happened is known.
        slot: int32[a, k], the code of an event log; -1 where it is none.
        ago: bool[k], hours since the last one, rather than how many.
        fact: float64[a, k], NaN where it is none.
        number: int32[a, k], of the signal that is logged for an event column; -1 for none.
    """

    events: Events
    slot: NDArray[np.int32]
    ago: NDArray[np.bool_]
    fact: NDArray[np.float64]
    number: NDArray[np.int32]

    @classmethod
    def of(
        cls,
        events: Events,
        assets: Sequence[str],
        manifest: Manifest,
        own: NDArray[np.int32],
        table: SignalTable,
    ) -> "EventColumns | None":
        """What a bundle takes of them; None where it is nothing.

        Args:
            events: All that is known.
            assets: Who is judged.
            manifest: Of the bundle.
            own: int32[a, k], numbers of the signals that the assets have themselves, else -1.
            table: Of the signals' numbers.
        """
        slot = np.full(own.shape, -1, np.int32)
        fact = np.full(own.shape, np.nan)
        number = np.full(own.shape, -1, np.int32)
        for i, asset in enumerate(assets):
            for k, signal in enumerate(manifest.signals):
                if own[i, k] >= 0:
                    continue
                slot[i, k] = events.slot(asset, signal.name)
                held = events.facts.get((asset, signal.name))
                if held is not None:
                    words = signal.categories
                    fact[i, k] = words.index(word(held)) if words else float(held)
                if slot[i, k] >= 0:
                    unit = "h" if signal.name.endswith(".ago_h") else ""
                    number[i, k] = table.intern(Signal(asset, signal.name, unit))
        if not ((slot >= 0) | ~np.isnan(fact)).any():
            return None
        ago = np.array([signal.name.endswith(".ago_h") for signal in manifest.signals])
        return cls(events, slot, ago, fact, number)

    def lay(self, watch: Watch, windows: Windows) -> tuple[Batch, list[tuple[str, bytes]]]:
        """Fill these columns of windows in place.

        A cell counts what happened within it, and knows nothing later. NaN says that nobody knows:
        what happened before anybody watched. Coverage of such a column is that of the others, for
        events tell nothing of a machine whose signals are missing.

        Returns:
            A sample of each event column at the windows' ends, and what is to be kept.
        """
        rows, value = windows.rows, windows.value
        slot, fact = self.slot[rows], self.fact[rows]
        cell_ns = windows.end_ns[:, None] - watch.period_ns * np.arange(watch.cells)[::-1]
        kept = self.events.begin(slot, windows.end_ns)
        at, column = np.nonzero(slot >= 0)
        mine = slot[at, column]
        value[at, column] = self._laid(mine, cell_ns[at], watch.period_ns, self.ago[column])
        constant = ~np.isnan(fact)
        value[constant] = fact[constant][:, None]
        made = (slot >= 0) | constant
        others = np.where(made, np.nan, windows.coverage)
        measured = (
            np.nan_to_num(np.nanmean(others, axis=1)) if not made.all() else np.zeros(len(rows))
        )
        known = np.isfinite(value).mean(axis=2)
        windows.coverage[made] = (known * measured[:, None])[made]
        return self._samples(watch, windows), kept

    def _laid(
        self,
        slot: NDArray[np.int32],
        cell_ns: NDArray[np.int64],
        period_ns: int,
        ago: NDArray[np.bool_],
    ) -> NDArray[np.float64]:
        """float64[n, cells], one row a slot and window."""
        since_ns = self.events.since_ns[slot][:, None]
        newest_ns = self.events.newest_ns[slot]
        count = np.zeros(cell_ns.shape)
        last_s = np.where(newest_ns == NEVER_NS, -np.inf, newest_ns / 1e9)[:, None].repeat(
            cell_ns.shape[1], axis=1
        )
        # Nearly always nothing has happened within the window, and all is said.
        for i in np.flatnonzero(newest_ns > cell_ns[:, 0] - period_ns).tolist():
            at_s = self.events.at_ns(slot[i]) / 1e9
            count[i], last_s[i] = lay(at_s, cell_ns[i] / 1e9, (cell_ns[i, 0] - period_ns) / 1e9)
        count[(cell_ns <= since_ns) & (count == 0)] = np.nan
        hours = np.minimum((cell_ns / 1e9 - last_s) / 3600, AGO_H_MAX)
        unknown = np.isinf(last_s) & ((cell_ns - since_ns) < AGO_H_MAX * HOUR_NS)
        return np.where(ago[:, None], np.where(unknown, np.nan, hours), count)

    def _samples(self, watch: Watch, windows: Windows) -> Batch:
        """What is known of events at the windows' ends: counts are of the whole step."""
        number = self.number[windows.rows]
        at, column = np.nonzero(number >= 0)
        step = windows.value[at, column, -watch.hop_cells :]
        value = np.where(self.ago[column], step[:, -1], step.sum(axis=1))
        known = np.isfinite(value)
        return make_batch(
            SOURCE,
            number[at, column][known],
            windows.end_ns[at][known],
            value[known],
            np.zeros(int(known.sum()), np.uint8),
            int(windows.end_ns.max()),
        )


def word(fact: float | str) -> str:
    """A fact as a table of facts writes it."""
    return fact if isinstance(fact, str) else f"{fact:g}"
