"""What an OPC UA status code and timestamp mean to the gateway. Pure, column by column.

Source: OPC UA Part 4, 7.39 (StatusCode: severity, info type, overflow); Part 6, 5.2.2.5 (DateTime).
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gateway.core.batch import Quality
from protocols.opcua.wire import Values

TICKS_AT_1970 = 116_444_736_000_000_000
"""100 ns intervals between 1601, where OPC UA time begins, and 1970."""

_TICKS_MAX = TICKS_AT_1970 + (2**63 - 1) // 100
_OVERFLOW_MASK, _OVERFLOW = 0x0C80, 0x0480
"""Info type DataValue with the overflow bit: the server's queue dropped at least one sample."""

Stamp = Literal["source", "server", "gateway"]


def quality_of(status: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """Severity, the top two bits: Good, Uncertain, Bad; the reserved fourth is taken for Bad."""
    quality: NDArray[np.uint8] = np.minimum(status >> 30, Quality.BAD).astype(np.uint8)
    return quality


def overflows(status: NDArray[np.uint32]) -> int:
    """How many of the samples say that others before them were dropped."""
    return int(np.count_nonzero((status & _OVERFLOW_MASK) == _OVERFLOW))


def ticks_to_ns(ticks: NDArray[np.int64]) -> NDArray[np.int64]:
    """UTC ns since 1970; 0 for what is before 1970 or beyond what an int64 of ns can say."""
    known = (ticks > TICKS_AT_1970) & (ticks <= _TICKS_MAX)
    return (np.where(known, ticks, TICKS_AT_1970) - TICKS_AT_1970) * 100


def ns_to_ticks(t_ns: int) -> int:
    """UTC ns since 1970 as OPC UA time."""
    return t_ns // 100 + TICKS_AT_1970


def datetime_to_ns(when: datetime | None) -> int:
    """UTC ns of what the OPC UA library decoded (naive means UTC); 0 for None."""
    if when is None:
        return 0
    aware = when if when.tzinfo else when.replace(tzinfo=UTC)
    delta = aware - datetime(1970, 1, 1, tzinfo=UTC)
    return ((delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds) * 1000


@dataclass(frozen=True, slots=True)
class ClockRule:
    """Which clock stamps a sample, and when it is believed.

    A stamp earlier than `oldest_ns` (a clock that lost its battery says 1970 or 2000) or more than
    `ahead_ns_max` in the future is not: the next clock in the order source, server, gateway is
    taken, and the sample counted.
    """

    stamp: Stamp
    oldest_ns: int
    ahead_ns_max: int

    def apply(
        self, source_ns: NDArray[np.int64], server_ns: NDArray[np.int64], now_ns: int
    ) -> tuple[NDArray[np.int64], int]:
        """Choose each sample's time.

        Args:
            source_ns, server_ns: int64[n], UTC ns; 0 where the peer sent none.
            now_ns: The gateway's UTC ns.
        Returns:
            int64[n] UTC ns, and how many samples had a stamp that was not believed.
        """
        t_ns = np.full(len(source_ns), now_ns, dtype=np.int64)
        offered = {
            "source": (server_ns, source_ns),
            "server": (source_ns, server_ns),
            "gateway": (),
        }[self.stamp]
        off = 0
        for candidate in offered:  # The preferred one last, so that it wins.
            sane = (candidate >= self.oldest_ns) & (candidate <= now_ns + self.ahead_ns_max)
            np.copyto(t_ns, candidate, where=sane)
            off = int(np.count_nonzero(~sane & (candidate != 0)))
        return t_ns, off


def values_stamps(values: Values) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Source and server time of each value, UTC ns, 0 where there is none."""
    return ticks_to_ns(values.source_ticks), ticks_to_ns(values.server_ticks)
