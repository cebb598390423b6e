"""What is known of each monitored item, by client handle: columns, so that a publication of ten
thousand values is a few numpy calls.
"""

import numpy as np
from numpy.typing import NDArray

NEVER_NS = -(2**62)


class Columns:
    """Grows by doubling; a handle is given once in a session's life.

    Attributes:
        number: int32, the signal's number; -1 where the handle is not in use.
        group: int16, number of the group that it is published with.
        plain: bool, whether a bare number is what the configuration expects there.
        scale, offset: float64, from the configuration.
        deadband: float64, applied here too; in the server's unit, 0 none.
        resumed_ns: int64, time of the last sample of the session before; 0 for none.
        resumed_value: float64, that sample where the log knows it; NaN elsewhere.
        first_ns: int64, time of the first sample of this session; 0 before it.
        newest_ns: int64, time of the last sample that the server sent.
        last_ns: int64, time of the last sample passed on, repeated ones included.
        last_value, last_quality: That sample.
        said_ns: int64, monotonic time at which the gateway last passed on a sample.
    """

    def __init__(self) -> None:
        size = 64
        self.n = 0
        self.number = np.full(size, -1, dtype=np.int32)
        self.group = np.zeros(size, dtype=np.int16)
        self.plain = np.ones(size, dtype=np.bool_)
        self.scale = np.ones(size)
        self.offset = np.zeros(size)
        self.deadband = np.zeros(size)
        self.resumed_ns = np.zeros(size, dtype=np.int64)
        self.resumed_value = np.full(size, np.nan)
        self.first_ns = np.zeros(size, dtype=np.int64)
        self.newest_ns = np.zeros(size, dtype=np.int64)
        self.last_ns = np.zeros(size, dtype=np.int64)
        self.last_value = np.full(size, np.nan)
        self.last_quality = np.zeros(size, dtype=np.uint8)
        self.said_ns = np.full(size, NEVER_NS, dtype=np.int64)

    def add(
        self,
        number: int,
        *,
        group: int,
        scale: float,
        offset: float,
        plain: bool,
        resumed: tuple[int, float],
    ) -> int:
        """Give the next handle."""
        if self.n == len(self.number):
            self._grow()
        handle = self.n
        self.n += 1
        self.number[handle] = number
        self.group[handle] = group
        self.plain[handle] = plain
        self.scale[handle] = scale
        self.offset[handle] = offset
        self.resumed_ns[handle], self.resumed_value[handle] = resumed
        return handle

    def remove(self, handle: int) -> None:
        """What still arrives for the handle is not wanted."""
        self.number[handle] = -1

    def known(self, handles: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """bool[n], whether each handle is in use."""
        inside = handles < self.n
        known: NDArray[np.bool_] = inside & (self.number[np.where(inside, handles, 0)] >= 0)
        return known

    def _grow(self) -> None:
        for name, old in vars(self).copy().items():
            if isinstance(old, np.ndarray):
                new = np.zeros(2 * len(old), dtype=old.dtype)
                new[: len(old)] = old
                setattr(self, name, new)
        self.number[self.n :] = -1
        self.last_value[self.n :] = self.resumed_value[self.n :] = np.nan
        self.said_ns[self.n :] = NEVER_NS
