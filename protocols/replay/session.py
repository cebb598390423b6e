"""Keeps the time of one replay: which rows are due, and what time they are given."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gateway.core.batch import Batch, Quality, Waveform, bad_batch, make_batch
from gateway.core.clock import sleep_until
from gateway.core.errors import DataError, LinkRefused
from gateway.core.source import Source, SourceContext
from protocols.replay.columns import NO_TIME, times_of, values_of
from protocols.replay.settings import Settings
from protocols.replay.table import Block, read_blocks


@asynccontextmanager
async def open_session(config: Settings, context: SourceContext) -> AsyncIterator["ReplaySession"]:
    """See that the recordings are there, and begin."""
    for name in config.files:
        if not Path(name).is_file():  # noqa: ASYNC240 (one look at a local file)
            raise LinkRefused(f"no such file: {name}; see files")
    end_ns = 0
    if config.times == "now" and config.speed != 1:
        end_ns = await asyncio.to_thread(_last_time, config)
    yield ReplaySession(config, context, end_ns)


class ReplaySession:
    """Hands on the rows of one replay as they fall due."""

    def __init__(self, config: Settings, context: SourceContext, end_ns: int) -> None:
        self._config = config
        self._context = context
        self._end_ns = end_ns
        self._indices = self._intern(config)
        self._pending_bad: list[int] = []
        self._row = 0
        self._not_before_ns = 0
        self._begin()

    async def read(self) -> Batch | Waveform:
        """See `Session.read`. After the last row it waits for ever: the machine is silent."""
        while True:
            if self._pending_bad:
                lacking, self._pending_bad = np.array(self._pending_bad, dtype=np.int32), []
                return bad_batch(self._config.id, lacking, self._context.clock.wall_ns())
            if self._block is None or self._row >= len(self._times):
                if not self._next_block():
                    await asyncio.Event().wait()
                await sleep_until(self._context.clock, self._not_before_ns)
                continue
            rows = await self._due()
            batch = self._batch(self._block, rows)
            self._row = rows.stop
            if batch is not None:
                return batch

    async def apply(self, source: Source) -> bool:
        """See `Session.apply`. Signals come and go at the row where the replay is."""
        if not isinstance(source, Settings) or source.recording() != self._config.recording():
            return False
        self._config = source
        self._indices = self._intern(source)
        mine = {str(signal.key()) for signal in source.signals}
        for name in set(self._context.meter.quarantined) - mine:
            del self._context.meter.quarantined[name]
        if self._block is not None:
            self._see_what_lacks(self._block)
        return True

    def _intern(self, config: Settings) -> list[int]:
        return [self._context.signals.intern(signal.key()) for signal in config.signals]

    def _begin(self) -> None:
        self._blocks: Iterator[tuple[Path, Block]] = _all_blocks(self._config)
        self._block: Block | None = None
        self._times: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._row = 0
        self._rows_before = 0
        self._recorded_ns: int | None = None
        self._started_ns = 0
        self._shift_ns = 0

    def _next_block(self) -> bool:
        """Turn to the next rows; False where the replay is over."""
        try:
            path, block = next(self._blocks)
        except StopIteration:
            if self._config.repeat and self._recorded_ns is not None:
                self._begin()
                # A row's distance from the last one, or a recording of one row would spin.
                wait_ns = round(self._config.interval_s * 1e9)
                self._not_before_ns = self._context.clock.mono_ns() + wait_ns
                return True
            self._context.log.info("replay.finished", rows=self._rows_before)
            return False
        except (OSError, DataError) as error:
            raise LinkRefused(f"recording cannot be read on: {error}; see files") from error
        if self._config.time_column and self._config.time_column not in block.columns:
            names = ", ".join(block.columns)
            raise LinkRefused(
                f"{path.name}: has no column {self._config.time_column!r} for the time; it has "
                f"{names}; see time_column and delimiter"
            )
        if block.ragged:
            self._context.meter.errors["ragged"] += block.ragged
        times = times_of(block, self._config, self._rows_before)
        lacking = int(np.count_nonzero(times == NO_TIME))
        if lacking == block.rows and not self._rows_before:
            cell = str(block.columns[self._config.time_column][0])
            raise LinkRefused(
                f"{path.name}: no time can be read in column {self._config.time_column!r}, such as "
                f"{cell!r}, by time_form {self._config.time_form!r}; see time_form"
            )
        if lacking:
            self._context.meter.errors["clock"] += lacking
        self._rows_before += block.rows
        self._block, self._times, self._row = block, times, 0
        self._see_what_lacks(block)
        return True

    def _see_what_lacks(self, block: Block) -> None:
        quarantined = self._context.meter.quarantined
        for signal, index in zip(self._config.signals, self._indices, strict=True):
            name = str(signal.key())
            if signal.column_name in block.columns:
                quarantined.pop(name, None)
            elif name not in quarantined:
                quarantined[name] = f"the recording has no column {signal.column_name!r}"
                self._context.meter.errors["column"] += 1
                self._pending_bad.append(index)

    async def _due(self) -> slice:
        """The rows to hand on now, waiting for the next one where it is not due yet."""
        times = self._times
        first = self._row
        if times[first] == NO_TIME:
            return slice(first, first + 1)
        if self._recorded_ns is None:
            self._start(int(times[first]))
        last = min(len(times), first + self._config.rows_per_batch_max)
        if self._config.speed == 0:
            # Lets others run, who may want to stop a replay that never waits for anything.
            await asyncio.sleep(0)
            return slice(first, last)
        await sleep_until(self._context.clock, self._due_ns(int(times[first])))
        now_ns = self._context.clock.mono_ns()
        # As far as the recording goes by now; a row that steps back in time is due at once.
        assert self._recorded_ns is not None
        reached_ns = self._recorded_ns + (now_ns - self._started_ns) * self._config.speed
        later = np.flatnonzero(times[first + 1 : last] > reached_ns)
        return slice(first, first + 1 + int(later[0]) if len(later) else last)

    def _start(self, recorded_ns: int) -> None:
        clock = self._context.clock
        self._recorded_ns = recorded_ns
        self._started_ns = clock.mono_ns()
        if self._config.times == "kept":
            self._shift_ns = 0
        elif self._config.speed == 1:
            self._shift_ns = clock.wall_ns() - recorded_ns
        else:
            # The last row gets the time at which it will be handed on, so none lies in the future.
            length_ns = self._end_ns - recorded_ns
            takes_ns = round(length_ns / self._config.speed) if self._config.speed else 0
            self._shift_ns = clock.wall_ns() + takes_ns - self._end_ns

    def _due_ns(self, t_ns: int) -> int:
        assert self._recorded_ns is not None
        return self._started_ns + round((t_ns - self._recorded_ns) / self._config.speed)

    def _batch(self, block: Block, rows: slice) -> Batch | None:
        """Row by row, each row's signals in their order; None where all cells are empty."""
        times = self._times[rows]
        known = times != NO_TIME
        columns, marks, indices = [], [], []
        for signal, index in zip(self._config.signals, self._indices, strict=True):
            cells = block.columns.get(signal.column_name)
            if cells is None:
                continue
            values, present, wrong = values_of(
                cells[rows], signal, decimal_comma=self._config.decimal_comma
            )
            if wrong:
                self._context.meter.errors["value"] += wrong
            columns.append(values)
            marks.append(present & known)
            indices.append(index)
        if not columns:
            return None
        mask = np.stack(marks, axis=1)
        if not mask.any():
            return None
        n = mask.shape[0]
        value = np.stack(columns, axis=1)[mask]
        signal_numbers = np.tile(np.array(indices, dtype=np.int32), (n, 1))[mask]
        t_ns = np.repeat((times + self._shift_ns)[:, None], len(indices), axis=1)[mask]
        quality = np.full(len(value), Quality.GOOD, dtype=np.uint8)
        received_ns = self._context.clock.wall_ns()
        return make_batch(self._config.id, signal_numbers, t_ns, value, quality, received_ns)


def _all_blocks(config: Settings) -> Iterator[tuple[Path, Block]]:
    for name in config.files:
        path = Path(name)
        for block in read_blocks(path, delimiter=config.delimiter):
            yield path, block


def _last_time(config: Settings) -> int:
    """The greatest time of all recordings."""
    latest, rows = NO_TIME, 0
    try:
        for _, block in _all_blocks(config):
            if config.time_column and config.time_column not in block.columns:
                break  # The first read says so, with the names that there are.
            if block.rows:
                latest = max(latest, int(times_of(block, config, rows).max()))
            rows += block.rows
    except (OSError, DataError) as error:
        raise LinkRefused(f"recording cannot be read: {error}; see files") from error
    return 0 if latest == NO_TIME else latest
