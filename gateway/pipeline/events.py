"""What happened to machines, and what they are, laid on the cells of a window as signals."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from heapq import nlargest
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from gateway.core.batch import Batch, Quality, make_batch
from gateway.core.event import Entry, Event, EventLog
from gateway.core.refusal import Refused
from gateway.core.signals import Signal, SignalTable
from gateway.core.texts import Phrase
from gateway.pipeline.config import AssetConfig, EventLogConfig
from gateway.pipeline.event_log import ALWAYS_NS, UNTOLD_NS, Kept, Teller
from gateway.pipeline.windows import Watch, Windows
from models.events import AGO_H_MAX, lay
from models.manifest import Manifest

HOUR_NS = 3600 * 10**9
SOURCE = "events"

_NEVER_NS = -(1 << 62)


@dataclass(frozen=True, slots=True, eq=False)
class Beside:
    """Which columns of a watch come from events and facts: `a` assets, `k` signals.

    Attributes:
        slot: int32[a, k], the code of an event log; -1 where it is none.
        ago: bool[k], hours since the last one, rather than how many.
        fact: float64[a, k], NaN where it is none.
        number: int32[a, k], of the signal that is logged for an event column; -1 for none.
    """

    slot: NDArray[np.int32]
    ago: NDArray[np.bool_]
    fact: NDArray[np.float64]
    number: NDArray[np.int32]


class Events:
    """All event logs and facts of a gateway. Its state belongs to the flow."""

    def __init__(
        self,
        logs: Sequence[EventLogConfig],
        assets: Sequence[AssetConfig],
        sources_of: Mapping[Signal, str],
        table: SignalTable,
    ) -> None:
        """Prepare; signals of `sources_of` may tell codes, and each event signal has a number."""
        self._facts = {(a.id, name): fact for a in assets for name, fact in a.facts.items()}
        self._kept: dict[tuple[str, str], Kept] = {}
        self._slots: list[tuple[str, str, str]] = []
        self._slot_of: dict[tuple[str, str], int] = {}
        self._told_by: dict[int, Teller] = {}
        self._sources: dict[tuple[str, str], set[str]] = {}
        self.signals: dict[str, list[tuple[int, Signal]]] = {}
        by_name = {(s.asset, s.name): s for s in sources_of} if logs else {}
        for log in logs:
            for asset in log.assets or [a.id for a in assets]:
                kept = self._kept.setdefault((asset, log.id), Kept())
                for code in log.codes:
                    kept.at_ns[code] = np.zeros(0, np.int64)
                    for name, unit in ((f"{log.id}.{code}", ""), (f"{log.id}.{code}.ago_h", "h")):
                        self._slot_of[asset, name] = len(self._slots)
                        key = Signal(asset, name, unit)
                        self.signals.setdefault(asset, []).append((table.intern(key), key))
                    self._slots.append((asset, log.id, code))
                if log.signal is not None:
                    teller = by_name[asset, log.signal]
                    number = table.intern(teller)
                    self._told_by[number] = Teller(
                        asset, log.id, log.signal, log.values(), log.bits
                    )
                    self._sources.setdefault((asset, log.id), set()).add(sources_of[teller])
        self._tells = np.zeros(1 + max(self._told_by, default=-1), bool)
        self._tells[list(self._told_by)] = True
        self._newest_ns = np.full(len(self._slots), _NEVER_NS, np.int64)
        self._since_ns = np.full(len(self._slots), UNTOLD_NS, np.int64)

    def makes(self, asset: str, name: str) -> bool:
        """Whether it is a signal or a fact that is made here."""
        return (asset, name) in self._slot_of or (asset, name) in self._facts

    def sources(self, asset: str, names: Sequence[str]) -> set[str]:
        """The sources that tell the codes behind these signals."""
        logs = {
            self._slots[s][1] for n in names if (s := self._slot_of.get((asset, n))) is not None
        }
        return set().union(*(self._sources.get((asset, log), ()) for log in logs))

    def unknown_words(self, asset: str, manifest: Manifest) -> list[str]:
        """Facts that a bundle cannot take: words that it did not learn."""
        return [
            f"facts.{s.name}: {asset}: must be one of {', '.join(s.categories)}, was {fact!r}"
            if s.categories
            else f"facts.{s.name}: {asset}: must be a number, was {fact!r}"
            for s in manifest.signals
            if (fact := self._facts.get((asset, s.name))) is not None
            and (_word(fact) not in s.categories if s.categories else isinstance(fact, str))
        ]

    def beside(
        self, assets: Sequence[str], manifest: Manifest, own: NDArray[np.int32], table: SignalTable
    ) -> Beside | None:
        """What a bundle takes of them; None where it is nothing.

        Args:
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
                slot[i, k] = self._slot_of.get((asset, signal.name), -1)
                held = self._facts.get((asset, signal.name))
                if held is not None:
                    words = signal.categories
                    fact[i, k] = words.index(_word(held)) if words else float(held)
                if slot[i, k] >= 0:
                    unit = "h" if signal.name.endswith(".ago_h") else ""
                    number[i, k] = table.intern(Signal(asset, signal.name, unit))
        if not ((slot >= 0) | ~np.isnan(fact)).any():
            return None
        ago = np.array([signal.name.endswith(".ago_h") for signal in manifest.signals])
        return Beside(slot, ago, fact, number)

    def take(self, batch: Batch) -> Iterator[tuple[str, bytes]]:
        """Hear the codes that signals become; what is to be kept for a restart."""
        if not self._told_by:
            return
        inside = batch.signal[batch.signal < len(self._tells)]
        for number in np.unique(inside[self._tells[inside]]).tolist():
            own = np.flatnonzero((batch.signal == number) & (batch.quality != Quality.BAD))
            own = own[np.argsort(batch.t_ns[own], kind="stable")]
            teller = self._told_by[number]
            if self._hear(teller, batch.t_ns[own], batch.value[own], history=batch.history):
                yield self._changed(teller.asset, teller.log)

    def tell(
        self,
        events: Sequence[Event],
        whole: Sequence[tuple[str, str]] = (),
        *,
        by: str,
        at_ns: int,
    ) -> tuple[int, list[tuple[str, bytes]]]:
        """Take what somebody knows.

        Args:
            events: What happened, in any order; what is known already counts once.
            whole: Asset and log of which all is known now: what is not, did not happen.
            by: Who says so.
            at_ns: UTC ns, when that is said.

        Returns:
            How many were new, and what is to be kept.

        Raises:
            Refused: No such log or code; nothing has changed.
        """
        logs = {*whole, *((e.asset, e.log) for e in events)}
        self._check(logs, events)
        told: dict[tuple[str, str, str], set[int]] = {}
        for e in events:
            told.setdefault((e.asset, e.log, e.code), set()).add(e.t_ns)
        new = 0
        for (asset, log, code), times in told.items():
            kept = self._kept[asset, log]
            fresh = sorted(times - set(kept.at_ns[code].tolist()))
            kept.ledger.tell([Event(asset, log, code, t_ns) for t_ns in fresh], by, at_ns)
            new += kept.add(code, np.array(fresh, np.int64))
        for key in whole:
            self._kept[key].since_ns = ALWAYS_NS
        return new, [state for key in logs for state in (self._changed(*key), self._entered(*key))]

    def take_back(self, events: Sequence[Event], *, by: str, at_ns: int) -> list[tuple[str, bytes]]:
        """Let it be as if these had never been told or heard; the ledger says that they were.

        Returns:
            What is to be kept.

        Raises:
            Refused: One of them is not known; nothing has changed.
        """
        logs = {(e.asset, e.log) for e in events}
        self._check(logs, events)
        for e in events:
            if not self._kept[e.asset, e.log].near(e).any():
                at = f"{datetime.fromtimestamp(e.t_ns / 1e9, UTC):%Y-%m-%d %H:%M:%S.%f}"
                raise Refused(
                    Phrase("refused.no_event", asset=e.asset, log=e.log, code=e.code, at=at)
                )
        for e in events:
            kept = self._kept[e.asset, e.log]
            mine = kept.near(e)
            for t_ns in kept.at_ns[e.code][mine].tolist():
                kept.ledger.take_back(replace(e, t_ns=t_ns), by, at_ns)
            kept.at_ns[e.code] = kept.at_ns[e.code][~mine]
        return [state for key in logs for state in (self._changed(*key), self._entered(*key))]

    def _check(self, logs: AbstractSet[tuple[str, str]], events: Sequence[Event]) -> None:
        for asset, log in logs - self._kept.keys():
            raise Refused(Phrase("refused.no_event_log", asset=asset, log=log))
        for e in events:
            known = self._kept[e.asset, e.log].at_ns
            if e.code not in known:
                codes = ", ".join(known)
                raise Refused(
                    Phrase("refused.no_code", asset=e.asset, log=e.log, codes=codes, was=e.code)
                )

    def _entered(self, asset: str, log: str) -> tuple[str, bytes]:
        return _ledger_key(asset, log), self._kept[asset, log].ledger.pack()

    def logs(self) -> list[EventLog]:
        """Every event log of every machine."""
        return [
            EventLog(
                asset,
                log,
                tuple(kept.at_ns),
                None if kept.since_ns in (UNTOLD_NS, ALWAYS_NS) else kept.since_ns,
                kept.since_ns == ALWAYS_NS,
            )
            for (asset, log), kept in self._kept.items()
        ]

    def newest(self, asset: str, limit: int, *, taken_back: bool = False) -> list[Entry]:
        """At most `limit` events of a machine, or of all where it is "", newest first.

        Those that count; with `taken_back` the others, too.
        """
        mine = {key: kept for key, kept in self._kept.items() if asset in ("", key[0])}
        found = (
            Entry(*key, code, t_ns)
            for key, kept in mine.items()
            for code, at_ns in kept.at_ns.items()
            for t_ns in at_ns[-limit:].tolist()
        )
        gone = (e for kept in mine.values() for e in kept.ledger.entries if e.taken_back_ns)
        newest = nlargest(limit, chain(found, gone if taken_back else ()), key=lambda e: e.t_ns)
        told: dict[Event, Entry] = {}
        for key in {(e.asset, e.log) for e in newest}:
            told |= mine[key].ledger.standing()
        return [e if e.taken_back_ns else told.get(e.event, e) for e in newest]

    def restore(self, get: Callable[[str], bytes | None]) -> Iterator[tuple[str, str]]:
        """Take up what was kept, by its key; give those that cannot be read, and why."""
        for asset, log in self._kept:
            kept = self._kept[asset, log]
            for key, unpack in (
                (f"{asset}/{log}", kept.unpack),
                (_ledger_key(asset, log), kept.ledger.unpack),
            ):
                state = get(key)
                try:
                    if state is not None:
                        unpack(state)
                except (ValueError, TypeError) as error:
                    yield key, str(error)
            self._changed(asset, log)

    def lay(
        self, watch: Watch, beside: Beside, windows: Windows
    ) -> tuple[Batch, list[tuple[str, bytes]]]:
        """Fill the columns of events and facts of windows in place.

        A cell counts what happened within it, and knows nothing later. NaN says that nobody knows:
        what happened before anybody watched. Coverage of such a column is that of the others, for
        events tell nothing of a machine whose signals are missing.

        Returns:
            A sample of each event column at the windows' ends, and what is to be kept.
        """
        rows, value = windows.rows, windows.value
        slot, fact = beside.slot[rows], beside.fact[rows]
        cell_ns = windows.end_ns[:, None] - watch.period_ns * np.arange(watch.cells)[::-1]
        kept = self._begin(slot, windows.end_ns)
        at, column = np.nonzero(slot >= 0)
        mine = slot[at, column]
        value[at, column] = self._laid(mine, cell_ns[at], watch.period_ns, beside.ago[column])
        constant = ~np.isnan(fact)
        value[constant] = fact[constant][:, None]
        made = (slot >= 0) | constant
        others = np.where(made, np.nan, windows.coverage)
        measured = (
            np.nan_to_num(np.nanmean(others, axis=1)) if not made.all() else np.zeros(len(rows))
        )
        known = np.isfinite(value).mean(axis=2)
        windows.coverage[made] = (known * measured[:, None])[made]
        return self._samples(watch, beside, windows), kept

    def _hear(
        self,
        teller: Teller,
        t_ns: NDArray[np.int64],
        value: NDArray[np.float64],
        *,
        history: bool,
    ) -> bool:
        """Take samples of the signal that says the codes; whether anything is new."""
        kept = self._kept[teller.asset, teller.log]
        if not len(t_ns):
            return False
        # What was fetched from the past may have begun long before.
        before = value[:1] if history else np.array([kept.value.get(teller.signal, np.nan)])
        was = np.concatenate([before, value[:-1]])
        changed = bool((value != was).any())
        for key, code in teller.codes.items() if changed else ():
            began = teller.says(key, value) & ~teller.says(key, was)
            if began.any():
                kept.add(code, t_ns[began])
        if not history:
            kept.value[teller.signal] = float(value[-1])
            if kept.since_ns == UNTOLD_NS:
                kept.since_ns = int(t_ns[0])
        return changed

    def _changed(self, asset: str, log: str) -> tuple[str, bytes]:
        kept = self._kept[asset, log]
        for code, at_ns in kept.at_ns.items():
            slot = self._slot_of[asset, f"{log}.{code}"]
            self._newest_ns[slot] = at_ns[-1] if len(at_ns) else _NEVER_NS
            self._since_ns[slot] = kept.since_ns
        return f"{asset}/{log}", kept.pack()

    def _begin(self, slot: NDArray[np.int32], end_ns: NDArray[np.int64]) -> list[tuple[str, bytes]]:
        """Where nobody has watched before, somebody does from the first window on."""
        kept = []
        untold = (
            (slot >= 0) & (self._since_ns[slot] == UNTOLD_NS) if len(self._slots) else slot >= 0
        )
        for i, k in np.argwhere(untold).tolist():
            asset, log, _ = self._slots[slot[i, k]]
            if self._kept[asset, log].since_ns == UNTOLD_NS:
                self._kept[asset, log].since_ns = int(end_ns[i])
                kept.append(self._changed(asset, log))
        return kept

    def _laid(
        self,
        slot: NDArray[np.int32],
        cell_ns: NDArray[np.int64],
        period_ns: int,
        ago: NDArray[np.bool_],
    ) -> NDArray[np.float64]:
        """float64[n, cells], one row a slot and window."""
        since_ns = self._since_ns[slot][:, None]
        newest_ns = self._newest_ns[slot]
        count = np.zeros(cell_ns.shape)
        last_s = np.where(newest_ns == _NEVER_NS, -np.inf, newest_ns / 1e9)[:, None].repeat(
            cell_ns.shape[1], axis=1
        )
        # Nearly always nothing has happened within the window, and all is said.
        for i in np.flatnonzero(newest_ns > cell_ns[:, 0] - period_ns).tolist():
            asset, log, code = self._slots[slot[i]]
            at_s = self._kept[asset, log].at_ns[code] / 1e9
            count[i], last_s[i] = lay(at_s, cell_ns[i] / 1e9, (cell_ns[i, 0] - period_ns) / 1e9)
        count[(cell_ns <= since_ns) & (count == 0)] = np.nan
        hours = np.minimum((cell_ns / 1e9 - last_s) / 3600, AGO_H_MAX)
        unknown = np.isinf(last_s) & ((cell_ns - since_ns) < AGO_H_MAX * HOUR_NS)
        return np.where(ago[:, None], np.where(unknown, np.nan, hours), count)

    def _samples(self, watch: Watch, beside: Beside, windows: Windows) -> Batch:
        """What is known of events at the windows' ends: counts are of the whole step."""
        number = beside.number[windows.rows]
        at, column = np.nonzero(number >= 0)
        step = windows.value[at, column, -watch.hop_cells :]
        value = np.where(beside.ago[column], step[:, -1], step.sum(axis=1))
        known = np.isfinite(value)
        return make_batch(
            SOURCE,
            number[at, column][known],
            windows.end_ns[at][known],
            value[known],
            np.zeros(int(known.sum()), np.uint8),
            int(windows.end_ns.max()),
        )


def _ledger_key(asset: str, log: str) -> str:
    return f"{asset}/{log}/told"


def _word(fact: float | str) -> str:
    """A fact as a table of facts writes it."""
    return fact if isinstance(fact, str) else f"{fact:g}"
