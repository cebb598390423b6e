"""Numbers of evenly sampled bursts (vibration, current): by time, frequency and shaft order."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from models.features.speed import angle

Floats = NDArray[np.float64]

G_MM_S2 = 9806.65
"""One g in mm/s²."""
VELOCITY_HZ = 10.0, 1000.0
"""The range of ISO 20816-3 for machines above 600 rpm."""


def rms(burst: Floats) -> Floats:
    """Root mean square with the mean removed; ISO 2041:2018.

    Args:
        burst: float64[n, m], n bursts of m samples.

    Returns:
        float64[n], in the burst's unit.

    >>> rms(np.array([[1.0, -1.0, 1.0, -1.0]]))
    array([1.])
    """
    return np.asarray(np.sqrt(np.mean(_centred(burst) ** 2, axis=1)))


def peak(burst: Floats) -> Floats:
    """Largest distance from the mean.

    >>> peak(np.array([[0.0, 0.0, 0.0, 4.0]]))
    array([3.])
    """
    return np.asarray(np.abs(_centred(burst)).max(axis=1))


def crest_factor(burst: Floats) -> Floats:
    """Peak over RMS; rises when impacts begin, falls when they merge. NaN for a still burst.

    >>> crest_factor(np.array([[1.0, -1.0, 1.0, -1.0]]))
    array([1.])
    """
    return _over(peak(burst), rms(burst))


def kurtosis(burst: Floats) -> Floats:
    """Fourth standardised moment: 3 for Gaussian noise, 1.5 for a sine, more for impacts.

    >>> kurtosis(np.array([[1.0, -1.0, 1.0, -1.0]]))
    array([1.])
    """
    square = _centred(burst) ** 2
    return _over(np.mean(square**2, axis=1), np.mean(square, axis=1) ** 2)


def band_rms(burst: Floats, rate_hz: float, low_hz: float, high_hz: float) -> Floats:
    """RMS of what lies between two frequencies (Parseval over the discrete spectrum).

    Args:
        burst: float64[n, m].
        rate_hz: Samples a second.
        low_hz: Included.
        high_hz: Not included.

    >>> wave = np.sin(2 * np.pi * 100 * np.arange(1000) / 1000)[None]
    >>> band_rms(wave, 1000.0, 50.0, 150.0).round(4), band_rms(wave, 1000.0, 150.0, 400.0).round(4)
    (array([0.7071]), array([0.]))
    """
    m = burst.shape[1]
    power = np.abs(np.fft.rfft(_centred(burst), axis=1)) ** 2 / m**2
    hz = np.fft.rfftfreq(m, 1.0 / rate_hz)
    # All but the lowest and (for even m) the highest stand for two frequencies.
    twice = np.full(len(hz), 2.0)
    twice[0] = 1.0
    if m % 2 == 0:
        twice[-1] = 1.0
    inside = (hz >= low_hz) & (hz < high_hz)
    return np.asarray(np.sqrt(power[:, inside] @ twice[inside]))


def bands(burst: Floats, rate_hz: float, count: int = 8) -> Floats:
    """float64[n, count], RMS in equal parts of the range up to half the sampling rate."""
    edges = np.linspace(0.0, rate_hz / 2, count + 1)
    edges[-1] = np.inf
    parts = [band_rms(burst, rate_hz, low, high) for low, high in pairwise(edges)]
    return np.column_stack(parts)


def velocity_rms(burst: Floats, rate_hz: float) -> Floats:
    """RMS of the velocity of an acceleration from 10 to 1,000 Hz, as ISO 20816 judges machines by.

    Args:
        burst: float64[n, m], acceleration in g.
        rate_hz: Samples a second.

    Returns:
        float64[n], mm/s.

    >>> t = np.arange(10000) / 10000
    >>> g = 2 * np.pi * 100 * 5.0 / G_MM_S2 * np.cos(2 * np.pi * 100 * t)
    >>> velocity_rms(g[None], 10000.0).round(3)
    array([3.536])
    """
    m = burst.shape[1]
    spectrum = np.fft.rfft(_centred(burst) * G_MM_S2, axis=1)
    hz = np.fft.rfftfreq(m, 1.0 / rate_hz)
    inside = (hz >= VELOCITY_HZ[0]) & (hz <= VELOCITY_HZ[1])
    velocity = np.abs(spectrum[:, inside]) / (2 * np.pi * hz[inside])
    return np.asarray(np.sqrt(2.0 * (velocity**2).sum(axis=1)) / m)


def envelope(burst: Floats, rate_hz: float, low_hz: float, high_hz: float) -> Floats:
    """float64[m], magnitude of the analytic signal of one band (Hilbert transform by FFT)."""
    spectrum = np.fft.fft(burst - burst.mean())
    hz = np.fft.fftfreq(len(burst), 1.0 / rate_hz)
    keep = np.where((hz >= low_hz) & (hz < high_hz), 2.0, 0.0)
    return np.asarray(np.abs(np.fft.ifft(spectrum * keep)))


def envelope_orders(
    burst: Floats, rate_hz: float, speed_rpm: Floats, low_hz: float, high_hz: float
) -> tuple[Floats, Floats]:
    """Spectrum of the squared envelope by orders of the shaft: how often impacts repeat in a turn.

    Squared, because its noise floor is flat and its harmonics fall faster. What is struck rings at
    its own frequencies whatever the speed, so the band is taken in Hz; how often it is struck goes
    with the shaft, whose speed may change within the burst, so the envelope is laid out over its
    angle.

    Args:
        burst: float64[m].
        rate_hz: Samples a second.
        speed_rpm: float64[m], shaft speed at each sample, > 0; or float64[1] where it is constant.
        low_hz, high_hz: The band.

    Returns:
        Orders float64[f], in events per turn, and amplitudes float64[f].

    Source:
        Randall and Antoni, Rolling element bearing diagnostics, MSSP 25 (2011) 485.
    """
    square = envelope(burst, rate_hz, low_hz, high_hz) ** 2
    per_turn = rate_hz * 60.0 / speed_rpm.min()
    if len(speed_rpm) > 1:
        # As dense as the samples lie where the shaft is slowest, or fast parts would alias.
        per_turn = np.ceil(per_turn)
        square = by_order(square, rate_hz, speed_rpm, int(per_turn))
    return _spectrum(square, float(per_turn))


def by_order(burst: Floats, rate_hz: float, speed_rpm: Floats, samples_per_turn: int) -> Floats:
    """One burst at even angles of the shaft instead of at even times, so that orders stand still.

    Args:
        burst: float64[m].
        rate_hz: Samples a second.
        speed_rpm: float64[m], shaft speed at each sample, > 0.
        samples_per_turn: Twice the highest order that is wanted, at least.

    Returns:
        float64[turns * samples_per_turn], whole turns only.

    Source:
        Computed order tracking: Fyfe and Munck, MSSP 11 (1997) 187.
    """
    turns = angle(len(burst), rate_hz, speed_rpm)
    whole = int(turns[-1])
    at = np.arange(whole * samples_per_turn) / samples_per_turn
    return np.asarray(np.interp(at, turns, burst))


def _spectrum(series: Floats, rate: float) -> tuple[Floats, Floats]:
    """Abscissa float64[f] in the unit of `rate`, amplitudes float64[f] under a Hann window."""
    window = np.hanning(len(series))
    amplitude = np.abs(np.fft.rfft((series - series.mean()) * window))
    at: Floats = np.fft.rfftfreq(len(series), 1.0 / rate).astype(np.float64)
    return at, np.asarray(2.0 * amplitude / window.sum())


def _centred(burst: Floats) -> Floats:
    out: Floats = burst - burst.mean(axis=1, keepdims=True)
    return out


def _over(above: Floats, below: Floats) -> Floats:
    out = np.full(np.shape(above), np.nan)
    return np.asarray(np.divide(above, below, out=out, where=below > 0))
