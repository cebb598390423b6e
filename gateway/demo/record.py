"""Records of the demo's machines over many hours: what their models are trained on."""

import numpy as np
from numpy.typing import NDArray

from gateway.demo.machine import Machine
from gateway.demo.machines import CLASSES
from gateway.demo.physics import Column, Fault
from models.formula import Formula

RATE_HZ = 4.0
"""Near the rate at which the demo's sources are read."""
EPOCH_S = 1_767_225_600
"""2026-01-01T00:00:00Z: where every record begins."""
HOURS_TO_FAIL = (72.0, 180.0)


def healthy(
    kind: str, *, hours: float, seed: int, rate_hz: float = RATE_HZ, warm: bool = True
) -> dict[str, Column]:
    """A machine that nothing is wrong with: every regime, and idle times short and long.

    Returns:
        `time` in Unix seconds, then each sensor in its unit: float64[n] each.
    """
    random = np.random.default_rng(np.random.SeedSequence([seed, sorted(CLASSES).index(kind)]))
    n = round(hours * 3600 * rate_hz)
    columns = Machine(CLASSES[kind], random, warm=warm).advance(n, 1 / rate_hz)
    return {"time": EPOCH_S + np.arange(n) / rate_hz} | columns


def stretches(kind: str, columns: dict[str, Column]) -> NDArray[np.int64]:
    """int64[n], which unbroken stretch of running each row belongs to; -1 where it stands."""
    rule, n = CLASSES[kind].running, len(columns["time"])
    if not rule:
        return np.zeros(n, np.int64)
    formula = Formula.parse(f"runs = {rule}")
    at = {word: columns[name] for word, name in formula.needs(tuple(columns)).items()}
    runs = formula.compute(at, n) > 0
    begun = np.diff(runs.astype(np.int64), prepend=0) > 0
    return np.where(runs, np.cumsum(begun) - 1, -1)


def failing(kind: str, fault: Fault, *, hours: float, seed: int) -> dict[str, Column]:
    """The same with one fault that grows; adds `severity`, 0 while healthy."""
    random = np.random.default_rng(np.random.SeedSequence([seed, sorted(CLASSES).index(kind), 1]))
    machine = Machine(CLASSES[kind], random)
    machine.inject(fault)
    n = round(hours * 3600 * RATE_HZ)
    columns = machine.advance(n, 1 / RATE_HZ)
    t_s = np.arange(1, n + 1, dtype=np.float64) / RATE_HZ
    return {"time": EPOCH_S + t_s} | columns | {"severity": fault.severity(t_s)}


def lives(
    kind: str,
    fault_kind: str,
    *,
    machines: int,
    seed: int,
    rate_hz: float = 1 / 60,
    hours: tuple[float, float] = HOURS_TO_FAIL,
) -> dict[str, Column]:
    """Lives of several machines until one fault stops them: what remaining life is learned from.

    Each machine works for some time in `hours`; its fault is slow at first and faster at the end,
    and the machine is stopped when the severity is 1.

    Returns:
        `machine` (its number), `time`, each sensor, `severity` and `rul_h`: float64[n] each.
    """
    out: list[dict[str, Column]] = []
    for number in range(machines):
        random = np.random.default_rng(
            np.random.SeedSequence([seed, sorted(CLASSES).index(kind), 2, number])
        )
        life_h = float(random.uniform(*hours))
        onset_s = 3600 * life_h * float(random.uniform(0.1, 0.5))
        machine = Machine(CLASSES[kind], random)
        machine.inject(Fault(fault_kind, onset_s, 3600 * life_h - onset_s, 1.0, 1.5))
        n = int(life_h * 3600 * rate_hz)
        columns = machine.advance(n, 1 / rate_hz)
        t_s = np.arange(1, n + 1, dtype=np.float64) / rate_hz
        out.append(
            {"machine": np.full(n, float(number)), "time": EPOCH_S + t_s}
            | columns
            | {"severity": machine.faults[0].severity(t_s), "rul_h": life_h - t_s / 3600}
        )
    return {name: np.concatenate([life[name] for life in out]) for name in out[0]}
