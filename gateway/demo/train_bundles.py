"""Trains the bundles of the demo's classes anew: `python -m gateway.demo.train_bundles`.

Everything is seeded, so that the same code and libraries make the same models. Needs the `train`
extra. The bundles land in `models/artifacts`, from where the demo takes them.
"""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from gateway.demo.configuration import ARTIFACTS
from gateway.demo.machines import CLASSES
from gateway.demo.record import EPOCH_S, healthy, lives, stretches
from models.record import Record
from models.training import failure, rul
from models.training.anomaly import train
from models.training.nameplate import Nameplate
from models.training.trained import Trained

HOURS = 96.0
"""Of the long life; a false-alarm promise reaches a certain number of times so far."""
HOURS_WITH_STOPS = 144.0
"""The same of a class that stands for a third of its time: only what it ran is learned from."""
COLD_STARTS, COLD_HOURS = 6, 2.0
"""Further machines of the class, each switched on cold."""
WINDOW, HOP = "16s", "2s"
IGNORED = ("time", "energy")
"""A counter only ever rises: it says what was, not what is."""


def record_of(kind: str, *, hours: float, seed: int) -> Record:
    """Healthy lives of several machines of one class; each stretch of running is one sequence."""
    lives = [healthy(kind, hours=hours, seed=seed)]
    lives += [
        healthy(kind, hours=COLD_HOURS, seed=seed + 1000 + number, warm=False)
        for number in range(COLD_STARTS)
    ]
    names = tuple(name for name in lives[0] if name not in IGNORED)
    values, time_s, group = [], [], []
    groups: list[str] = []
    for number, life in enumerate(lives):
        own = stretches(kind, life)
        runs = own >= 0
        values.append(np.stack([life[name] for name in names], axis=1)[runs])
        time_s.append(life["time"][runs])
        group.append(own[runs] + len(groups))
        groups += [f"{kind}-{number + 1}.{i}" for i in range(int(own.max()) + 1)]
    return Record(
        values=np.concatenate(values),
        names=names,
        units=tuple(CLASSES[kind].sensors[name].unit for name in names),
        time_s=np.concatenate(time_s),
        group=np.concatenate(group),
        groups=tuple(groups),
    )


def train_class(kind: str, *, hours: float | None, seed: int) -> Trained:
    """The anomaly model of one class."""
    hours = hours or (HOURS_WITH_STOPS if CLASSES[kind].running else HOURS)
    return train(
        record_of(kind, hours=hours, seed=seed),
        window=WINDOW,
        hop=HOP,
        seed=seed,
        nameplate=_nameplate(
            kind, "", f"{hours:g} h of simulated life and {COLD_STARTS} cold starts"
        ),
    )


LIVES, LIFE_H, LIFE_RATE_HZ = 16, (1 / 3, 5 / 6), 0.5
"""Machines that were run to failure, how long they lasted, and how often they were read. Lives are
minutes where real ones are months, so that a remaining life can be watched as it runs out."""


def train_life(kind: str, *, seed: int) -> Trained:
    """The remaining-life model of a class whose bearings wear."""
    columns = lives(
        kind, "bearing_wear", machines=LIVES, seed=seed, rate_hz=LIFE_RATE_HZ, hours=LIFE_H
    )
    names = tuple(name for name in CLASSES[kind].sensors if name not in IGNORED)
    record = Record(
        values=np.stack([columns[name] for name in names], axis=1),
        names=names,
        units=tuple(CLASSES[kind].sensors[name].unit for name in names),
        time_s=columns["time"],
        group=columns["machine"].astype(np.int64),
        groups=tuple(f"{kind}-{number + 1}" for number in range(LIVES)),
    )
    return rul.train(
        record,
        window=WINDOW,
        seed=seed,
        nameplate=_nameplate(
            kind, "-life", f"{LIVES} simulated lives of {LIFE_H[0]:.2g} to {LIFE_H[1]:.2g} h"
        ),
    )


FAILING, FAILING_H, FAILING_RATE_HZ = 8, (0.1, 0.2), 0.5
"""Machines of the class that failed in each way, how long they lasted, and how often they were
read."""
CALM, CALM_H = 8, 0.4
"""Machines that nothing happened to, half of them switched on cold."""
COMING = 0.35
"""A failure is coming from this severity on; at 1 the machine is stopped."""


def train_failures(kind: str, *, seed: int) -> Trained:
    """The model that tells the failure modes of a class apart."""
    modes = tuple(CLASSES[kind].faults)
    runs = [
        lives(
            kind,
            mode,
            machines=FAILING,
            seed=seed + 20 + i,
            rate_hz=FAILING_RATE_HZ,
            hours=FAILING_H,
        )
        for i, mode in enumerate(modes)
    ]
    runs += [
        healthy(kind, hours=CALM_H, seed=seed + 2000 + i, rate_hz=FAILING_RATE_HZ, warm=i % 2 == 0)
        for i in range(CALM)
    ]
    first = np.cumsum(
        [0, *(int(run["machine"][-1]) + 1 if "machine" in run else 1 for run in runs)]
    )
    none = [np.zeros(len(run["time"])) for run in runs]
    names = tuple(name for name in CLASSES[kind].sensors if name not in IGNORED)
    record = Record(
        values=np.concatenate([np.stack([run[n] for n in names], axis=1) for run in runs]),
        names=names,
        units=tuple(CLASSES[kind].sensors[name].unit for name in names),
        time_s=np.concatenate([run["time"] for run in runs]),
        group=np.concatenate(
            [run.get("machine", none[i]).astype(np.int64) + first[i] for i, run in enumerate(runs)]
        ),
        groups=tuple(f"{kind}-{number + 1}" for number in range(int(first[-1]))),
        labels={
            mode: np.concatenate(
                [
                    (run["severity"] >= COMING).astype(float) if i == at else none[i]
                    for i, run in enumerate(runs)
                ]
            )
            for at, mode in enumerate(modes)
        },
    )
    return failure.train(
        record,
        window=WINDOW,
        seed=seed,
        nameplate=_nameplate(
            kind, "-failure", f"{FAILING} simulated failures of each mode and {CALM} calm machines"
        ),
        # Of the teachers boosted trees alone, which are learned soonest.
        learn=("boosted", failure.NET),
    )


def _nameplate(kind: str, suffix: str, trained_on: str) -> Nameplate:
    """With a fixed date, so that training again changes nothing that it need not change."""
    return Nameplate(
        f"demo-{kind}{suffix}",
        kind,
        datetime.fromtimestamp(EPOCH_S, UTC),
        {"trained_on": trained_on},
    )


def main() -> None:
    """Train the classes that are asked for."""
    parser = argparse.ArgumentParser(prog="python -m gateway.demo.train_bundles")
    parser.add_argument("--class", dest="kinds", action="append", choices=list(CLASSES))
    parser.add_argument("--hours", type=float, help="Of the long life.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ARTIFACTS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for kind in options.kinds or CLASSES:
        trained = train_class(kind, hours=options.hours, seed=options.seed)
        path = options.out / f"{kind}.fwm"
        trained.write(path)
        limit = trained.manifest.limit
        assert limit is not None
        supported = "supported" if limit.supported else f"not supported: {limit.reason}"
        sys.stdout.write(f"{path}: limit {limit.value:.3g}, {limit.false_alarms} {supported}\n")
        sys.stdout.writelines(f"  {note}\n" for note in trained.notes)
    if "conveyor" in (options.kinds or CLASSES):
        for name, head in {"life": train_life, "failure": train_failures}.items():
            made = head("conveyor", seed=options.seed)
            path = options.out / f"conveyor-{name}.fwm"
            made.write(path)
            sys.stdout.write(f"{path}: {made.manifest.metrics}\n")


if __name__ == "__main__":
    main()
