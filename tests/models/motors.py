"""A motor whose speed changes while it is measured, with and without a struck outer race."""

import numpy as np
from numpy.typing import NDArray

from models.features.bearing import bearing

RATE_HZ = 4000.0
SAMPLES = 4800
BEARING = "6205"
KNOCK_G = 0.25
Floats = NDArray[np.float32]


def bursts(n: int, *, worn: bool, seed: int) -> tuple[Floats, Floats]:
    """float32[n, SAMPLES], acceleration in g, and the shaft's speed in rpm at each sample.

    Each burst runs from 20 % below to 20 % above 1,800 rpm, or the other way; its
    load, and the strength and colour of its noise, are its own.
    """
    rng = np.random.default_rng(seed)
    ramp = np.linspace(-0.2, 0.2, SAMPLES)
    rpm = 1800 * (1 + ramp * rng.choice([-1, 1], (n, 1))) * (1 + rng.normal(0, 0.005, (n, 1)))
    turns = np.cumsum(rpm / 60 / RATE_HZ, axis=1)
    load, flow, colour = (0.15 * rng.uniform(-1, 1, (n, 1)) for _ in range(3))
    noise = rng.normal(0, 0.1, (n, SAMPLES + 1))
    g = 0.3 * (1 + load) * np.sin(2 * np.pi * turns)
    g += (1 + flow) * (noise[:, 1:] + colour * noise[:, :-1])
    at = np.arange(80)
    ring = np.exp(-at / 8) * np.sin(2 * np.pi * 1200 * at / RATE_HZ)
    if worn:
        order = bearing(BEARING).orders["outer race"]
        knocks = turns * order + rng.uniform(0, 1, (n, 1))
        struck = KNOCK_G * (1 + load) * (np.diff(np.floor(knocks), axis=1, prepend=0.0) > 0)
        g += np.stack([np.convolve(row, ring)[:SAMPLES] for row in struck])
    return g.astype(np.float32), rpm.astype(np.float32)
