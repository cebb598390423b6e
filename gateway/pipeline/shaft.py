"""How fast a shaft turned, and when: the last minutes of one speed signal."""

from collections import deque

import numpy as np
from numpy.typing import NDArray

from gateway.core.batch import Waveform
from models.errors import RecordError
from models.features.speed import by_pulses, pulses

Floats = NDArray[np.float64]

KEPT_NS = 120 * 1_000_000_000
"""A burst that is older than this when it comes has no speed any more."""
POINTS_MAX = 4096
"""Of a burst of speed so many means are kept: a shaft cannot change faster."""
CHUNKS_MAX = 4096
LEAD = 0.05
"""A speed that begins so late in a burst, as a share of it, holds for its beginning too: two arrays
of one measurement are not stamped to the sample."""
_NEVER = np.iinfo(np.int64).min // 2


class Shaft:
    """The speed of one shaft over time.

    Attributes:
        pulses_per_turn: Its bursts are of a tachometer; 0: they are of its speed.
        known_ns: UTC ns up to which it is known.
    """

    def __init__(self, pulses_per_turn: int = 0) -> None:
        self.pulses_per_turn = pulses_per_turn
        self.known_ns = _NEVER
        self._chunks: deque[tuple[NDArray[np.int64], Floats]] = deque(maxlen=CHUNKS_MAX)

    def hear(self, t_ns: NDArray[np.int64], rpm: Floats) -> None:
        """Take samples, NaN where they are BAD; those older than what is known are left out."""
        if len(t_ns) and int(t_ns.max()) < self.known_ns - KEPT_NS:
            # The device's clock was set back: what was known is of another time.
            self._chunks.clear()
            self.known_ns = _NEVER
        later = t_ns > self.known_ns
        if not later.any():
            return
        order = np.argsort(t_ns[later], kind="stable")
        self._chunks.append((t_ns[later][order], rpm[later][order]))
        self.known_ns = int(t_ns.max())
        while int(self._chunks[0][0][-1]) < self.known_ns - KEPT_NS:
            self._chunks.popleft()

    def hear_burst(self, wave: Waveform) -> float:
        """Take a speed, or a tachometer, that was sampled evenly beside the vibration.

        Returns:
            Its mean in rpm; NaN where no pulse tells it.
        """
        span_s = len(wave) / wave.rate_hz
        value = wave.value.astype(np.float64)
        if self.pulses_per_turn:
            at_s, rpm = by_pulses(pulses(value, wave.rate_hz), self.pulses_per_turn, span_s)
            mean = _mean(at_s, rpm)
        else:
            parts = np.array_split(np.arange(len(wave)), min(len(wave), POINTS_MAX))
            starts = np.array([part[0] for part in parts])
            size = np.array([len(part) for part in parts])
            rpm = np.add.reduceat(value, starts) / size
            at_s = (starts + (size - 1) / 2) / wave.rate_hz
            mean = float(value.mean())
        self.hear(wave.t0_ns + np.rint(at_s * 1e9).astype(np.int64), rpm)
        # Its last sample holds until its end, where its mean is stamped, which is not heard again.
        self.known_ns = max(self.known_ns, wave.t0_ns + round(span_s * 1e9))
        return mean

    def over(self, wave: Waveform, stale_s: float | None) -> Floats:
        """float64[m], the speed in rpm at each sample of a burst; straight lines between samples.

        Args:
            wave: The burst.
            stale_s: A sample holds so long at most; None: until the next, or until it is BAD.

        Raises:
            RecordError: It is not known all through; the message says why.
        """
        if not self._chunks:
            raise RecordError("speed: no sample of it came yet")
        t_ns = np.concatenate([t for t, _ in self._chunks])
        rpm = np.concatenate([v for _, v in self._chunks])
        at_s = (t_ns - wave.t0_ns) / 1e9
        asked_s = np.arange(len(wave)) / wave.rate_hz
        if at_s[0] > LEAD * asked_s[-1]:
            raise RecordError(
                f"speed: the first sample that is known came {at_s[0]:.1f} s after the burst's"
                " begin; send the speed before the burst"
            )
        around = slice(
            max(int(np.searchsorted(at_s, 0.0, side="right")) - 1, 0),
            int(np.searchsorted(at_s, asked_s[-1])) + 1,
        )
        age_s = float(np.diff(at_s[around], append=max(at_s[around][-1], asked_s[-1])).max())
        if stale_s is not None and age_s > stale_s:
            raise RecordError(
                f"speed: must be known every {stale_s:g} s (stale_s), was not for {age_s:.1f}"
            )
        out = np.interp(asked_s, at_s, rpm)
        if np.isnan(out).any():
            why = (
                "a pulse is missing, or one too many" if self.pulses_per_turn else "see its source"
            )
            raise RecordError(f"speed: was BAD during the burst; {why}")
        return np.asarray(out)


def _mean(at_s: Floats, rpm: Floats) -> float:
    """Over the time in which it is known; NaN where that is none."""
    steps = np.diff(at_s)
    between = (rpm[1:] + rpm[:-1]) / 2
    known = np.isfinite(between)
    return (
        float(between[known] @ steps[known] / steps[known].sum()) if known.any() else float("nan")
    )
