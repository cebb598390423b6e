"""What follows others with a lag: whether it helps to know where they were, and who is known so."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.features.plan import FeaturePlan
from models.training import conditions
from models.training.companies import hinted
from models.training.company import Form
from models.training.conditions import Conditions
from models.training.limits import WINDOWS_MIN, Say

EARNED_MIN = 0.005
"""By how much better (AUROC) invented faults must be told for features that only explain: they are
three quarters more to compute. Where little follows late it was 0.002 at most, else 0.011 or more.
"""


def asked(
    sequences: list[NDArray[np.float32]],
    form: Form,
    signals: NDArray[np.int64],
    reach: int,
    say: Say,
) -> Form | None:
    """With where signals were earlier, if faults are told better so; else None.

    Asked when starts and faults are left out by what is known without: the more is known of the
    usual state, the odder looks another that the record holds but once.
    """
    hints = np.arange(form.judged, len(form.floor))
    if not len(hints) or sum(map(len, sequences)) < WINDOWS_MIN * reach:
        return None
    say("asking whether it helps to know where signals were")
    out = replace(form, companies=tuple(hinted(each, hints, signals) for each in form.companies))
    size = conditions.sizes(sequences, form, reach)
    knowing, without = (conditions.tells(sequences, f, 1, reach, size) for f in (out, form))
    return out if knowing > without + EARNED_MIN else None


def signals(states: Conditions, plan: FeaturePlan) -> list[str]:
    """The signals that are known by where others were, in any operating condition."""
    out = set()
    for each in (company for part in states.parts for company in part.companies):
        told = each.mine[each.expected[each.told :, : each.judged].any(axis=0)]
        out |= {plan.names[i].rpartition(":")[0] for i in told.tolist()}
    return [signal for signal in plan.signals if signal in out]


def bare(sequences: Sequence[NDArray[np.float32]], form: Form) -> list[NDArray[np.float32]]:
    """Without the features that only explain."""
    explains = slice(form.judged, len(form.floor))
    return [np.delete(s, explains, axis=1) for s in sequences]
