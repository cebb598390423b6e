"""Learns from labelled records which failure is coming, as calibrated probabilities."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from models import quantise
from models.features import regimes as conditions
from models.graph import Graph
from models.record import Record
from models.training import grid as grids
from models.training import judged, learners, mixture, rates, taught
from models.training import label as labels_of
from models.training.finish import manifest, members
from models.training.inputs import Features, Inputs, choose, pair_candidates
from models.training.nameplate import NAMELESS, Nameplate
from models.training.trained import Trained
from models.windows import Grid

ROWS_MAX = 40_000
"""Rows to learn from; of a longer record all failures and a part of the rest are used."""
ROWS_LEAST = 5_000
CELLS_READ_MAX = 4_000_000
"""Rows times signals to learn from: the time of training grows with both."""
NETS_ROWS_MAX = 30_000
"""Above this many rows and labels together, nets cost more minutes than they are worth."""
NET = "net"
"""One net for all labels, in place of the learners that taught it."""
KEPT_SHARE = 0.25
"""A product or difference must weigh so much of what the strongest one does."""
CELLS_MAX = 256
LOST_MAX = 0.01
"""Average precision that int8 may lose against float32."""
GAIN_MIN = 0.01
"""Average precision on unseen rows that a longer window or derived features must bring."""

LOOSE = (
    "rows are judged each alone, as nothing tells that they follow each other; if they do, name"
    " --time or --group, or give --window"
)
ROWS_SAY_ALL = (
    "rows are judged each alone: windows as long as the label holds told no more of unseen ones"
)
SORTED = (
    "rows are sorted by their labels, so every fourth was held out in turn, which flatters where"
    " neighbours resemble each other"
)
CHANCE = "on rows not seen no better than chance, so in shadow: shown, but no alarms"
ONCE = (
    "in shadow: shown, but no alarms, as what holds once, for long, may be told by whatever else"
    " was so then"
)

Floats = NDArray[np.float64]
Chosen = tuple[Inputs, Features, NDArray[np.bool_], list[str]]


def train(
    record: Record,
    labels: Sequence[str] | None = None,
    *,
    window: str | None = None,
    seed: int = 0,
    precision: str = "int8",
    nameplate: Nameplate = NAMELESS,
    learn: Sequence[str] = (*learners.CLASSIFIERS, NET),
    named: Sequence[str] = (),
) -> Trained:
    """Train on labelled rows.

    Args:
        record: With `labels` in it, 1 where the failure holds (or is coming), else 0.
        labels: One output each; all of the record's if None.
        window: `1row`, `24rows`, `24h`; None to choose.
        seed: Of everything random.
        precision: `int8`, or `fp32` where int8 is not wanted.
        nameplate: What the bundle is to say of itself.
        learn: Learners to try, and `net` if one net may be taught by them.
        named: Signals that the user asked for by name; they stay, even if they look like labels.

    Raises:
        RecordError: No label, a label without enough failures, or nothing that moves.
    """
    labels = tuple(record.labels if labels is None else labels)
    target = labels_of.targets(record, labels)
    record, left_out = labels_of.without_labels(record, target, labels, named)
    known = np.asarray(~np.isnan(target).any(axis=1), bool)
    most = min(ROWS_MAX, max(ROWS_LEAST, CELLS_READ_MAX // len(record.names)))
    keep, rate = _sample(target, known, most, seed)
    inputs, x, ready, notes = _choose_window(record, window, target, keep, seed)
    notes += left_out
    at = np.flatnonzero(ready)
    x, y, group = x[at], target[at], record.group[at]
    once = labels_of.holds_once(record, target)
    alone = inputs.grid.cells == 1 and (record.time_s is None or once)
    even = np.arange(len(group)) % mixture.FOLDS if alone else None
    in_order = even is not None and (once or labels_of.sorted_by_label(record, target))
    folds = even if even is not None and in_order else mixture.folds_of(group)
    if in_order:
        notes.append(SORTED)
    inputs = inputs.fitted(x)
    inputs = _choose_pairs(inputs, x, y, folds if even is None else even, seed, notes)
    z = inputs.standard(x)
    candidates = {each: fit for each, fit in learners.CLASSIFIERS.items() if each in learn}
    if len(z) * len(labels) > NETS_ROWS_MAX:
        candidates.pop("nets", None)
    offset = float(np.log(rate))
    found = [
        mixture.mix(candidates, z, column, folds, task="classify", seed=seed, calibrate=even)
        for column in y.T
    ]
    split = folds if even is None else even
    net = _one_net(found, inputs, x, y, split, seed, notes) if NET in learn else None
    metrics, known_better = {}, list[bool]()
    for i, label in enumerate(labels):
        said, told, shares = found[i].unseen, found[i].by_learner, found[i].mix.shares()
        if net is not None:
            said, shares = net.unseen[:, i], {NET: 1.0}
            told = told | {NET: said}
        metrics[label] = judged.judge(y[:, i], said + offset, told, shares, rate)
        notes.append(f"{label}: {judged.told(metrics[label])}")
        runs = 1.0 if in_order and not once else labels_of.run_length(y[:, [i]], group)
        known_better.append(judged.gain(y[:, i], said) >= judged.GAIN_MIN * max(1.0, runs))
    if not any(known_better):
        notes.append(ONCE if once and in_order else CHANCE)
    graph = Graph("failure", len(inputs.plan.names))
    prepared = inputs.emit(graph)
    if net is not None:
        logits = net.net.emit(graph, prepared, len(inputs.scale), offset)
    else:
        shift = np.array([offset])
        columns = [each.mix.emit(graph, prepared, shift) for each in found]
        logits = graph.node("Concat", *columns, axis=1) if len(columns) > 1 else columns[0]
    graph.output(graph.node("Sigmoid", logits), "probability", ["n", len(labels)])
    thresholds = {label: metrics[label]["threshold"] for label in labels}
    told_of = manifest(
        inputs,
        record,
        x[(y <= 0.5).all(axis=1)],
        nameplate,
        kind="failure",
        state="active" if any(known_better) else "shadow",
        outputs=("probability",),
        labels=tuple(labels),
        metrics={
            "labels": metrics,
            "rows": len(z),
            "negatives_used": rate,
            "split": "every fourth row" if in_order else _split(group, alone),
        },
        detail={
            "thresholds": thresholds,
            "horizon_s": labels_of.horizons_s(record, target, labels),
        },
    )
    trained = Trained(told_of, *members(graph, x, precision=precision, seed=seed), tuple(notes))
    trained = _with_parity(trained, x, y, labels)
    lost = max(trained.manifest.parity["average_precision_lost"].values())
    # Trees lose nothing in int8; nets are left out where they lose what they bring.
    used = {each for label in labels for each in metrics[label]["learners"]}
    for each in (NET, "nets"):
        if lost <= LOST_MAX or each not in used:
            continue
        rest = [other for other in learn if other != each]
        without = train(
            record,
            labels,
            window=window,
            seed=seed,
            precision=precision,
            nameplate=nameplate,
            learn=rest,
            named=named,
        )
        note = f"left out, as int8 costs {lost:.2g} of average precision with it: {each}"
        return replace(without, notes=(note, *without.notes))
    return trained


def _one_net(
    found: Sequence[mixture.Found],
    inputs: Inputs,
    x: Features,
    y: Floats,
    folds: NDArray[np.int64],
    seed: int,
    notes: list[str],
) -> taught.Taught | None:
    """One net in place of the learners, if it says as much of unseen rows."""
    good, net = False, None
    for ramps in taught.RAMPS:
        net = taught.learn(found, inputs, x, y, folds, ramps, seed)
        good = net is not None and net.more <= mixture.EARNED_MIN
        if net is None or good:
            break
    if net is not None:
        notes.append(
            f"{'one net, taught by trees, in their place' if good else 'trees, and not a net'}: "
            f"log loss on unseen rows {net.more:+.1%} by the net"
        )
    return net if good else None


def _sample(
    target: Floats, known: NDArray[np.bool_], most: int, seed: int
) -> tuple[NDArray[np.bool_], float]:
    """Rows to learn from: every failure (of very many a part), and as much of the rest as fits; and
    how much of the rest that is, for each failure taken."""
    random = np.random.default_rng(seed)
    failing = known & (target > 0.5).any(axis=1)
    keep, shares = np.zeros(len(known), bool), []
    few = min(int(failing.sum()), most // 2)
    for rows, room in (
        (np.flatnonzero(known & ~failing), most - few),
        (np.flatnonzero(failing), few),
    ):
        keep[rows if len(rows) <= room else random.choice(rows, size=room, replace=False)] = True
        shares.append(min(1.0, room / max(1, len(rows))))
    return keep, shares[0] / shares[1]


def _choose_window(
    record: Record,
    window: str | None,
    target: Floats,
    keep: NDArray[np.bool_],
    seed: int,
) -> Chosen:
    """The window under which boosted trees see unseen failures best, or the one asked for; and
    whether to take out the operating conditions, if there are several."""
    period_s, regular = rates.sampling(record)
    run = labels_of.run_length(target, record.group)
    weighed = False
    if window is not None:
        cells, rows = grids.span(window, "window", period_s)
        windows = [Grid(rows or not regular, period_s, cells, 1, 3)]
    else:
        lengths = _lengths(record, target, run)
        weighed = lengths[0] > 1
        windows = [Grid(True, period_s, cells, 1, 3) for cells in lengths]
    found = None
    if windows[-1].cells > 1:
        found = conditions.find(record.values, record.group, record.words())
    made = choose(record, windows[0], regimes=None, rows=keep)
    best = _unseen_worth(made, record, target, seed) if found or weighed else 0.0
    for grid in windows if found else windows[1:]:
        # Conditions are tried on the first window; a longer one goes on with what was better.
        held = found if grid is windows[0] or made[0].plan.regimes else None
        tried = choose(record, grid, regimes=held, rows=keep)
        worth = _unseen_worth(tried, record, target, seed)
        if worth > best + GAIN_MIN:
            best, made = worth, tried
    if weighed:
        alone = choose(record, Grid(True, period_s, 1, 1, 3), regimes=None, rows=keep)
        if _unseen_worth(alone, record, target, seed) >= best - GAIN_MIN:
            made = alone
    inputs, x, ready, notes = made
    if window is None and run >= labels_of.RUN_MIN and labels_of.loose(record):
        notes.append(LOOSE)
    if weighed and inputs.plan.cells == 1:
        notes.append(ROWS_SAY_ALL)
    elif weighed:
        notes.append(
            f"window of {inputs.plan.cells} rows: the label holds for {run:g} rows at a time"
        )
    if inputs.plan.regimes is not None:
        notes.append(conditions.told(inputs.plan.regimes, inputs.plan.signals))
    return inputs, x, ready, notes


def _lengths(record: Record, target: Floats, run: float) -> list[int]:
    """Of windows to try, in rows: as long as the label holds at a time, and three times that."""
    each_alone = labels_of.loose(record) or labels_of.holds_once(record, target)
    if run < labels_of.RUN_MIN or each_alone:
        return [1]
    healthy = np.asarray((target <= 0.5).all(axis=1, keepdims=True), float)
    # Where nothing is healthy for longer than that, a long window learns which state came before.
    times = (1, 3) if labels_of.run_length(healthy, record.group) > run else (1,)
    longest = max(len(rows) for _, rows in record.sequences())
    lengths = [int(np.clip(run * each, 2, min(CELLS_MAX, longest))) for each in times]
    return list(dict.fromkeys(lengths))


def _unseen_worth(made: Chosen, record: Record, target: Floats, seed: int) -> float:
    inputs, x, ready, _ = made
    folds = mixture.folds_of(record.group[ready])
    return _worth(inputs.fitted(x[ready]), x[ready], target[ready], folds, seed)


def _split(group: NDArray[np.int64], alone: bool) -> str:
    if len(np.unique(group)) >= mixture.FOLDS:
        return "whole sequences"
    return "blocks of time; calibrated on every fourth row" if alone else "blocks of time"


def _choose_pairs(
    inputs: Inputs,
    x: Features,
    y: Floats,
    folds: NDArray[np.int64],
    seed: int,
    notes: list[str],
) -> Inputs:
    """Products and differences of signals, if boosted trees do better with them on unseen rows."""
    z = inputs.standard(x)
    hit = (y > 0.5).any(axis=1)
    with np.errstate(all="ignore"):
        columns = z[:, : len(inputs.plan.names)]
        strength = np.abs(columns[hit].mean(axis=0) - columns[~hit].mean(axis=0))
        strength += np.abs(np.log(columns[hit].std(axis=0) + 1e-3))
    pairs = pair_candidates(inputs, strength)
    if not pairs:
        return inputs
    more = _strongest(replace(inputs, products=pairs, differences=pairs).fitted(x), x, y, seed)
    plain, derived = (_worth(each, x, y, folds, seed) for each in (inputs, more))
    if derived <= plain + GAIN_MIN:
        return inputs
    names = [name.rpartition(":")[0] for name in inputs.plan.names]
    told = [f"{names[a]} x {names[b]}" for a, b in more.products]
    told += [f"{names[a]} - {names[b]}" for a, b in more.differences]
    notes.append(
        f"derived: {', '.join(told)}; average precision on unseen rows {derived:.3f}, "
        f"without them {plain:.3f}"
    )
    return more


def _strongest(more: Inputs, x: Features, y: Floats, seed: int) -> Inputs:
    """With only those products and differences that a forest leans on."""
    z = more.standard(x)
    first, count = x.shape[1], len(more.products)
    weight = np.zeros(2 * count)
    for column in y.T:
        seen = learners.importance(z, column, seed)[first : first + 2 * count]
        weight = np.maximum(weight, seen / max(float(seen.max()), 1e-12))
    keep = weight >= KEPT_SHARE
    pairs = more.products
    return replace(
        more,
        products=tuple(pair for pair, good in zip(pairs, keep[:count], strict=True) if good),
        differences=tuple(pair for pair, good in zip(pairs, keep[count:], strict=True) if good),
    ).fitted(x)


def _worth(inputs: Inputs, x: Features, y: Floats, folds: NDArray[np.int64], seed: int) -> float:
    """Mean average precision of boosted trees on unseen rows, over labels that are not too rare."""
    z = inputs.standard(x)
    out = []
    for column in y.T:
        said = mixture.unseen(learners.boosted, z, column, folds, seed, "classify")
        out.append(float(average_precision_score(column > 0.5, said)))
    return float(np.mean(out))


def _with_parity(trained: Trained, x: Features, y: Floats, labels: Sequence[str]) -> Trained:
    """int8 beside fp32 on the training rows, in the manifest."""
    int8 = quantise.run(trained.int8, x)["probability"]
    fp32 = quantise.run(trained.fp32, x)["probability"]
    thresholds = np.array([trained.manifest.detail["thresholds"][label] for label in labels])
    parity = {
        "rows": len(x),
        "average_precision_lost": {
            label: float(
                average_precision_score(y[:, i] > 0.5, fp32[:, i])
                - average_precision_score(y[:, i] > 0.5, int8[:, i])
            )
            for i, label in enumerate(labels)
        },
        "difference_max": float(np.abs(int8 - fp32).max()),
        "decisions_changed": float(((int8 > thresholds) != (fp32 > thresholds)).mean()),
    }
    return replace(trained, manifest=trained.manifest.model_copy(update={"parity": parity}))
