"""Measures int8 against fp32 on the worst sequence: ranking and decisions, healthy and faulty."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.quantise import run
from models.strays import RESIDUAL, remembered
from models.training.invented import SHIFTS, auroc, invent
from models.training.learn import Learned

AUROC_LOSS_MAX = 0.01
DECISIONS_MAX = 0.01
SEQUENCES_MAX = 32
ROWS_MAX = 2000
LASTING_MAX = 3
"""Features that are moved throughout, one at a time, by each of these."""


@dataclass(frozen=True, slots=True)
class Parity:
    """How far int8 is from fp32.

    Attributes:
        auroc_loss: On the worst sequence, healthy windows against invented faults.
        decisions_changed: Share of verdicts that differ, on the worst sequence.
        how: Which int8 this is.
    """

    auroc_loss: float
    decisions_changed: float
    how: str

    @property
    def worst(self) -> float:
        """As a share of what is allowed; above 1 is a refusal."""
        return max(self.auroc_loss / AUROC_LOSS_MAX, self.decisions_changed / DECISIONS_MAX)

    def as_json(self) -> dict[str, float | str]:
        """For the manifest."""
        return {
            "auroc_loss_worst": round(self.auroc_loss, 5),
            "decisions_changed_worst": round(self.decisions_changed, 5),
            "how": self.how,
        }


def measure(fp32: bytes, int8: bytes, learned: Learned, *, how: str, seed: int) -> Parity:
    """Compare two graphs; what lasts as well, on the longest sequence, where the model remembers.

    Args:
        fp32: The reference.
        int8: The other.
        learned: The detector whose graphs they are.
        how: Kept in the result.
        seed: Of the invented faults.
    """
    sequences, model = learned.sequences, learned.states.whole
    scale = model.scale[: model.judged]
    limit, ewma, strays = learned.limit.value, learned.ewma, learned.strays
    remembers = ewma is not None or strays is not None
    loss, changed = 0.0, 0.0
    for index, sequence in enumerate(sequences[:SEQUENCES_MAX]):
        random = np.random.default_rng([seed, index])
        step = max(1, len(sequence) // ROWS_MAX)
        x = sequence[::step]
        faulty = invent(x, scale, random)
        both = np.concatenate([x, faulty]).astype(np.float32)
        label = np.concatenate([np.zeros(len(x), bool), np.ones(len(faulty), bool)])
        want, got = run(fp32, both)["score"], run(int8, both)["score"]
        good = np.isfinite(want)
        loss = max(loss, auroc(want[good], label[good]) - auroc(got[good], label[good]))
        changed = max(changed, float(np.mean((want > limit) != (got > limit))))
        if remembers and len(sequence) == max(map(len, sequences)):
            for fault in _lasting(x, scale, random):
                one, two = (
                    remembered(
                        made["score"],
                        made.get(RESIDUAL, made["score"]),
                        ewma,
                        strays,
                        learned.cells * step,
                    )
                    > limit
                    for made in (run(graph, fault) for graph in (fp32, int8))
                )
                changed = max(changed, float(np.mean(one != two)))
    return Parity(float(loss), changed, how)


def _lasting(
    x: NDArray[np.float32], scale: NDArray[np.float64], random: np.random.Generator
) -> Iterator[NDArray[np.float32]]:
    """The same windows, each time with one feature moved throughout."""
    for size in SHIFTS:
        for at in random.choice(len(scale), min(LASTING_MAX, len(scale)), replace=False).tolist():
            out = x.copy()
            out[:, at] += np.float32(size * scale[at])
            yield out
