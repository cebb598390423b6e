"""What a protocol must provide. Everything else about running it is the supervisor's."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Annotated, Protocol, Self

import numpy as np
import structlog
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from gateway.core.alarm import Condition
from gateway.core.batch import Batch, Waveform
from gateway.core.clock import Clock
from gateway.core.meter import SourceMeter
from gateway.core.signals import Signal, SignalTable
from gateway.core.tap import Tap

Identifier = Annotated[
    str,
    Field(
        min_length=1,
        max_length=100,
        pattern=r"^[^/\x00-\x1f\x7f]+$",
        description="Any printable name without a slash.",
    ),
]


class SignalConfig(BaseModel):
    """One signal of a source; a protocol adds where to find it and how to read it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    asset: Identifier
    signal: Identifier
    unit: str = Field(
        default="", max_length=40, description="Engineering unit: rpm, °C, kWh, mm/s."
    )

    def key(self) -> Signal:
        """The signal as the signal table knows it."""
        return Signal(self.asset, self.signal, self.unit)


class SourceConfig(BaseModel):
    """One `[[source]]`; a protocol adds its address and settings and narrows `signals`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    id: Identifier
    signals: Sequence[SignalConfig] = Field(min_length=1)

    @model_validator(mode="after")
    def _no_signal_twice(self) -> Self:
        seen: set[tuple[str, str]] = set()
        for i, signal in enumerate(self.signals):
            pair = (signal.asset, signal.signal)
            if pair in seen:
                raise ValueError(f"signals[{i}]: {signal.key()} is listed twice; remove one")
            seen.add(pair)
        return self


class Logged(Protocol):
    """What the log holds, for a source that can ask its peer for what is missing there."""

    async def last(
        self, signals: Sequence[int], /
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The last usable sample of each signal that an earlier run of the gateway logged.

        Returns:
            UTC ns and value of each; 0 and NaN where the end of its log holds none.
        """
        ...

    async def samples(
        self, signals: Sequence[int], start_ns: int, end_ns: int, /
    ) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.float64]]:
        """Every committed sample of these in [start_ns, end_ns): signal, UTC ns, value.

        Raises:
            StoreError: The log cannot be read at present.
        """
        ...

    async def settled(self) -> None:
        """Return once all that any source passed on so far is on the disk.

        A disk that takes nothing is not waited for: memory holds it, bounded and counted.
        """
        ...


class NothingLogged:
    """For tools that look at a source and keep nothing."""

    async def last(
        self, signals: Sequence[int], /
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        return np.zeros(len(signals), np.int64), np.full(len(signals), np.nan)

    async def samples(
        self, _signals: Sequence[int], _start_ns: int, _end_ns: int, /
    ) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.float64]]:
        return np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0)

    async def settled(self) -> None:
        return


@dataclass(frozen=True, slots=True)
class SourceContext:
    """The world as a source may see it.

    Attributes:
        clock: Where time comes from; nothing in a protocol asks the operating system.
        random: For jitter; seeded in tests.
        log: Bound to the source already.
        signals: Gives each configured signal its number; see `SignalTable.intern`.
        meter: The source's counters.
        data_dir: A folder of this source's own, made before `open`, for certificates and the like.
        report: Reports a condition about the source itself (a certificate near its end). Never
            blocks; link up and down are the supervisor's to report.
        tap: Takes what crosses the wire, but only while `tap.open`, and no secret ever.
        logged: What the log already holds.
    """

    clock: Clock
    random: Random
    log: structlog.stdlib.BoundLogger
    signals: SignalTable
    meter: SourceMeter
    data_dir: Path
    report: Callable[[Condition], None]
    tap: Tap = field(default_factory=Tap)
    logged: Logged = field(default_factory=NothingLogged)


class Session(Protocol):
    """One established link to a peer. Used by one task."""

    async def read(self) -> Batch | Waveform:
        """Wait for the next batch or waveform. Cancelling loses no sample.

        A polling session waits here for its next slot. Signals that the peer refuses arrive as BAD
        samples; bytes that cannot be read are counted and dropped.

        Raises:
            LinkError: The link is gone; the session is finished.
        """
        ...

    async def apply(self, source: "Source") -> bool:
        """Take on a changed configuration of the same source without touching the link.

        Called between reads. Returns False where only a new link can do that.
        """
        ...


class Source(Protocol):
    """A configured source. Opens sessions; retries nothing, starts no detached task."""

    @property
    def kind(self) -> str: ...

    @property
    def id(self) -> str: ...

    @property
    def signals(self) -> Sequence[SignalConfig]: ...

    def open(self, context: SourceContext) -> AbstractAsyncContextManager[Session]:
        """Connect, identify, and subscribe. The protocol's library is imported here, not before.

        Raises:
            LinkError: The peer cannot be reached now (`LinkRefused` where a person must act).
            ConfigError: The peer says that this configuration will never work.
        """
        ...
