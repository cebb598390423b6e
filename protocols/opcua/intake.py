"""Turns decoded values into batches: quality, time, scale, and what the meter must hear of it."""

import asyncio
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from gateway.core.batch import BAD, Waveform, bad_batch, make_batch
from gateway.core.source import SourceContext
from protocols.opcua.columns import NEVER_NS, Columns
from protocols.opcua.items import Item
from protocols.opcua.outbox import Outbox
from protocols.opcua.quarantine import Quarantine
from protocols.opcua.settings import Settings
from protocols.opcua.slow import Burst, read_slow
from protocols.opcua.status import (
    ClockRule,
    overflows,
    quality_of,
    ticks_to_ns,
    values_stamps,
)
from protocols.opcua.structures import Structures
from protocols.opcua.wire import Values, join


class Intake:
    """Everything that arrives passes here, whichever way it came.

    Attributes:
        columns: What is known of each monitored item.
        structures: What the server says its structures are made of.
        began_ns, heard_ns: UTC ns at which the server first and last said something; 0 before.
    """

    def __init__(self, config: Settings, context: SourceContext, outbox: Outbox) -> None:
        self.columns = Columns()
        self.structures = Structures()
        self.began_ns = self.heard_ns = 0
        self._source = config.id
        self._context = context
        self._outbox = outbox
        self._quarantine = Quarantine(context)
        self._arrived = asyncio.Event()
        self._repeat_ns = round(config.repeat_s * 1e9)
        oldest = np.datetime64(f"{config.clock_year_min}", "ns")
        self._rule = ClockRule(
            stamp=config.timestamp,
            oldest_ns=int(oldest.astype(np.int64)),
            ahead_ns_max=round(config.clock_ahead_s_max * 1e9),
        )

    def take(
        self,
        values: Values,
        items: Mapping[int, Item],
        received_ns: int,
        *,
        polled: bool = False,
    ) -> None:
        """Pass on what one publication, or one answer to a poll, holds."""
        self._hear(received_ns)
        bursts: list[Burst] = []
        unreadable = self._not_structures(values, items)
        self._quarantine.release(values.slow, items)
        self._quarantine.show_status(values, items)
        if values.slow:
            numbers, bursts, more = read_slow(values.slow, items, self.structures)
            values = join([values, numbers])
            unreadable += more
        for item, reason in unreadable:
            self._quarantine.put(item, reason)
        self.count_lost(values.status)
        self._take_numbers(values, received_ns, polled=polled)
        for burst in bursts:
            self._take_burst(burst, received_ns)

    async def first_samples(self, items: Sequence[Item], *, timeout_s: float) -> None:
        """Wait until each item had a sample in this session, or for so long."""
        try:
            async with asyncio.timeout(timeout_s):
                while any(self.columns.first_ns[item.handle] == 0 for item in items):
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            pass  # The gaps of those that are silent stay open until they speak.

    def count_lost(self, status: NDArray[np.uint32]) -> None:
        """Take in what the server says that its queues dropped."""
        lost = overflows(status)
        if lost:
            self._context.meter.errors["overflow"] += lost
            self._context.meter.samples_lost += lost

    def put_bad(self, item: Item) -> None:
        """One BAD sample of one signal."""
        number = self.columns.number[item.handle : item.handle + 1]
        self._outbox.put(bad_batch(self._source, number, self._context.clock.wall_ns()))

    def repeat(self, group: int, publish_ticks: int, received_ns: int) -> None:
        """Say again what has not changed: the server just said that it had nothing new.

        The stamp is the server's time of publication where that clock is believed, since a value
        that is unchanged is as true then as when it last changed.
        """
        self._hear(received_ns)
        columns, now_ns = self.columns, self._context.clock.mono_ns()
        n = columns.n
        due = (
            (columns.said_ns[:n] <= (now_ns - self._repeat_ns if self._repeat_ns else NEVER_NS))
            & (columns.last_ns[:n] > 0)
            & (columns.last_quality[:n] != BAD)
            & (columns.group[:n] == group)
            & (columns.number[:n] >= 0)
        )
        handle = np.flatnonzero(due)
        if len(handle) == 0:
            return
        stamp_ns = ticks_to_ns(np.array([publish_ticks]))
        stamp, _ = self._rule.apply(stamp_ns, stamp_ns, received_ns)
        t_ns = np.maximum(stamp[0], columns.last_ns[handle] + 1)
        columns.last_ns[handle] = t_ns
        columns.said_ns[handle] = now_ns
        self._outbox.put(
            make_batch(
                self._source,
                columns.number[handle],
                t_ns,
                columns.last_value[handle],
                columns.last_quality[handle],
                received_ns,
            )
        )

    def _hear(self, received_ns: int) -> None:
        self.began_ns = self.began_ns or received_ns
        self.heard_ns = received_ns

    def stamp(self, values: Values, received_ns: int) -> NDArray[np.int64]:
        """UTC ns of each value by the source's rule; a clock that is off is counted."""
        source_ns, server_ns = values_stamps(values)
        t_ns, off = self._rule.apply(source_ns, server_ns, received_ns)
        if off:
            self._context.meter.errors["clock"] += off
        return t_ns

    def _take_numbers(self, values: Values, received_ns: int, *, polled: bool) -> None:
        columns = self.columns
        rows = columns.known(values.handle)
        if not rows.all():
            values = _only(values, rows)
        handle = values.handle
        raw = values.value
        quality = quality_of(values.status)
        t_ns = self.stamp(values, received_ns)
        last_ns = columns.last_ns[handle]
        keep = self._wanted(handle, raw, quality, t_ns)
        if polled:
            # A polled value that has not changed keeps its old stamp, and yet is true now.
            t_ns = np.where((t_ns <= last_ns) & (last_ns > 0), received_ns, t_ns)
        value = raw * columns.scale[handle] + columns.offset[handle]
        if not keep.all():
            handle, t_ns = handle[keep], t_ns[keep]
            value, quality = value[keep], quality[keep]
        self._outbox.put(
            make_batch(self._source, columns.number[handle], t_ns, value, quality, received_ns)
        )

    def _wanted(
        self,
        handle: NDArray[np.uint32],
        raw: NDArray[np.float64],
        quality: NDArray[np.uint8],
        t_ns: NDArray[np.int64],
    ) -> NDArray[np.bool_]:
        """Which samples are news, remembering them as each signal's last.

        Not news is the sample that ended the session before, and a change within a deadband.
        Of a session that was killed the log knows a later repetition.
        """
        columns = self.columns
        first = columns.last_ns[handle] == 0
        resumed_ns = columns.resumed_ns[handle]
        value = raw * columns.scale[handle] + columns.offset[handle]
        repeated = np.isclose(value, columns.resumed_value[handle], rtol=1e-6, atol=0.0)
        known_before = first & ((t_ns == resumed_ns) | (t_ns < resumed_ns) & repeated)
        within = np.zeros(len(handle), dtype=np.bool_)
        for part in turns(handle, np.flatnonzero(columns.deadband[handle] > 0)):
            at = handle[part]
            with np.errstate(invalid="ignore"):
                last = (columns.last_value[at] - columns.offset[at]) / columns.scale[at]
                near = np.abs(raw[part] - last) <= columns.deadband[at]
            same = (columns.last_quality[at] == quality[part]) & (columns.last_ns[at] > 0)
            within[part] = near & same
            moved = part[~(near & same)]
            columns.last_value[handle[moved]] = value[moved]
            columns.last_quality[handle[moved]] = quality[moved]
            columns.last_ns[handle[moved]] = t_ns[moved]
        fresh = ~within
        seen = handle[fresh]
        now_ns = self._context.clock.mono_ns()
        begun = columns.first_ns[seen] == 0
        # Of several rows of one signal the last assigned stays: for the first, go backwards.
        columns.first_ns[seen[begun][::-1]] = t_ns[fresh][begun][::-1]
        columns.newest_ns[seen] = columns.last_ns[seen] = t_ns[fresh]
        self._arrived.set()
        columns.last_value[seen] = value[fresh]
        columns.last_quality[seen] = np.where(np.isfinite(raw[fresh]), quality[fresh], BAD)
        # A first value that changed long ago is repeated at once, so that the signal is not stale;
        # one that was delivered before the outage is only repeated.
        aged = first & known_before
        if self._repeat_ns:
            aged |= first & (t_ns < self._context.clock.wall_ns() - self._repeat_ns)
        columns.said_ns[seen] = np.where(aged[fresh], NEVER_NS, now_ns)
        news: NDArray[np.bool_] = fresh & ~known_before
        return news

    def _not_structures(self, values: Values, items: Mapping[int, Item]) -> list[tuple[Item, str]]:
        """Bare numbers where the configuration expects a structure: they become BAD."""
        columns = self.columns
        if columns.plain[: columns.n].all():
            return []
        known = columns.known(values.handle)
        wrong = known & ~columns.plain[np.where(known, values.handle, 0)]
        wrong &= np.isfinite(values.value)
        values.value[wrong] = np.nan
        return [
            (items[handle], f"field {items[handle].signal.field}: the value is a plain number")
            for handle in values.handle[wrong].tolist()
            if handle in items
        ]

    def _take_burst(self, burst: Burst, received_ns: int) -> None:
        handle = burst.handle
        number, scale = int(self.columns.number[handle]), self.columns.scale[handle]
        value = burst.value * np.float32(scale) + np.float32(self.columns.offset[handle])
        stamp = self.stamp(
            Values(
                handle=np.array([burst.handle], dtype=np.uint32),
                value=np.zeros(1),
                status=np.array([burst.status], dtype=np.uint32),
                source_ticks=np.array([burst.source_ticks], dtype=np.int64),
                server_ticks=np.array([burst.server_ticks], dtype=np.int64),
            ),
            received_ns,
        )
        self._outbox.put(
            Waveform(
                source=self._source,
                signal=number,
                t0_ns=int(stamp[0]) - round(len(value) / burst.rate_hz * 1e9),
                rate_hz=burst.rate_hz,
                value=value,
                received_ns=received_ns,
            )
        )


def _only(values: Values, rows: NDArray[np.bool_]) -> Values:
    return Values(
        handle=values.handle[rows],
        value=values.value[rows],
        status=values.status[rows],
        source_ticks=values.source_ticks[rows],
        server_ticks=values.server_ticks[rows],
    )


def turns(handle: NDArray[np.uint32], rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The rows in parts that hold each signal once, its earlier rows in earlier parts."""
    if not len(rows):
        return []
    order = rows[np.argsort(handle[rows], kind="stable")]
    number = np.arange(len(order))
    begins = np.append([True], handle[order][1:] != handle[order][:-1])
    turn = number - np.maximum.accumulate(np.where(begins, number, 0))
    return [order[turn == k] for k in range(int(turn.max()) + 1)]
