"""What a model says of the windows of one cycle, for all assets that share its bundle."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from gateway.core.texts import Phrase


class ModelKind(StrEnum):
    """What the model answers."""

    ANOMALY = "anomaly"
    FAILURE = "failure"
    RUL = "rul"


class Abstained(StrEnum):
    """Why no verdict was given. ISO 13374 calls the verdict's data quality."""

    NO = ""
    WARMING_UP = "warming up"
    COVERAGE = "too few samples"
    NOT_FINITE = "model output is not a number"
    STOPPED = "stopped"
    UNKNOWN = "not known whether it runs"


@dataclass(frozen=True, slots=True)
class Context:
    """What surrounds one verdict.

    Attributes:
        condition: In which operating condition the window was, and how usual that is; None where
            nothing tells.
        similar: The earlier alarm that looked most like it, and what was said of it.
        followed: Which slow change of the machine is followed, signal by signal.
        held: Why none is followed at present; None where it is.
        fixed: What never changed while the model learned, and is not what it was.
    """

    condition: Phrase | None = None
    similar: Phrase | None = None
    followed: tuple[Phrase, ...] = ()
    held: Phrase | None = None
    fixed: tuple[Phrase, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Assessments:
    """One cycle of one bundle: `n` assets, `k` signals, `m` outputs of a failure or RUL head.

    Attributes:
        kind: What the model answers.
        bundle: Identifier of the bundle.
        shadow: True while the bundle's false-alarm promise is not supported: never alarm on it.
        assets: The `n` assets, in the order of the rows.
        t_ns: int64[n], UTC ns of the window's end.
        score: float32[n], >= 0; NaN where abstained.
        limit: float32[n], > 0. Severity is score / limit.
        coverage: float32[n], share of grid cells that held a usable sample, 0 to 1.
        abstained: The reason of each row, `Abstained.NO` where there is a verdict.
        signals: The `k` signal names (within the asset) that `contribution` speaks of.
        contribution: float32[n, k], share of the score that is due to each signal, sums to 1.
        direction: int8[n, k], +1 the signal is higher than expected, -1 lower, 0 changed otherwise.
        outputs: Names of the `m` head outputs: failure modes, or ("hours", "low", "high").
        output: float32[n, m].
    """

    kind: ModelKind
    bundle: str
    shadow: bool
    assets: tuple[str, ...]
    t_ns: NDArray[np.int64]
    score: NDArray[np.float32]
    limit: NDArray[np.float32]
    coverage: NDArray[np.float32]
    abstained: tuple[Abstained, ...]
    signals: tuple[str, ...]
    contribution: NDArray[np.float32]
    direction: NDArray[np.int8]
    outputs: tuple[str, ...] = ()
    output: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        n, k = len(self.assets), len(self.signals)
        assert len(self.t_ns) == len(self.score) == len(self.limit) == len(self.coverage) == n
        assert len(self.abstained) == n
        assert self.contribution.shape == self.direction.shape == (n, k)
        assert self.output is None or self.output.shape == (n, len(self.outputs))

    def __len__(self) -> int:
        return len(self.assets)

    @property
    def severity(self) -> NDArray[np.float32]:
        """float32[n], score / limit; NaN where abstained."""
        return self.score / self.limit
