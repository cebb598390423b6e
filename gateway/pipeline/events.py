"""What happened to machines: heard of signals, told by people, taken back, kept for a restart."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import UTC, datetime
from heapq import nlargest
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from gateway.core.batch import BAD, Batch
from gateway.core.event import Entry, Event, EventLog
from gateway.core.refusal import Refused
from gateway.core.signals import Signal, SignalTable
from gateway.core.texts import Phrase
from gateway.pipeline.config import AssetConfig, EventLogConfig
from gateway.pipeline.event_log import ALWAYS_NS, UNTOLD_NS, Kept, Teller

NEVER_NS = -(1 << 62)
"""When a code happened that never did."""


class Events:
    """All event logs and facts of a gateway. Its state belongs to the flow.

    Attributes:
        facts: Machine and name -> what is constant of it.
        signals: Machine -> the signals that are made of its logs, with their numbers.
        newest_ns: int64[slots], when each code of each log happened last.
        since_ns: int64[slots], from when on nothing of it is missing.
    """

    def __init__(
        self,
        logs: Sequence[EventLogConfig],
        assets: Sequence[AssetConfig],
        sources_of: Mapping[Signal, str],
        table: SignalTable,
    ) -> None:
        """Prepare; signals of `sources_of` may tell codes, and each event signal has a number."""
        self.facts = {(a.id, name): fact for a in assets for name, fact in a.facts.items()}
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
        self.newest_ns = np.full(len(self._slots), NEVER_NS, np.int64)
        self.since_ns = np.full(len(self._slots), UNTOLD_NS, np.int64)

    def slot(self, asset: str, name: str) -> int:
        """The code that a signal counts, or tells the age of, by its slot; -1 for none."""
        return self._slot_of.get((asset, name), -1)

    def at_ns(self, slot: int) -> NDArray[np.int64]:
        """When a code happened, UTC ns, ascending."""
        asset, log, code = self._slots[slot]
        return self._kept[asset, log].at_ns[code]

    def begin(self, slot: NDArray[np.int32], end_ns: NDArray[np.int64]) -> list[tuple[str, bytes]]:
        """Where nobody has watched before, somebody does from the first window on.

        Args:
            slot: int32[n, k], codes; -1 where there is none.
            end_ns: int64[n], ends of the windows that want them.

        Returns:
            What is to be kept.
        """
        kept = []
        untold = (slot >= 0) & (self.since_ns[slot] == UNTOLD_NS) if len(self._slots) else slot >= 0
        for i, k in np.argwhere(untold).tolist():
            asset, log, _ = self._slots[slot[i, k]]
            if self._kept[asset, log].since_ns == UNTOLD_NS:
                self._kept[asset, log].since_ns = int(end_ns[i])
                kept.append(self._changed(asset, log))
        return kept

    def makes(self, asset: str, name: str) -> bool:
        """Whether it is a signal or a fact that is made here."""
        return (asset, name) in self._slot_of or (asset, name) in self.facts

    def sources(self, asset: str, names: Sequence[str]) -> set[str]:
        """The sources that tell the codes behind these signals."""
        logs = {
            self._slots[s][1] for n in names if (s := self._slot_of.get((asset, n))) is not None
        }
        return set().union(*(self._sources.get((asset, log), ()) for log in logs))

    def take(self, batch: Batch) -> Iterator[tuple[str, bytes]]:
        """Hear the codes that signals become; what is to be kept for a restart."""
        if not self._told_by:
            return
        inside = batch.signal[batch.signal < len(self._tells)]
        for number in np.unique(inside[self._tells[inside]]).tolist():
            own = np.flatnonzero((batch.signal == number) & (batch.quality != BAD))
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
            self.newest_ns[slot] = at_ns[-1] if len(at_ns) else NEVER_NS
            self.since_ns[slot] = kept.since_ns
        return f"{asset}/{log}", kept.pack()


def _ledger_key(asset: str, log: str) -> str:
    return f"{asset}/{log}/told"
