"""What only explains, where others were or how far above a level: whether it helps, and whom."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.features.bends import ABOVE, BENDS, RECENT_ABOVE
from models.features.earlier import EARLIER
from models.features.plan import FeaturePlan
from models.training import conditions
from models.training.companies import hinted
from models.training.company import Form
from models.training.conditions import Conditions
from models.training.invented import Told
from models.training.limits import WINDOWS_MIN, Say
from models.training.plan import signals_of, with_hints

EARNED_MIN = 0.005
"""By how much better (AUROC) invented faults must be told for features that only explain: they are
three quarters more to compute. Where little follows late it was 0.002 at most, else 0.011 or more.
"""
NONE: frozenset[str] = frozenset()
GROUPS = (frozenset(EARLIER), frozenset(BENDS))
"""What is asked together; and then both, if each helps alone."""
BOTH = NONE.union(*GROUPS)

Ints = NDArray[np.int64]


def asked(
    sequences: Sequence[NDArray[np.float32]], form: Form, plan: FeaturePlan, reach: int, say: Say
) -> frozenset[str]:
    """The kinds that are worth their while: those by which faults are told best, if clearly better.

    Asked when starts and faults are left out by what is known without: the more is known of the
    usual state, the odder looks another that the record holds but once.
    """
    if len(form.floor) == form.judged or sum(map(len, sequences)) < WINDOWS_MIN * reach:
        return NONE
    say("asking whether signals follow others late, or along a bend")
    size = conditions.sizes(sequences, form, reach)
    step = max(1, sum(map(len, sequences)) // conditions.THIN)
    thin, gap = [s[::step] for s in sequences], max(1, reach // step)

    def tells(kinds: Collection[str]) -> Told:
        some, _, knowing = only(kinds, thin, form, plan)
        return conditions.tells(some, knowing, 1, gap, size)

    told = {kinds: tells(kinds) for kinds in (NONE, *GROUPS)}
    earned = [kinds for kinds in GROUPS if told[kinds].better(told[NONE], EARNED_MIN)]
    if not earned:
        return NONE
    best = max(earned, key=lambda kinds: told[kinds])
    if len(earned) == len(GROUPS) and tells(BOTH).better(told[best], EARNED_MIN):
        return BOTH
    return best


def only(
    kinds: Collection[str],
    sequences: Sequence[NDArray[np.float32]],
    form: Form,
    plan: FeaturePlan,
) -> tuple[list[NDArray[np.float32]], FeaturePlan, Form]:
    """Sequences, plan and form, of what only explains with these kinds alone, which then do."""
    names = plan.names[: plan.measured]
    explains = np.array([name.rpartition(":")[2] in kinds for name in names])
    kept = np.flatnonzero(explains | (np.arange(len(names)) < form.judged))
    if len(kept) == len(names) and not kinds:
        return list(sequences), plan, form
    errors = np.arange(plan.measured, len(plan.names))
    some = [s[:, np.append(kept, errors)] for s in sequences]
    plan, form = with_hints(plan, kinds), form.of(kept)
    if not kinds:
        return some, plan, form
    kind = np.array([name.rpartition(":")[2] for name in plan.names[: len(kept)]])
    signals = signals_of(plan)
    newest = np.any(form.blocks[1:], axis=0)
    companies = []
    for each in form.companies:
        # What tells of the whole window has no say in its newest part, and the other way round.
        out = ABOVE if newest[each.at[0]] else RECENT_ABOVE
        hints = np.flatnonzero((np.arange(len(kept)) >= form.judged) & ~np.isin(kind, out))
        companies.append(hinted(each, hints, signals))
    return some, plan, replace(form, companies=tuple(companies))


def notes(states: Conditions, plan: FeaturePlan) -> list[str]:
    """Which signals are known by what only explains, in any operating condition."""
    words = {
        "known by where other signals were, too": EARLIER,
        "follow other signals along a bend": BENDS,
    }
    out = []
    for text, kinds in words.items():
        if some := _known_by(states, plan, kinds):
            names = ", ".join(some[:6]) + (" …" if len(some) > 6 else "")
            out.append(f"{text}: {names}")
    return out


def _known_by(states: Conditions, plan: FeaturePlan, kinds: Collection[str]) -> list[str]:
    known = set()
    for each in (company for part in states.parts for company in part.companies):
        mine = [
            i
            for i in range(each.told, len(each.at))
            if plan.names[each.at[i]].rpartition(":")[2] in kinds
        ]
        told = each.mine[each.expected[mine, : each.judged].any(axis=0)]
        known |= {plan.names[i].rpartition(":")[0] for i in told.tolist()}
    return [signal for signal in plan.signals if signal in known]
