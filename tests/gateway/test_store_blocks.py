"""Blocks give back every bit, take few bytes, and know when they were altered."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gateway.core.batch import make_batch
from gateway.core.errors import DataError
from gateway.store.blocks import (
    Columns,
    FormMemory,
    decode,
    decode_waveform,
    encode,
    encode_waveform,
)

values = st.one_of(
    st.floats(width=64),
    st.floats(width=32),
    st.integers(-(10**15), 10**15).map(float),
    st.integers(-30_000, 30_000).map(lambda n: n * 0.1),
    st.integers(-30_000, 30_000).map(lambda n: n / 100),
    st.just(-0.0),
)
rows = st.tuples(st.integers(0, 40), st.integers(-(2**62), 2**62), values, st.integers(0, 2))


def columns_of(samples: list[tuple[int, int, float, int]]) -> Columns:
    signal, t_ns, value, quality = zip(*samples, strict=True)
    batch = make_batch(
        "s",
        np.array(signal, dtype=np.int32),
        np.array(t_ns, dtype=np.int64),
        np.array(value, dtype=np.float64),
        np.array(quality, dtype=np.uint8),
        0,
    )
    return batch.signal, batch.t_ns, batch.value, batch.quality


def assert_same(got: Columns, wanted: Columns) -> None:
    assert [column.dtype for column in (*got,)] == [column.dtype for column in (*wanted,)]
    assert np.array_equal(got[0], wanted[0])
    assert np.array_equal(got[1], wanted[1])
    usable = ~np.isnan(wanted[2])
    assert np.array_equal(np.isnan(got[2]), ~usable)
    assert np.array_equal(got[2][usable].view(np.int64), wanted[2][usable].view(np.int64))
    assert np.array_equal(got[3], wanted[3])


@given(st.lists(st.lists(rows, min_size=1, max_size=60), min_size=1, max_size=3))
def test_every_bit_comes_back_whatever_was_packed_before(
    blocks: list[list[tuple[int, int, float, int]]],
) -> None:
    memory = FormMemory()
    for samples in blocks:
        columns = columns_of(samples)
        assert_same(decode(encode(columns, memory)), columns)


@given(hnp.arrays(np.float32, st.integers(0, 300)))
def test_waveforms_come_back(value: np.ndarray[tuple[int], np.dtype[np.float32]]) -> None:
    assert decode_waveform(encode_waveform(value)).tobytes() == value.tobytes()


def test_a_long_waveform_comes_back() -> None:
    value = np.sin(np.arange(1_500_000, dtype=np.float32) / 50).astype(np.float32)
    assert decode_waveform(encode_waveform(value)).tobytes() == value.tobytes()


@given(st.data())
def test_an_altered_block_is_a_data_error_and_nothing_else(data: st.DataObject) -> None:
    block = bytearray(encode(columns_of([(0, 10, 1.5, 0), (1, 20, 2.5, 1)] * 50)))
    at = data.draw(st.integers(0, len(block) - 1))
    block[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(DataError):
        decode(bytes(block))
    with pytest.raises(DataError):
        decode(bytes(block[: data.draw(st.integers(0, len(block) - 1))]))


def polled(kind: str, signals: int = 250, cycles: int = 60) -> Columns:
    """One minute of a polled machine: sensors with noise, read once a second with jitter."""
    random = np.random.default_rng(7)
    n = signals * cycles
    walk = random.uniform(10, 500, signals) + np.cumsum(
        random.normal(0, 0.2, (cycles, signals)), axis=0
    )
    value = {
        "decimal": np.round(walk, 1),
        "register": np.round(walk * 10) * 0.1,
        "float32": walk.astype(np.float32).astype(np.float64),
    }[kind]
    t_ns = 10**18 + np.arange(cycles) * 10**9 + random.integers(0, 5_000_000, cycles)
    return (
        np.tile(np.arange(signals, dtype=np.int32), cycles),
        np.repeat(t_ns, signals),
        value.reshape(n),
        np.zeros(n, dtype=np.uint8),
    )


@pytest.mark.parametrize(
    ("kind", "bytes_max"), [("decimal", 2.0), ("register", 2.0), ("float32", 4.0)]
)
def test_a_sample_takes_a_few_bytes(kind: str, bytes_max: float) -> None:
    columns = polled(kind)
    assert len(encode(columns)) / len(columns[0]) < bytes_max
