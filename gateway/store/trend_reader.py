"""Answers questions about the past from the trends: what the console and `forewarn export` read."""

import json
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.core.errors import DataError, StoreError
from gateway.store.schema import connect_reader
from gateway.store.trend_rows import PAGE_BUCKETS, WIDTHS_S, Rows, join, rows_of, unpack_page
from gateway.store.trend_tables import FAR_S, by_time

ROWS_MAX = 1_000_000
NUMBER_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One signal over time, at most `points_max` points.

    Attributes:
        t_ns: int64[n], UTC ns, start of each bucket.
        mean: float64[n].
        least: float64[n].
        greatest: float64[n].
        count: int64[n], usable samples in the bucket, >= 1.
        width_s: Width of a bucket.
    """

    t_ns: NDArray[np.int64]
    mean: NDArray[np.float64]
    least: NDArray[np.float64]
    greatest: NDArray[np.float64]
    count: NDArray[np.int64]
    width_s: float


@dataclass(frozen=True, slots=True, eq=False)
class AssessmentHistory:
    """Verdicts on one asset over time.

    Attributes:
        t_ns: int64[n], UTC ns of the window's end, ascending.
        bundle: Identifier of the bundle of each row.
        score: float64[n], NaN where abstained.
        limit: float64[n].
        coverage: float64[n], 0 to 1.
        abstained: The reason of each row, "" where there is a verdict.
        signals: The `k` signals that any of the rows speaks of.
        contribution: float32[n, k], NaN where a row's bundle does not know the signal.
        direction: int8[n, k].
        outputs: Names of the `m` head outputs that any of the rows has.
        output: float32[n, m], NaN where absent.
    """

    t_ns: NDArray[np.int64]
    bundle: tuple[str, ...]
    score: NDArray[np.float64]
    limit: NDArray[np.float64]
    coverage: NDArray[np.float64]
    abstained: tuple[str, ...]
    signals: tuple[str, ...]
    contribution: NDArray[np.float32]
    direction: NDArray[np.int8]
    outputs: tuple[str, ...]
    output: NDArray[np.float32]

    @property
    def severity(self) -> NDArray[np.float64]:
        """float64[n], score / limit."""
        return self.score / self.limit


class TrendReader:
    """One read connection and its lock; any thread, and another process, may use it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None

    def close(self) -> None:
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    def series(self, signal: int, start_ns: int, end_ns: int, points_max: int = 1000) -> Series:
        """Mean, least and greatest of one signal over [start_ns, end_ns).

        The narrowest kept width that needs no more than `points_max` points is taken; where even
        the widest needs more, its buckets are merged.
        """
        assert points_max >= 1
        span_s = max(1.0, (end_ns - start_ns) / 1e9)
        start_s, end_s = start_ns // 1_000_000_000, -(-end_ns // 1_000_000_000)
        width_s = self._width(signal, start_s, span_s / points_max)
        rows = self._rows(width_s, signal, start_s // width_s * width_s, end_s)
        table = np.column_stack([column.astype(np.float64) for column in rows[1:]])
        return _merge(table, width_s, points_max)

    def assessments(self, asset: str, start_ns: int, end_ns: int) -> AssessmentHistory:
        """What models said of one asset over [start_ns, end_ns), with contributions."""
        rows = self._query(
            f"WITH new AS ({by_time('recent', 'asset = :asset')}), every AS ("  # noqa: S608
            "SELECT * FROM assessment WHERE asset = :asset AND t >= :start AND t < :end "
            "UNION ALL SELECT * FROM new) "
            "SELECT t, bundle, score, max_score, coverage, abstained, contribution, direction, "
            f"output, head FROM every JOIN shape ON shape.id = shape ORDER BY t LIMIT {ROWS_MAX}",
            {"asset": asset, "start": start_ns, "end": end_ns},
        )
        heads = {text: json.loads(text) for text in {row[9] for row in rows}}
        signals = tuple(dict.fromkeys(s for head in heads.values() for s in head["signals"]))
        outputs = tuple(dict.fromkeys(s for head in heads.values() for s in head["outputs"]))
        contribution = np.full((len(rows), len(signals)), np.nan, dtype=np.float32)
        direction = np.zeros((len(rows), len(signals)), dtype=np.int8)
        output = np.full((len(rows), len(outputs)), np.nan, dtype=np.float32)
        places = {
            text: (
                [signals.index(s) for s in head["signals"]],
                [outputs.index(s) for s in head["outputs"]],
            )
            for text, head in heads.items()
        }
        for i, row in enumerate(rows):
            of_signal, of_output = places[row[9]]
            contribution[i, of_signal] = np.frombuffer(row[6], dtype="<f4")
            direction[i, of_signal] = np.frombuffer(row[7], dtype="i1")
            if row[8]:
                output[i, of_output] = np.frombuffer(row[8], dtype="<f4")
        return AssessmentHistory(
            t_ns=np.array([row[0] for row in rows], dtype=np.int64),
            bundle=tuple(row[1] for row in rows),
            score=_reals(row[2] for row in rows),
            limit=_reals(row[3] for row in rows),
            coverage=_reals(row[4] for row in rows),
            abstained=tuple(row[5] for row in rows),
            signals=signals,
            contribution=contribution,
            direction=direction,
            outputs=outputs,
            output=output,
        )

    def assets(self) -> list[str]:
        """Assets that were ever assessed."""
        return [
            row[0]
            for row in self._query("SELECT asset FROM assessment UNION SELECT asset FROM recent")
        ]

    def transitions(
        self, start_ns: int, end_ns: int, asset: str | None, limit: int, before: int = 0
    ) -> list[tuple[int, str]]:
        """The newest `limit` alarm transitions of [start_ns, end_ns), newest first.

        Returns:
            Number, from 1, and the transition as JSON; `before` pages on, 0 begins.
        """
        # `+t` walks the table by number: by the index on t, every row of the span would be sorted.
        return self._query(
            "SELECT seq, body FROM transition WHERE +t >= ? AND +t < ? "
            "AND (? IS NULL OR asset = ?) AND seq < ? ORDER BY seq DESC LIMIT ?",
            (start_ns, end_ns, asset, asset, before or NUMBER_MAX, limit),
        )

    def _rows(self, width_s: int, signal: int, start_s: int, end_s: int) -> Rows:
        """Buckets of [start, end), from pages and from rows."""
        page_s = width_s * PAGE_BUCKETS
        parts = [
            rows_of(
                self._query(
                    f"{by_time(f'trend_{width_s}', 'signal = :signal')} LIMIT {ROWS_MAX}",
                    {"signal": signal, "start": start_s, "end": end_s},
                )
            )
        ]
        for (body,) in self._query(
            f"SELECT body FROM page_{width_s} WHERE signal = ? AND page >= ? AND page <= ? "  # noqa: S608
            "ORDER BY page LIMIT ?",
            (signal, start_s // page_s, end_s // page_s, ROWS_MAX // PAGE_BUCKETS),
        ):
            try:
                rows = unpack_page(signal, body)
            except DataError:
                continue  # The disk has altered it; a wider width may still have that time.
            inside = (rows[1] >= start_s) & (rows[1] < end_s)
            parts.append(
                (
                    rows[0][inside],
                    rows[1][inside],
                    rows[2][inside],
                    rows[3][inside],
                    rows[4][inside],
                    rows[5][inside],
                )
            )
        return join(parts)

    def _oldest(self, width_s: int, signal: int) -> int:
        """Start of the oldest bucket of a signal, in s; far in the future where there is none."""
        row = self._query(
            f"{by_time(f'trend_{width_s}', 'signal = :signal')} LIMIT 1",
            {"signal": signal, "start": -FAR_S, "end": FAR_S},
        )
        page = self._query(
            f"SELECT page FROM page_{width_s} WHERE signal = ? ORDER BY page LIMIT 1",  # noqa: S608
            (signal,),
        )
        found = [t for _, t, *_ in row] + [p * width_s * PAGE_BUCKETS for (p,) in page]
        return min(found, default=1 << 62)

    def _width(self, signal: int, start_s: int, width_s_min: float) -> int:
        """The narrowest width that is wide enough and still reaches back to the start."""
        oldest = {width: self._oldest(width, signal) for width in WIDTHS_S}
        for width, wider in pairwise(WIDTHS_S):
            reaches = oldest[width] <= start_s or oldest[width] < oldest[wider] + wider
            if width >= width_s_min and reaches:
                return width
        return WIDTHS_S[-1]

    def _query(
        self, sql: str, parameters: Sequence[object] | Mapping[str, object] = ()
    ) -> list[Any]:
        with self._lock:
            try:
                if self._db is None:
                    self._db = connect_reader(self.path)
                return self._db.execute(sql, parameters).fetchall()
            except sqlite3.Error as error:
                if self._db is not None:
                    self._db.close()
                    self._db = None
                older = "; `forewarn run` brings an older file up to date" if _lacks(error) else ""
                raise StoreError(
                    f"{self.path}: the trends cannot be read ({error}){older}"
                ) from error


def _lacks(error: sqlite3.Error) -> bool:
    """Whether a table is missing that a later version writes."""
    return "no such table" in str(error)


def _merge(table: NDArray[np.float64], width_s: int, points_max: int) -> Series:
    """Merge neighbours until there are no more than `points_max`."""
    step = max(1, -(-len(table) // points_max))
    at = np.arange(0, len(table), step)
    if not len(table):
        nothing = np.empty(0)
        return Series(
            np.empty(0, np.int64), nothing, nothing, nothing, np.empty(0, np.int64), width_s
        )
    count = np.add.reduceat(table[:, 1], at)
    return Series(
        t_ns=table[at, 0].astype(np.int64) * 1_000_000_000,
        mean=np.add.reduceat(table[:, 2], at) / count,
        least=np.minimum.reduceat(table[:, 3], at),
        greatest=np.maximum.reduceat(table[:, 4], at),
        count=count.astype(np.int64),
        width_s=width_s * step,
    )


def _reals(values: Any) -> NDArray[np.float64]:
    """SQLite keeps NaN as NULL."""
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)
