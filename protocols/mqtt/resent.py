"""Takes out of what a broker sends again what the log already holds."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from gateway.core.batch import Batch
from gateway.core.errors import StoreError
from gateway.core.source import Logged

APART_NS = 60_000_000_000
"""Samples further apart are looked for one by one, not in all that lies between them."""

Keys = Iterator[tuple[int, int, float]]


async def not_logged(batch: Batch, logged: Logged) -> Batch | None:
    """Those samples of a batch that the log lacks, in their order; None where it has all.

    The same quantity, time and value is the same sample, whoever told it twice. One that was
    stamped when it arrived is never found; where the log cannot be read, all is taken as new.
    """
    await logged.settled()
    held: set[tuple[int, int, float]] = set()
    times = np.unique(batch.t_ns)
    try:
        for near in np.split(times, np.flatnonzero(np.diff(times) > APART_NS) + 1):
            numbers = np.unique(batch.signal).tolist()
            held.update(_keys(*await logged.samples(numbers, int(near[0]), int(near[-1]) + 1)))
    except StoreError:
        return batch
    mine = _keys(batch.signal, batch.t_ns, batch.value)
    new = np.array([key not in held for key in mine])
    if new.all():
        return batch
    if not new.any():
        return None
    columns = (batch.signal[new], batch.t_ns[new], batch.value[new], batch.quality[new])
    return Batch(batch.source, *columns, batch.received_ns, batch.history)


def _keys(signal: NDArray[np.int32], t_ns: NDArray[np.int64], value: NDArray[np.float64]) -> Keys:
    """What is compared: values as a log of single precision holds them, and BAD like BAD."""
    with np.errstate(over="ignore"):
        single = np.nan_to_num(value.astype(np.float32), nan=np.inf)
    return zip(signal.tolist(), t_ns.tolist(), single.tolist(), strict=True)
