"""Learns what healthy is from a record, and where it ends; numbers only, no graph."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.errors import RecordError
from models.ewma import Ewma
from models.features.plan import FeaturePlan
from models.record import Record
from models.start import Start
from models.strays import Strays, remembered
from models.training import conditions, gaps, hints, limits, starts, straying
from models.training import grid as grids
from models.training.companies import companies
from models.training.company import Form
from models.training.conditions import Conditions
from models.training.detector import Detector
from models.training.folds import FOLDS, one_course
from models.training.motion import motion_of
from models.training.plan import blocks_of, floors, plan_of, signals_of
from models.training.screen import Screened, screen
from models.windows import Grid, rows_per_cell, some_features

WINDOWS_MAX = 30_000
"""Windows to learn from; a longer record is thinned evenly."""
VALUES_MAX = 1 << 25
"""Features and errors of all windows together; of a machine of more than 186 signals fewer windows
are taken, which overlap less."""
SETTLED_TIMES = 2.0
FAULT_TIMES = 8.0
"""A stretch that scores so many times the usual is no healthy machine, and is trained around."""
FAULT_SHARE_MAX = 0.25
"""If more than this is strange, no part can be told to be the healthy one."""


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """What a healthy record taught.

    Attributes:
        screened: What of the record could be learned from.
        grid: Window and step.
        plan: The features.
        sequences: float32[n_i, d] each, the windows that were learned from.
        scores: float64[n_i] each, by models that had not seen the window.
        states: The detector.
        limit: Where healthy ends.
        cells: From one window of a sequence to the next.
        ewma: What strangeness that lasts counts for; None where the record is too short to say.
        strays: How far signals may stray to one side for long; None likewise.
        start: How strange a machine may be when it starts; None where none was seen to.
        notes: What was found and done, in words.
    """

    screened: Screened
    grid: Grid
    plan: FeaturePlan
    sequences: tuple[NDArray[np.float32], ...]
    scores: tuple[NDArray[np.float64], ...]
    states: Conditions
    limit: limits.Limit
    cells: float
    ewma: Ewma | None
    strays: Strays | None
    start: Start | None
    notes: tuple[str, ...]


def learn(
    record: Record,
    *,
    window: str | None = None,
    hop: str | None = None,
    false_alarms: str = "1/30d",
    seed: int = 0,
    say: limits.Say = limits.nobody,
) -> Learned:
    """Learn from healthy rows; the arguments are those of `models.training.anomaly.train`.

    Raises:
        RecordError: The record does not allow it.
    """
    limits.budget_s(false_alarms)
    say("choosing window and features")
    screened = screen(record)
    grid = grids.choose(screened.record, window=window, hop=hop)
    plan = gaps.with_errors(plan_of(screened.record, grid), screened.record, grid.every_cell())
    sequences, per_window, notes = _windows(screened, plan, grid)
    notes = [*screened.notes, *notes]
    blocks, signals = blocks_of(plan), signals_of(plan)
    form = Form(
        floors(plan, screened.step),
        blocks,
        gaps.owners(plan),
        gaps.worth(screened.record, plan, grid.every_cell(), seed),
        companies(sequences, blocks, signals),
        one_course(sequences, plan.measured),
        motion_of(sequences, plan, signals),
    )
    reach = max(1, per_window)
    scores = limits.held_out(sequences, form, reach, say=say)
    sequences, scores, early = starts.without(sequences, scores, form, reach, say)
    if any(map(len, early)):
        notes.append(starts.told(early, grid.cells / reach, grid))
    sequences, scores, found = _around_faults(sequences, scores, form, reach, say)
    notes += found
    kinds = hints.asked(sequences, form, plan, reach, say)
    early, _, _ = hints.only(kinds, early, form, plan)
    sequences, plan, form = hints.only(kinds, sequences, form, plan)
    say("choosing operating conditions")
    count = conditions.choose(sequences, form, reach)
    scores, off = straying.held_out(sequences, form, reach, count, say=say)
    say("learning from the whole record")
    states = conditions.fit_conditions(sequences, form, count, reach)
    if len(states.parts) > 1:
        notes.append(f"{len(states.parts)} operating conditions are told apart")
    notes += hints.notes(states, plan)
    # Runs of one course are one machine's, one after the other.
    longest = (sum if form.alike else max)(map(len, sequences))
    window_s = None if grid.period_s is None else grid.period_s * grid.cells
    settled, seen = _settled(scores)
    notes += seen
    windows, cells = longest / reach + 1, grid.cells / reach
    chosen = limits.limit(
        settled,
        windows=windows,
        per_window=reach,
        window_s=window_s,
        promise=false_alarms,
        seed=seed,
    )
    ewma = limits.lasting(
        settled,
        chosen.value,
        windows=windows,
        per_window=reach,
        cells=grid.cells,
        fewest=float(states.whole.independent.min()),
    )
    astray = straying.strays(
        off, scores, states, chosen.value, windows=windows, per_window=reach, cells=grid.cells
    )
    first, last = _parted(sequences, reach, form.alike)
    if first and last:
        model = conditions.fit_conditions(first, form, count, reach)
        told = [
            remembered(
                model.score(s).astype(np.float32),
                model.off(s).astype(np.float32),
                ewma,
                astray,
                cells,
            )
            for s in last
        ]
        chosen, notes = _check_forward(chosen, np.concatenate(told), notes)
    chosen, notes = _check_steady(chosen, states.whole, plan, notes, found)
    return Learned(
        screened,
        grid,
        plan,
        tuple(sequences),
        tuple(scores),
        states,
        chosen,
        cells,
        ewma,
        astray,
        Start.seen([states.score(s) for s in early if len(s)], chosen.value, reach, cells),
        tuple(notes),
    )


def _windows(
    screened: Screened, plan: FeaturePlan, grid: Grid
) -> tuple[list[NDArray[np.float32]], int, list[str]]:
    """Features of each unbroken stretch, and how many of them fall into one window's length."""
    record = screened.record
    shared = rows_per_cell(record, grid)
    most = min(WINDOWS_MAX, VALUES_MAX // len(plan.names))
    every = max(1, -(-len(record) // (shared * grid.hop_cells * most)))
    told, x = some_features(record, plan, grid.every_cell(), every * grid.hop_cells * shared)
    judged = np.flatnonzero(np.any(blocks_of(plan), axis=0))
    usable = np.isfinite(x[:, judged]).mean(axis=1) >= 0.5
    notes = []
    lost = float(np.mean(~usable)) if len(usable) else 0.0
    if lost > 0.01:
        notes.append(f"{lost:.0%} of the windows hold too few samples and are left out")
    out = []
    for rows in record.oldest_first():
        # A window that reaches into rows to leave out is left out as well.
        bad = np.convolve(screened.leave[rows], np.ones(grid.cells))[: len(rows)] > 0
        good = usable & np.isin(told, rows[~bad])
        if bool(good.any()):
            out.append(x[good])
    if sum(map(len, out)) < 3:
        raise RecordError(
            f"data: too few whole windows of {grid.cells} cells, had {sum(map(len, out))}; give "
            "more rows, or a shorter --window"
        )
    return out, max(1, round(grid.cells / (every * grid.hop_cells))), notes


def _some(signals: Sequence[str]) -> str:
    return ", ".join(signals[:6]) + (" …" if len(signals) > 6 else "")


def _around_faults(
    sequences: list[NDArray[np.float32]],
    scores: list[NDArray[np.float64]],
    form: Form,
    reach: int,
    say: limits.Say = limits.nobody,
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float64]], list[str]]:
    """Leave out stretches that are far from all the rest, and hold out again."""
    usual = float(np.nanmedian(np.concatenate(scores)))
    strange = [np.nan_to_num(s) > FAULT_TIMES * usual for s in scores]
    share = sum(int(s.sum()) for s in strange) / sum(map(len, strange))
    if share == 0:
        return sequences, scores, []
    if share > FAULT_SHARE_MAX:
        text = (
            f"{share:.0%} of the windows are far from the rest: not one healthy state; train on a"
            " stretch that is known to be healthy (--rows)"
        )
        return sequences, scores, [text]
    kept = []
    for sequence, mark in zip(sequences, strange, strict=True):
        # Not mode="same": of a run shorter than the reach that would give more than the run.
        near = np.convolve(mark, np.ones(2 * reach + 1))[reach : reach + len(mark)] > 0
        kept.append(sequence[~near])
    kept = [s for s in kept if len(s)]
    if sum(map(len, kept)) < 3:
        return sequences, scores, []
    peak = max(float(np.nanmax(s)) for s in scores) / usual
    text = (
        f"{share:.1%} of the windows score up to {peak:.0f} times the usual, as a fault would; they"
        " were left out of training (is the record healthy throughout?)"
    )
    return kept, limits.held_out(kept, form, reach, say=say), [text]


def _settled(
    scores: list[NDArray[np.float64]],
) -> tuple[list[NDArray[np.float64]], list[str]]:
    """The scores that the limit is set by: without a first half that was still on its way.

    A run-in is not the settled state's spread. It is one if each eighth of the first half is
    stranger, held out, than every eighth of the second (chance does that to one record in seventy),
    and clearly so.
    """
    if len(scores) > 1 or len(scores[0]) < 2 * FOLDS:
        return scores, []
    peaks = [float(np.nanmax(part)) for part in np.array_split(scores[0], FOLDS)]
    early, late = peaks[: FOLDS // 2], peaks[FOLDS // 2 :]
    if min(early) <= max(late) or np.median(early) <= SETTLED_TIMES * np.median(late):
        return scores, []
    text = "the first half of the record was still settling (run-in?), so the limit is the second's"
    return [scores[0][len(scores[0]) // 2 :]], [text]


def _parted(
    sequences: Sequence[NDArray[np.float32]], reach: int, alike: bool
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
    """The first 70 % to learn from and the last 30 % to try it on; empty where too few are left."""
    if alike:
        runs = int(0.7 * len(sequences))
        return list(sequences[:runs]), list(sequences[runs:])
    early = [s[: int(0.7 * len(s))] for s in sequences]
    late = [s[int(0.7 * len(s)) + reach :] for s in sequences]
    early, late = [s for s in early if len(s)], [s for s in late if len(s)]
    return (early, late) if sum(map(len, early)) > 2 else ([], [])


def _check_forward(
    chosen: limits.Limit, told: NDArray[np.float32], notes: list[str]
) -> tuple[limits.Limit, list[str]]:
    """Would a model of the first 70 % have raised alarms in the last 30 %?"""
    flagged = told > chosen.value
    if flagged.mean() > 0.005 and chosen.supported:
        doubt = limits.Doubt("forward", {"share": f"{flagged.mean():.1%}"})
        chosen = replace(chosen, supported=False, doubt=doubt)
    return chosen, [
        *notes,
        f"checked forward: a model of the first 70 % flags {flagged.mean():.1%} of the last 30 %",
    ]


def _check_steady(
    chosen: limits.Limit, model: Detector, plan: FeaturePlan, notes: list[str], found: list[str]
) -> tuple[limits.Limit, list[str]]:
    """Name the signals whose level is still on its way, and refuse the promise if most are."""
    level = [i for i, name in enumerate(plan.names) if name.endswith(":mean")]
    drifting = [plan.names[i].rpartition(":")[0] for i in level if model.independent[i] < 6]
    if drifting:
        text = f"still drifting when the record ended, so it counts for less: {_some(drifting)}"
        notes = [*notes, text]
    if chosen.supported and len(drifting) > 0.5 * len(level):
        doubt = limits.Doubt("drifting", {"signals": ", ".join(drifting[:6])})
        chosen = replace(chosen, supported=False, doubt=doubt)
    if chosen.supported and found:
        doubt = limits.Doubt("fault", {"found": found[0]})
        chosen = replace(chosen, supported=False, doubt=doubt)
    return chosen, notes
