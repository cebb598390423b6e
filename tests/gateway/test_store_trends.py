"""Trends agree with the samples they are made of, and count nothing twice."""

import asyncio
from pathlib import Path

import numpy as np

from gateway.core.batch import make_batch
from gateway.core.clock import SystemClock
from gateway.store.config import TrendBounds
from gateway.store.log import Log
from gateway.store.trend_file import TrendFile
from gateway.store.trend_tables import FILE_NAME
from gateway.store.trends import Trends, take_in, tidy

from ..eventually import eventually
from .storing import SECOND_NS, T0_NS, assessments, opened, transition


def fill(log: Log, seconds: int, *, start: int = 0) -> None:
    number = np.arange(start * 10, (start + seconds) * 10)
    quality = np.where(number % 100 == 7, 2, 0).astype(np.uint8)
    log.append(
        make_batch(
            "s",
            np.zeros(len(number), dtype=np.int32),
            T0_NS + number * 100_000_000,
            number.astype(np.float64),
            quality,
            T0_NS,
        )
    )


async def test_buckets_hold_mean_least_and_greatest(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        trends = Trends(log, TrendBounds(), SystemClock())
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(trends.run())
            fill(log, 60)
            log.append(assessments(T0_NS, 0.5))
            log.append(assessments(T0_NS + SECOND_NS, 2.0))
            log.append(transition(T0_NS))
            await log.flush()
            await eventually(lambda: log.cursor("trends").lag() == 0)
            running.cancel()
        series = trends.series(0, T0_NS, T0_NS + 60 * SECOND_NS)
        assert series.width_s == 10
        assert series.t_ns.tolist() == [T0_NS + i * 10 * SECOND_NS for i in range(6)]
        assert series.count.tolist() == [99] * 6  # One of each hundred is BAD.
        assert series.least.tolist() == [0, 100, 200, 300, 400, 500]
        assert series.greatest.tolist() == [99, 199, 299, 399, 499, 599]
        assert np.allclose(series.mean, [(4950 - 7 + 9900 * i) / 99 - i / 99 for i in range(6)], 1)

        one = trends.series(0, T0_NS, T0_NS + 60 * SECOND_NS, points_max=1)
        assert one.count.tolist() == [594]
        history = trends.assessments("pump", T0_NS, T0_NS + 10 * SECOND_NS)
        assert history.severity.tolist() == [0.5, 2.0]
        assert history.signals == ("vibration", "power")
        assert history.contribution.tolist() == [[0.75, 0.25]] * 2
        assert trends.transitions(0, 1 << 62, None, 10) == [(1, transition(T0_NS))]
        assert trends.transitions(0, 1 << 62, "fan", 10) == []
        trends.close()


async def test_a_crash_between_log_and_trends_counts_nothing_twice(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        for start in range(0, 30, 10):
            fill(log, 10, start=start)
            await log.flush()
            # The place in the log is lost each time; that in the trends' own file counts.
            trends = Trends(log, TrendBounds(), SystemClock())
            file = trends._open()
            take_in(log.cursor("trends"), file)
            file.close()
        series = trends.series(0, T0_NS, T0_NS + 60 * SECOND_NS)
        assert series.count.tolist() == [99, 99, 99]
        trends.close()


def at_s(seconds: int) -> int:
    """So many seconds after the first sample, as UTC ns."""
    return T0_NS + seconds * SECOND_NS


async def test_retention_keeps_wider_buckets_longer(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        fill(log, 3600)
        await log.flush()
        trends = Trends(log, TrendBounds(), SystemClock())
        file = trends._open()
        take_in(log.cursor("trends"), file)
        for _ in range(3):
            tidy(file, TrendBounds(), at_s(10 * 86_400))
        file.close()
        series = trends.series(0, T0_NS, at_s(3600))
        assert series.width_s == 60
        assert series.count.sum() == 35_640
        trends.close()


async def test_packed_buckets_read_as_the_rows_did_and_take_a_few_bytes(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        fill(log, 7200)
        await log.flush()
        trends = Trends(log, TrendBounds(), SystemClock())
        file = trends._open()
        take_in(log.cursor("trends"), file)
        before = trends.series(0, T0_NS, at_s(7200))
        assert file.pack(10, at_s(7201) // SECOND_NS) == 720
        after = trends.series(0, T0_NS, at_s(7200))
        for name in ("t_ns", "least", "greatest", "count"):
            assert np.array_equal(getattr(after, name), getattr(before, name)), name
        assert np.allclose(after.mean, before.mean, rtol=1e-6)
        part = trends.series(0, at_s(3550), at_s(3650))
        assert part.t_ns.tolist() == [at_s(s) for s in range(3550, 3650, 10)]
        (size,) = file._db.execute("SELECT sum(length(body)) FROM page_10").fetchone()
        assert size / 720 < 8

        # What arrives late joins its page.
        fill(log, 20, start=100)
        await log.flush()
        take_in(log.cursor("trends"), file)
        assert file.pack(10, at_s(7201) // SECOND_NS) == 2
        late = trends.series(0, T0_NS, at_s(7200))
        assert late.count.tolist()[8:14] == [99, 99, 198, 198, 99, 99]
        file.close()
        trends.close()


async def test_trends_keep_within_their_size_narrowest_first(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        fill(log, 7200)
        await log.flush()
        trends = Trends(log, TrendBounds(), SystemClock())
        file = trends._open()
        take_in(log.cursor("trends"), file)
        tidy(file, TrendBounds(gb_max=0.000_01), at_s(7201))
        series = trends.series(0, T0_NS, at_s(7200))
        assert series.width_s > 10
        assert series.count.sum() == 71_280
        file.close()
        trends.close()


async def test_old_assessments_are_thinned_to_the_most_severe(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        for i in range(1200):
            log.append(assessments(at_s(i), 0.9 if i in (77, 900) else 0.1, ("pump", "fan")))
        await log.flush()
        trends = Trends(log, TrendBounds(), SystemClock())
        file = trends._open()
        take_in(log.cursor("trends"), file)
        tidy(file, TrendBounds(), at_s(86_400))
        assert len(trends.assessments("fan", T0_NS, at_s(1200)).t_ns) == 1200
        tidy(file, TrendBounds(), at_s(3 * 86_400))
        for asset in ("pump", "fan"):
            history = trends.assessments(asset, T0_NS, at_s(1200))
            assert history.t_ns.tolist() == [at_s(77), at_s(900)]
        file.close()
        trends.close()


async def test_trends_of_another_log_are_set_aside(tmp_path: Path) -> None:
    TrendFile(tmp_path / FILE_NAME, "one").close()
    TrendFile(tmp_path / FILE_NAME, "two").close()
    assert (tmp_path / "trends.db.old").exists()
