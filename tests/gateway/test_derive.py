"""Derived signals: aligned to their first input, BAD where an input is, carried between batches."""

import numpy as np
import pytest

from gateway.core.batch import Batch, Quality
from gateway.core.errors import ConfigError
from gateway.core.signals import Signal, SignalTable
from gateway.pipeline.config import DeriveConfig
from gateway.pipeline.derive import Derive

TORQUE, SPEED = Signal("press", "torque", "Nm"), Signal("press", "speed", "rpm")
SOURCES = {TORQUE: "plc", SPEED: "plc", Signal("other", "speed", "rpm"): "plc"}


def make(expression: str) -> tuple[Derive, SignalTable]:
    table = SignalTable(SOURCES)
    config = DeriveConfig(asset="press", signal="power", unit="W", expression=expression)
    return Derive([config], SOURCES, table), table


def batch(rows: list[tuple[int, int, float]]) -> Batch:
    value = np.array([v for _, _, v in rows])
    return Batch(
        source="plc",
        signal=np.array([s for s, _, _ in rows], dtype=np.int32),
        t_ns=np.array([t for _, t, _ in rows], dtype=np.int64),
        value=value,
        quality=np.where(np.isnan(value), Quality.BAD, Quality.GOOD).astype(np.uint8),
        received_ns=0,
    )


def test_a_product_follows_its_first_signal() -> None:
    derive, table = make("torque * speed * 2")
    first = derive.derive(batch([(0, 10, 3.0), (1, 5, 7.0), (0, 20, 4.0), (1, 15, 8.0)]))
    assert first is not None
    assert table[int(first.signal[0])] == Signal("press", "power", "W")
    assert first.t_ns.tolist() == [10, 20]
    assert first.value.tolist() == [42.0, 64.0]
    # The speed is carried into a batch that has none of it.
    second = derive.derive(batch([(0, 30, 5.0)]))
    assert second is not None
    assert second.value.tolist() == [80.0]


def test_what_is_bad_or_not_there_yet_is_bad() -> None:
    derive, _ = make("torque * speed")
    early = derive.derive(batch([(0, 1, 3.0)]))
    assert early is not None
    assert early.quality.tolist() == [Quality.BAD]
    bad = derive.derive(batch([(1, 2, np.nan), (0, 3, 1.0)]))
    assert bad is not None
    assert bad.quality.tolist() == [Quality.BAD]
    zero, _ = make("torque / speed")
    divided = zero.derive(batch([(1, 1, 0.0), (0, 2, 1.0)]))
    assert divided is not None
    assert divided.quality.tolist() == [Quality.BAD]


def test_a_batch_without_the_first_signal_gives_nothing() -> None:
    derive, _ = make("torque * speed")
    assert derive.derive(batch([(1, 1, 5.0), (2, 1, 9.0)])) is None


@pytest.mark.parametrize("expression", ["torque * spd", "__import__('os')", "1 + 1", "torque +"])
def test_a_wrong_expression_is_the_operators_to_mend(expression: str) -> None:
    with pytest.raises(ConfigError, match=r"derive\[0\]\.expression"):
        make(expression)
