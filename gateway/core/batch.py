"""What flows: blocks of samples, column by column, and evenly sampled bursts."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Quality(IntEnum):
    """Whether a sample may be used."""

    GOOD = 0
    UNCERTAIN = 1
    BAD = 2


BAD = np.uint8(Quality.BAD)
"""As columns hold it: to compare a column with an enumeration takes numpy ten times as long."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """`n` samples of one source, in the order in which they arrived.

    Attributes:
        source: Identifier of the source, as in the configuration.
        signal: int32[n], index into the gateway's `SignalTable`.
        t_ns: int64[n], UTC ns. The device's clock where it has one, else the gateway's.
        value: float64[n], in the engineering unit of the signal. NaN exactly where BAD.
        quality: uint8[n], `Quality`.
        received_ns: UTC ns at the gateway when the last byte arrived.
        history: True for samples fetched from the past (a gap filled from the server's history);
            they are logged and trended, but open no window again.
    """

    source: str
    signal: NDArray[np.int32]
    t_ns: NDArray[np.int64]
    value: NDArray[np.float64]
    quality: NDArray[np.uint8]
    received_ns: int
    history: bool = False

    def __post_init__(self) -> None:
        n = len(self.t_ns)
        assert self.t_ns.dtype == np.int64
        assert self.signal.dtype == np.int32
        assert self.value.dtype == np.float64
        assert self.quality.dtype == np.uint8
        assert len(self.signal) == len(self.value) == len(self.quality) == n
        assert not np.count_nonzero(np.isnan(self.value) != (self.quality == BAD))
        for column in (self.signal, self.t_ns, self.value, self.quality):
            column.flags.writeable = False

    def __len__(self) -> int:
        return len(self.t_ns)


@dataclass(frozen=True, slots=True, eq=False)
class Waveform:
    """One evenly sampled burst of one signal (vibration, current).

    Attributes:
        source: Identifier of the source.
        signal: Index into the gateway's `SignalTable`.
        t0_ns: UTC ns of the first sample.
        rate_hz: Samples per second, > 0.
        value: float32[n], in the engineering unit of the signal.
        received_ns: UTC ns at the gateway when the last byte arrived.
    """

    source: str
    signal: int
    t0_ns: int
    rate_hz: float
    value: NDArray[np.float32]
    received_ns: int

    def __post_init__(self) -> None:
        assert self.rate_hz > 0
        assert self.value.dtype == np.float32
        assert self.value.ndim == 1
        self.value.flags.writeable = False

    def __len__(self) -> int:
        return len(self.value)


def make_batch(
    source: str,
    signal: NDArray[np.int32],
    t_ns: NDArray[np.int64],
    value: NDArray[np.float64],
    quality: NDArray[np.uint8],
    received_ns: int,
    *,
    history: bool = False,
) -> Batch:
    """Make a batch whose rule "NaN exactly where BAD" is enforced rather than assumed.

    A value that is not finite becomes BAD, whatever the device said of it; a BAD one becomes NaN.
    Inputs are not written to.
    """
    bad = (quality == BAD) | ~np.isfinite(value)
    if np.count_nonzero(bad):
        value = np.where(bad, np.nan, value)
        quality = np.where(bad, BAD, quality)
    return Batch(source, signal, t_ns, value, quality, received_ns, history)


def bad_batch(source: str, signal: NDArray[np.int32], t_ns: int) -> Batch:
    """One BAD sample for each of the signals: what "we do not know" looks like in the stream."""
    n = len(signal)
    return Batch(
        source=source,
        signal=signal.astype(np.int32),
        t_ns=np.full(n, t_ns, dtype=np.int64),
        value=np.full(n, np.nan),
        quality=np.full(n, BAD),
        received_ns=t_ns,
    )
