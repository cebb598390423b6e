"""Learns from labelled records which failure is coming, as calibrated probabilities."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from models import quantise
from models.graph import Graph
from models.record import Record
from models.training import judged, learners, mixture, selection, taught
from models.training import label as labels_of
from models.training.finish import manifest, members
from models.training.inputs import Features, Inputs
from models.training.nameplate import NAMELESS, Nameplate
from models.training.trained import Trained

ROWS_MAX = 40_000
"""Rows to learn from; of a longer record all failures and a part of the rest are used."""
ROWS_LEAST = 5_000
CELLS_READ_MAX = 4_000_000
"""Rows times signals to learn from: the time of training grows with both."""
NETS_ROWS_MAX = 30_000
"""Above this many rows and labels together, nets cost more minutes than they are worth."""
NET = "net"
"""One net for all labels, in place of the learners that taught it."""
LOST_MAX = 0.01
"""Average precision that int8 may lose against float32."""

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
    inputs, x, ready, notes = selection.choose_window(record, window, target, keep, seed)
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
    inputs = selection.choose_pairs(inputs, x, y, folds if even is None else even, seed, notes)
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


def _split(group: NDArray[np.int64], alone: bool) -> str:
    if len(np.unique(group)) >= mixture.FOLDS:
        return "whole sequences"
    return "blocks of time; calibrated on every fourth row" if alone else "blocks of time"


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
