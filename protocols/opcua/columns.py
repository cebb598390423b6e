"""What is known of each monitored item, by client handle: columns, so that a publication of ten
thousand values is a few numpy calls.
"""

import numpy as np
from numpy.typing import NDArray


class Columns:
    """Grows by doubling; a handle is given once in a session's life.

    Attributes:
        number: int32, the signal's number; -1 where the handle is not in use.
        scale, offset: float64, from the configuration.
        last_ns: int64, time of the newest sample passed on; 0 before the first.
        last_value, last_quality: That sample.
        heard_ns: int64, monotonic time at which it was passed on.
    """

    def __init__(self) -> None:
        self.n = 0
        self.number = np.full(64, -1, dtype=np.int32)
        self.scale = np.ones(64)
        self.offset = np.zeros(64)
        self.last_ns = np.zeros(64, dtype=np.int64)
        self.last_value = np.full(64, np.nan)
        self.last_quality = np.zeros(64, dtype=np.uint8)
        self.heard_ns = np.zeros(64, dtype=np.int64)

    def add(self, number: int, scale: float, offset: float) -> int:
        """Give the next handle."""
        if self.n == len(self.number):
            self._grow()
        handle = self.n
        self.n += 1
        self.number[handle] = number
        self.scale[handle] = scale
        self.offset[handle] = offset
        return handle

    def remove(self, handle: int) -> None:
        """What still arrives for the handle is not wanted."""
        self.number[handle] = -1

    def known(self, handles: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """bool[n], whether each handle is in use."""
        inside = handles < self.n
        return inside & (self.number[np.where(inside, handles, 0)] >= 0)

    def _grow(self) -> None:
        size = 2 * len(self.number)
        for name, old in vars(self).copy().items():
            if not isinstance(old, np.ndarray):
                continue
            new = np.zeros(size, dtype=old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)
        self.number[self.n :] = -1
