"""The orders of the shaft itself: how strongly it shakes at half, once, twice, thrice its speed."""

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from models.features.speed import angle, running

Floats = NDArray[np.float64]

ORDERS = {"0.5x": 0.5, "1x": 1.0, "2x": 2.0, "3x": 3.0}
FAULTS = {
    "0.5x": "looseness_or_rub",
    "3x": "misalignment_or_looseness",
    "2x": "misalignment",
    "1x": "unbalance",
}
"""What an order is in keeping with where none that stands before it is high. Rules of thumb and no
diagnosis: a bent shaft raises 1x as well, a resonance any."""
TURNS = 8
"""Of each fit. More would tell orders more finely, but a speed that is 1 % wrong would then be a
quarter of a turn off at 3x, and what is fitted would vanish."""
PERIODS_MIN = 2
"""A Hann window tells two lines apart that lie so many of its lengths' lines from each other."""
SAMPLES_A_PERIOD_MIN = 2.56
"""As analysers have it: above, the filter before the sampling takes away what there is."""

SAMPLES_A_TURN = 64
"""Are fitted, where there are twice as many or more."""


def amplitudes(
    burst: Floats, rate_hz: float, speed_rpm: float | Floats
) -> tuple[dict[str, float], str]:
    """RMS of what goes with the shaft at each of its orders, in the burst's unit.

    Cosines and sines of the shaft's angle are fitted by least squares under a Hann window, all
    orders, a level and a trend at once; over stretches of 8 turns that overlap by half, whose
    squares are averaged. So neither a speed that is some percent wrong nor one that changes
    smears them, and what goes by another clock (a line frequency, a cage) is told apart from 0.25
    orders on.

    Args:
        burst: float64[m].
        rate_hz: Samples a second.
        speed_rpm: Of the shaft: one number, or float64[m], one a sample.

    Returns:
        By order; NaN where the burst has too few turns (4 for the half order, 2 for the others) or
        too few samples a turn; and why one is NaN, "" where none is.

    Raises:
        RecordError: The speed is not known, or the shaft stands, starts or stops.

    Source:
        Least squares instead of lines of a spectrum, as orders are known and bursts are short:
        Blough, Brown and Vold, The time variant discrete Fourier transform as an order tracking
        method, SAE 972006 (1997), with its compensation for orders that are not orthogonal.
    """
    speed = running(speed_rpm)
    turned = angle(len(burst), rate_hz, speed)
    turns = float(turned[-1]) * len(burst) / max(len(burst) - 1, 1)
    why = ""
    fitted = dict(ORDERS)
    if turns < PERIODS_MIN / 0.5:
        del fitted["0.5x"]
        why = f"burst: must hold at least 4 turns of the shaft for 0.5x, held {turns:.1f}"
    if turns < PERIODS_MIN:
        fitted = {}
        why = f"burst: must hold at least 2 turns of the shaft, held {turns:.1f}"
    fastest = rate_hz * 60.0 / SAMPLES_A_PERIOD_MIN / float(speed.max())
    if ORDERS["3x"] > fastest:
        fitted = {name: order for name, order in fitted.items() if order <= fastest}
        why = why or (
            f"rate_hz: must be at least {SAMPLES_A_PERIOD_MIN:g} times the shaft's speed for each "
            f"order, was {rate_hz / float(speed.max()) * 60.0:.2g} times"
        )
    out = dict.fromkeys(ORDERS, np.nan)
    if fitted:
        each = int(rate_hz * 60.0 / SAMPLES_A_TURN / float(speed.max()))
        power = _power(*_thinned(burst, turned, each), list(fitted), turns)
        out |= dict(zip(fitted, np.sqrt(power).tolist(), strict=True))
    return out, why


def _thinned(burst: Floats, turned: Floats, each: int) -> tuple[Floats, Floats]:
    """One of so many samples, and the angle of each, under a triangle that spans two of them.

    It lets 3x pass but for 1 %, and nothing that would come out there: 0.3 % of what goes 61 or 67
    times a turn.
    """
    if each < 2 or len(burst) < 4 * each:
        return burst, turned
    rise = (np.arange(each) + 0.5) / each**2
    whole = burst[: len(burst) // each * each].reshape(-1, each)
    return whole[:-1] @ rise + whole[1:] @ rise[::-1], turned[each - 1 :: each][: len(whole) - 1]


def _power(burst: Floats, turned: Floats, orders: Sequence[str], turns: float) -> Floats:
    """float64[k], mean square of the part of each order."""
    size = min(len(burst), round(len(burst) * TURNS / turns))
    steps = int(np.ceil((len(burst) - size) / (size / 2)))
    window = np.sqrt(np.hanning(size + 2)[1:-1])
    trend = np.linspace(-1.0, 1.0, size)
    starts = np.linspace(0, len(burst) - size, steps + 1).astype(int)
    half = np.exp(1j * np.pi * turned)
    once = half * half
    # Products, for each exponential costs as much as all the rest.
    every = {"0.5x": half, "1x": once, "2x": once * once, "3x": once * once * once}
    waves = np.array([every[order] for order in orders])
    model = np.empty((2 + 2 * len(orders), size))
    model[:2] = window, window * trend
    power = np.zeros(len(orders))
    for start in starts:
        part = slice(start, start + size)
        model[2:] = np.concatenate([waves.real[:, part], waves.imag[:, part]]) * window
        found = np.linalg.solve(model @ model.T, model @ (burst[part] * window))
        cosines, sines = found[2:].reshape(2, -1)
        power += (cosines**2 + sines**2) / 2
    return power / len(starts)


def in_keeping_with(higher: Collection[str]) -> str:
    """The fault that commonly raises these orders and no others; "" for none.

    >>> [in_keeping_with(h) for h in (["1x"], ["1x", "2x"], ["2x", "3x"], ["0.5x", "1x"], [])]
    ['unbalance', 'misalignment', 'misalignment_or_looseness', 'looseness_or_rub', '']
    """
    return next((fault for order, fault in FAULTS.items() if order in higher), "")
