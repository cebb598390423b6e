"""Reads recorded bursts (`.npz`) as a table: one row a burst, its waveform features as columns."""

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.cli.bursts import is_vibration, means
from gateway.cli.shaft import Orders
from models.errors import RecordError
from models.features.burst import described
from models.features.speed import at_samples, is_speed

BURST = 4096
"""Samples of a burst where a file holds one long recording."""
BYTES_MAX = 2 << 30

_TIME = re.compile(r"^(t|ts|time|timestamp|zeit)(_(s|ms|us|ns))?$", re.IGNORECASE)

Floats = NDArray[np.float64]


def columns_of(
    path: Path, data: bytes, orders: Orders | None = None
) -> tuple[dict[str, Floats], int, tuple[str, ...]]:
    """Waveform features of each burst; how many samples it has (0: a row is no burst); and notes.

    Arrays of one length, one of which is called a time, are columns. Else the largest array is the
    waveform: float[n, samples, axes], float[n, samples], or one long float[samples] that is cut
    into bursts of 4,096. `rate_hz` and `t0` (seconds; or hour, minute,
    second, microsecond) are used where they are there. Bands are equal parts of the range up to
    half the sampling rate, so they need no rate. A name that ends in `_g` is an acceleration, and
    gets its velocity by ISO 20816 too. An array called `rpm` (or ending so, or named by `orders`)
    holds the speed of all bursts, of each, or of each sample: so each has the orders of its shaft,
    and with `orders` those of a bearing. Instead it may be a tachometer's, as `at_samples` takes
    it. Where the speed is more than one number, its means are a column too.

    Raises:
        RecordError: No such array, or a damaged file.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as inner:
            if "xl/workbook.xml" in inner.namelist():
                raise RecordError(f"{path}: is an Excel workbook; save its sheet as CSV")
            if sum(info.file_size for info in inner.infolist()) > BYTES_MAX:
                raise RecordError(f"{path}: must unpack to at most {BYTES_MAX} bytes")
        with np.load(io.BytesIO(data), allow_pickle=False) as held:
            arrays = {name: held[name] for name in held.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise RecordError(f"{path}: cannot be read as arrays: {error}") from error
    if (rows := _rows(arrays)) is not None:
        return rows, 0, ()
    numeric = {n: a for n, a in arrays.items() if a.dtype.kind in "fiu" and a.size}
    of_speed = orders.speed_of(tuple(numeric)) if orders else next(filter(is_speed, numeric), "")
    speed = numeric.pop(of_speed, np.zeros(0)).astype(np.float64)
    name = max(numeric, key=lambda n: numeric[n].size, default="")
    wave = numeric.get(name, np.zeros(0)).astype(np.float64)
    rate = float(arrays["rate_hz"]) if "rate_hz" in arrays and arrays["rate_hz"].size == 1 else None
    long = wave.ndim == 1
    if orders and rate is None:
        raise RecordError(f"{path}: {orders.option} needs the sampling rate, an array rate_hz")
    if orders and orders.pulses_per_turn and rate:
        speed = _by_pulses(speed, orders.pulses_per_turn, wave.shape[:2], rate)
        of_speed = orders.told(of_speed)
    size = BURST
    if long:
        if orders and rate:
            size = orders.samples or orders.samples_for(rate, speed.ravel())
        if speed.shape == wave.shape:
            speed = speed[: len(wave) // size * size].reshape(-1, size)
        wave = wave[: len(wave) // size * size].reshape(-1, size)
    if wave.ndim not in {2, 3} or not len(wave) or wave.shape[1] < 32:
        raise RecordError(
            f"{path}: must hold bursts of 32 samples or more: [n, samples], [n, samples, axes] or "
            f"[samples]; held {', '.join(f'{n} {a.shape}' for n, a in arrays.items()) or 'nothing'}"
        )
    axes = wave[:, :, None] if wave.ndim == 2 else wave
    out: dict[str, Floats] = {}
    times = _times(arrays.get("t0"), len(axes))
    if times is None and long and rate:
        times = np.arange(1, len(axes) + 1) * size / rate
    if times is not None:
        out["time"] = times
    notes = []
    speeds = _speeds(speed, axes.shape[:2])
    if orders and speeds is None:
        raise RecordError(
            f"{path}: speed: must be one number, one a burst or one a sample ({axes.shape[:2]}), "
            f"was {speed.shape}"
        )
    for index in range(axes.shape[2]):
        key = name if axes.shape[2] == 1 else f"{name}_{index + 1}"
        burst = np.ascontiguousarray(axes[:, :, index])
        out |= described(key, burst, rate, acceleration_g=is_vibration(name))
        if rate and speeds is not None:
            made, why = (orders or Orders()).of(key, burst, rate, speeds)
            if orders:
                try:
                    orders.need(key, made, why)
                except RecordError as error:
                    raise RecordError(f"{path}: {error}") from error
            out |= made
            notes += [why] if why else []
    if speed.ndim and len(speed) == len(axes) and len(speed) > 1:
        out[of_speed] = means(speed.reshape(len(speed), -1))
    return out, axes.shape[1], tuple(notes)


def _by_pulses(held: Floats, per_turn: int, shape: tuple[int, ...], rate_hz: float) -> Floats:
    """float64[shape], the speed by a tachometer of the whole recording, or of each burst."""
    if len(shape) == 1:
        return at_samples(held.ravel(), per_turn, shape[0], rate_hz)
    return np.array([at_samples(row, per_turn, shape[1], rate_hz) for row in np.atleast_2d(held)])


def _speeds(held: Floats, shape: tuple[int, ...]) -> Floats | None:
    """float64[n, m] or float64[n, 1], the speed of each burst; None where it does not fit them."""
    if held.size == 1:
        return np.full((shape[0], 1), held.item())
    if held.shape == (shape[0],):
        return held[:, None]
    return held if held.shape == shape else None


def _rows(arrays: dict[str, NDArray[Any]]) -> dict[str, Floats] | None:
    """The arrays as columns, where one of them is called a time and all are as long as it."""
    time = next((a for n, a in arrays.items() if _TIME.match(n) and a.ndim == 1), None)
    if time is None or len(arrays) < 2 or {a.shape for a in arrays.values()} != {time.shape}:
        return None
    out = {}
    for name, column in arrays.items():
        if column.dtype.kind == "M":
            out[name] = column.astype("datetime64[ns]").astype(np.int64) / 1e9
        elif column.dtype.kind in "fiub":
            out[name] = column.astype(np.float64)
    return out if len(out) > 1 and len(time) else None


def _times(held: NDArray[np.generic] | None, n: int) -> Floats | None:
    if held is None or held.dtype.kind not in "fiu" or len(held) != n:
        return None
    if held.ndim == 1:
        return held.astype(np.float64)
    if held.ndim == 2 and held.shape[1] == 4:
        return np.asarray(held.astype(np.float64) @ np.array([3600.0, 60.0, 1.0, 1e-6]))
    return None
