"""Keeps the trends up to date with the log, and nothing else."""

import asyncio
from typing import Never

import structlog
from pydantic import TypeAdapter

from gateway.core.alarm import Transition
from gateway.core.assessment import Assessments
from gateway.core.clock import Clock
from gateway.core.errors import DataError, StoreError
from gateway.store.config import TrendBounds
from gateway.store.cursor import Cursor
from gateway.store.log import Log
from gateway.store.reader import LogReader
from gateway.store.record import Kind, Record
from gateway.store.trend_file import TrendFile, transition_body
from gateway.store.trend_reader import NUMBER_MAX, AssessmentHistory, Series, TrendReader
from gateway.store.trend_rows import WIDTHS_S, Rows, bucket, join
from gateway.store.trend_tables import FAR_S, FILE_NAME

WRITE_S_MIN = 2.0
WRITE_S_MAX = 10.0
"""Between two writes while data flows; a console sees trends this old."""
SIGNALS_PER_S = 250
"""Every write touches four rows of each signal, so many signals are written once a bucket."""
SAMPLES_MAX = 1 << 20
RETRY_S = 5.0
TIDY_S = 600.0
_KINDS = (Kind.SAMPLES, Kind.ASSESSMENT, Kind.TRANSITION)

LATE_MAX = 1000
_TRANSITIONS = TypeAdapter(list[Transition])
_events = structlog.get_logger()


class Trends:
    """Mean, least and greatest of each signal; assessments; alarms. In a file of its own.

    Its place in the log is kept in that file, in the transaction that moves it, so that nothing is
    counted twice; the cursor `trends` in the log only shows its lag.
    """

    def __init__(self, log: Log, bounds: TrendBounds, clock: Clock) -> None:
        self._log = log
        self._bounds = bounds
        self._clock = clock
        self._cursor = log.cursor("trends", _KINDS)
        self._reader = TrendReader(log.directory / FILE_NAME)
        self.damaged = 0

    async def run(self) -> Never:
        """Follow the log until cancelled. A disk that fails is waited for."""
        down = False
        while True:
            try:
                file = await asyncio.to_thread(self._open)
                try:
                    await self._follow(file)
                finally:
                    file.close()
            except StoreError as error:
                if not down:
                    _events.warning("trends.held", error=str(error))
                down = True
                await asyncio.sleep(RETRY_S)

    def close(self) -> None:
        self._reader.close()

    def series(self, signal: int, start_ns: int, end_ns: int, points_max: int = 1000) -> Series:
        """See `TrendReader.series`."""
        return self._reader.series(signal, start_ns, end_ns, points_max)

    def assessments(self, asset: str, start_ns: int, end_ns: int) -> AssessmentHistory:
        """See `TrendReader.assessments`."""
        return self._reader.assessments(asset, start_ns, end_ns)

    def transitions(
        self, start_ns: int, end_ns: int, asset: str | None, limit: int, before: int = 0
    ) -> list[tuple[int, Transition]]:
        """The newest `limit` alarm transitions of [start_ns, end_ns) with their numbers, from 1.

        Newest first; `before` pages on, 0 begins. Those that the log holds are all there, whether
        or not the trends have come to them.
        """
        rows = self._bodies(start_ns, end_ns, asset, limit, before)
        bodies = _TRANSITIONS.validate_json(f"[{','.join(body for _, body in rows)}]")
        return list(zip((number for number, _ in rows), bodies, strict=True))

    def transitions_json(
        self, start_ns: int, end_ns: int, asset: str | None, limit: int, before: int = 0
    ) -> bytes:
        """The same as a JSON list of `{"number": …, "transition": {…}}`, as it stands in the file.

        Nothing is decoded: ten thousand of them are a page that somebody waits for.
        """
        rows = self._bodies(start_ns, end_ns, asset, limit, before)
        parts = [f'{{"number":{number},"transition":{body}}}' for number, body in rows]
        return f"[{','.join(parts)}]".encode()

    def _bodies(
        self, start_ns: int, end_ns: int, asset: str | None, limit: int, before: int
    ) -> list[tuple[int, str]]:
        late = self._late()
        rows = self._reader.transitions(start_ns, end_ns, asset, limit, before)
        newest = rows[0][0] if rows else 0
        more = [
            (number, transition_body(t))
            for number, t in reversed(late)
            if newest < number < (before or NUMBER_MAX)
            and start_ns <= t.t_ns < end_ns
            and asset in (None, t.asset)
        ]
        return (more + rows)[:limit]

    def _late(self) -> list[tuple[int, Transition]]:
        """What the log holds and the file may not yet: who acts looks for it at once."""
        start, end = self._cursor.position(Kind.TRANSITION), self._log.heads()[Kind.TRANSITION]
        if start >= end:
            return []
        start = max(start, end - LATE_MAX)
        late: list[tuple[int, Transition]] = []
        reader = LogReader(self._log.path)
        try:
            for record in reader.read(Kind.TRANSITION, start, end, records_max=LATE_MAX):
                try:
                    late.append((record.seq, record.transition()))
                except DataError:
                    continue  # Damaged; counted when the trends come to it.
        finally:
            reader.close()
        return late

    def _open(self) -> TrendFile:
        file = TrendFile(self._log.directory / FILE_NAME, self._log.epoch())
        positions = file.positions()
        for kind in _KINDS:
            self._cursor.restart(kind, positions.get(kind.value, 1))
        return file

    async def _follow(self, file: TrendFile) -> Never:
        tidy_at_ns = self._clock.mono_ns()
        while True:
            seen = self._log.committed.rings
            more = await asyncio.to_thread(take_in, self._cursor, file)
            self.damaged += more.damaged
            if self._clock.mono_ns() >= tidy_at_ns:
                tidy_at_ns = self._clock.mono_ns() + round(TIDY_S * 1e9)
                await asyncio.to_thread(tidy, file, self._bounds, self._clock.wall_ns())
            if not more.full:
                often_s = len(self._log.signals) / SIGNALS_PER_S
                await asyncio.sleep(min(WRITE_S_MAX, max(WRITE_S_MIN, often_s)))
                await self._log.committed.wait(seen)


class Taken:
    """What one pass took in."""

    def __init__(self) -> None:
        self.full = False
        self.damaged = 0


def take_in(cursor: Cursor, file: TrendFile) -> Taken:
    """Bring the file up to the log, or one bounded step nearer to it."""
    taken = Taken()
    parts: list[Rows] = []
    assessments: list[Assessments] = []
    transitions: list[tuple[int, Transition]] = []
    ends: dict[Kind, int] = {}

    def read(record: Record) -> int:
        match record.kind:
            case Kind.SAMPLES:
                parts.append(bucket(record.columns()))
            case Kind.ASSESSMENT:
                assessments.append(record.assessments())
            case _:
                transitions.append((record.seq, record.transition()))
        return record.n

    for kind in _KINDS:
        count = 0
        while count < SAMPLES_MAX and len(assessments) < 4096 and len(transitions) < 4096:
            records = cursor.read(kind, after=ends.get(kind, 0))
            if not records:
                break
            for record in records:
                try:
                    count += read(record)
                except DataError:
                    taken.damaged += record.n
                ends[kind] = record.end
            if len(parts) > 64:
                parts[:] = [join(parts)]
        else:
            taken.full = True
    if ends:
        rows = join(parts) if parts else None
        places = {kind.value: end for kind, end in ends.items()}
        file.write(rows, assessments, transitions, places)
        for kind, end in ends.items():
            cursor.done(kind, cursor.position(kind), end)
    return taken


def tidy(file: TrendFile, bounds: TrendBounds, now_ns: int) -> None:
    """Pack what no longer changes, and drop what is too old or too much.

    At most one page of each width goes in a pass, so that a clock that is years off does not empty
    the trends at once.
    """
    now_s, day_ns = now_ns // 10**9, 86_400 * 10**9
    days = (bounds.days_10s, bounds.days_1min, bounds.days_10min, bounds.days_1h)
    for width, kept in zip(WIDTHS_S, days, strict=True):
        file.pack(width, now_s)
        file.drop_page(width, now_s - round(kept * 86_400))
    file.settle()
    file.thin(now_ns - round(bounds.assessments_full_days * day_ns))
    file.drop_before("assessment", "t", now_ns - round(bounds.assessments_days * day_ns))
    file.drop_before("transition", "t", now_ns - round(bounds.alarms_days * day_ns))
    for width in WIDTHS_S:
        # The narrowest goes first: what it says, the wider ones say too, less finely.
        while file.file_bytes() > bounds.gb_max * 1e9:
            if not file.drop_page(width, FAR_S):
                break
    while file.file_bytes() > bounds.gb_max * 1e9:
        if not file.drop_oldest_assessments():
            break
