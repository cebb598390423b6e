"""Gathers single samples into the columns of one batch; for links that deliver them one by one."""

import numpy as np

from gateway.core.batch import Batch, Quality, make_batch


class Gathering:
    """Four growing columns. Emptied by `batch`."""

    __slots__ = ("_quality", "_signal", "_t_ns", "_value")

    def __init__(self) -> None:
        self._signal: list[int] = []
        self._t_ns: list[int] = []
        self._value: list[float] = []
        self._quality: list[int] = []

    def __len__(self) -> int:
        return len(self._signal)

    def add(self, signal: int, t_ns: int, value: float, quality: Quality = Quality.GOOD) -> None:
        """Take one sample. A value that is not finite becomes BAD in the batch."""
        self._signal.append(signal)
        self._t_ns.append(t_ns)
        self._value.append(value)
        self._quality.append(quality)

    def batch(self, source: str, received_ns: int, *, history: bool = False) -> Batch:
        """Everything gathered since the last call, in the order in which it came."""
        batch = make_batch(
            source,
            np.array(self._signal, dtype=np.int32),
            np.array(self._t_ns, dtype=np.int64),
            np.array(self._value, dtype=np.float64),
            np.array(self._quality, dtype=np.uint8),
            received_ns,
            history=history,
        )
        self._signal.clear()
        self._t_ns.clear()
        self._value.clear()
        self._quality.clear()
        return batch
