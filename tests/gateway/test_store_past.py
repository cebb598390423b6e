"""What an earlier run logged last, as the sources of this one are told."""

from pathlib import Path

import numpy as np
import pytest

from gateway.core.batch import Quality, make_batch
from gateway.core.channel import Channel, WhenFull
from gateway.core.clock import SystemClock
from gateway.core.signals import Signal
from gateway.store.config import StoreConfig
from gateway.store.log import Log
from gateway.store.past import LOOK_BACK_NS, Past

from .storing import SECOND_NS, T0_NS

NOBODY = Channel(samples_max=1, when_full=WhenFull.BLOCK)
"""Nobody sends anything."""


class Later(SystemClock):
    """A wall clock that the test moves on."""

    ahead_ns = 0

    def wall_ns(self) -> int:
        return super().wall_ns() + self.ahead_ns


async def put(log: Log, signal: int, at_s: float, value: float, quality: int = 0) -> None:
    t_ns = np.array([T0_NS + round(at_s * SECOND_NS)])
    log.append(
        make_batch(
            "plc",
            np.array([signal], np.int32),
            t_ns,
            np.array([value]),
            np.array([quality], np.uint8),
            T0_NS,
        )
    )
    await log.flush()


async def test_the_last_usable_sample_of_the_run_before(tmp_path: Path) -> None:
    clock = Later()
    log = Log.open(tmp_path, StoreConfig(), clock)
    for name in ("old", "late", "bad"):
        log.signals.intern(_signal(name))
    await put(log, 0, 0, 1.0)
    clock.ahead_ns = LOOK_BACK_NS + 60 * SECOND_NS
    await put(log, 1, 200, 5.0)
    await put(log, 1, 190, 4.0)  # From the past, and logged after.
    await put(log, 2, 195, 3.0)
    await put(log, 2, 201, 0.0, Quality.BAD)  # The link was lost.
    log.close()
    log = Log.open(tmp_path, StoreConfig(), clock)
    try:
        past = Past(log, NOBODY)
        await put(log, 1, 300, 9.0)  # This run's own is not the past.
        t_ns, value = await past.last([0, 1, 2, 99])
        assert ((t_ns - T0_NS) // SECOND_NS).tolist()[1:3] == [200, 195]
        assert t_ns[[0, 3]].tolist() == [0, 0]
        assert value[1:3].tolist() == [5.0, 3.0]
        assert np.isnan(value[[0, 3]]).all()
        number, t_ns, value = await past.samples([1], T0_NS, T0_NS + 301 * SECOND_NS)
        assert number.tolist() == [1, 1, 1]
        assert ((t_ns - T0_NS) // SECOND_NS).tolist() == [190, 200, 300]
        assert value.tolist() == [4.0, 5.0, 9.0]
    finally:
        log.close()


async def test_an_empty_log_knows_nothing(tmp_path: Path) -> None:
    log = Log.open(tmp_path, StoreConfig(), SystemClock())
    try:
        t_ns, value = await Past(log, NOBODY).last([0])
    finally:
        log.close()
    assert t_ns.tolist() == [0]
    assert value == pytest.approx([np.nan], nan_ok=True)


def _signal(name: str) -> Signal:
    return Signal("pump", name)
