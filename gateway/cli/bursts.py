"""Cuts a recording of vibration and speed into described bursts, and tells of one taken as rows."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gateway.cli.cells import unit_of
from gateway.cli.shaft import Orders
from models.errors import RecordError
from models.features.burst import described
from models.features.speed import at_samples
from models.record import Record

EVEN = 0.01
"""A burst whose length by the clock differs by more, as a share, has a gap."""

RATE_HZ_MIN, STRETCH, OFF_ZERO_MAX = 1000.0, 4096, 0.2
"""A column of so many rows a second is a waveform if it swings about zero, off by this share of its
spread at most, in each stretch of so many rows."""

Floats = NDArray[np.float64]


def is_vibration(name: str) -> bool:
    """Whether a column or an array is an acceleration in g by its name."""
    return name.endswith("_g") or unit_of(name) == "g"


def recording_of(record: Record, orders: Orders) -> tuple[Record, str, list[str], float]:
    """A recording with its speed in rpm, the names of speed and vibrations, its sampling rate.

    Raises:
        RecordError: It is none; the message says what it lacks.
    """
    speed = orders.speed_of(record.names)
    waves = [name for name in record.names if is_vibration(name) and name != speed]
    lacks = [] if waves else ["a vibration in g, called so (vibration_g, vibration [g])"]
    if record.time_s is None:
        lacks.append("a time column; name it with --time")
    if lacks or record.time_s is None:
        raise RecordError(
            f"{orders.option}: needs {', and '.join(lacks)}; there are {', '.join(record.names)}"
        )
    step_s = float(np.median(np.diff(record.time_s)))
    if not step_s > 0:
        raise RecordError(f"{orders.option}: times must rise from row to row, rose by {step_s:g} s")
    if orders.pulses_per_turn:
        record = _by_pulses(record, speed, orders, 1.0 / step_s)
    return record, orders.told(speed), waves, 1.0 / step_s


def _by_pulses(record: Record, tachometer: str, orders: Orders, rate_hz: float) -> Record:
    """With the speed instead of the tachometer that tells it."""
    at = record.names.index(tachometer)
    values = record.values.copy()
    for _, rows in record.sequences():
        values[rows, at] = at_samples(
            record.values[rows, at], orders.pulses_per_turn, len(rows), rate_hz
        )
    told = {tachometer: (orders.told(tachometer), "rpm")}
    pairs = zip(record.names, record.units, strict=True)
    named = [told.get(name, (name, unit)) for name, unit in pairs]
    return replace(
        record,
        values=values,
        names=tuple(name for name, _ in named),
        units=tuple(unit for _, unit in named),
    )


def by_burst(record: Record, orders: Orders) -> Record:
    """A recording as one row a burst: parts of its vibrations, orders, and means of the rest.

    A burst lies in one sequence and has no gap; it is labelled where any of its rows is.

    Raises:
        RecordError: It is no recording, or shorter than a burst.
    """
    record, speed, waves, rate_hz = recording_of(record, orders)
    at = {name: i for i, name in enumerate(record.names)}
    m = orders.samples or orders.samples_for(rate_hz, record.values[:, at[speed]])
    assert record.time_s is not None
    cut = [
        rows[start : start + m]
        for _, rows in record.sequences()
        for start in range(0, len(rows) - m + 1, m)
    ]
    span_s = (m - 1) / rate_hz
    cut = [
        rows
        for rows in cut
        if abs(record.time_s[rows[-1]] - record.time_s[rows[0]] - span_s) <= EVEN * span_s
        and np.isfinite(record.values[rows][:, [at[name] for name in waves]]).all()
    ]
    if not cut:
        raise RecordError(
            f"{orders.option}: must hold a burst of {m} rows ({m / rate_hz:.3g} s) without a gap; "
            "record for longer"
        )
    rows = np.array(cut)
    columns = {name: means(record.values[rows, i]) for name, i in at.items() if name not in waves}
    units = [record.units[at[name]] for name in columns]
    speed_rpm = record.values[rows, at[speed]]
    notes = list(record.notes)
    for name in waves:
        bursts = record.values[rows, at[name]]
        parts = described(name, bursts, rate_hz, acceleration_g=True)
        made, why = orders.of(name, bursts, rate_hz, speed_rpm)
        orders.need(name, made, why)
        notes += [why] if why else []
        parts |= made
        columns |= parts
        units += [unit_of(part) for part in parts]
    last = rows[:, -1]
    return replace(
        record,
        values=np.column_stack(list(columns.values())),
        names=tuple(columns),
        units=tuple(units),
        time_s=record.time_s[last],
        group=record.group[last],
        labels={n: np.nan_to_num(held)[rows].max(axis=1) for n, held in record.labels.items()},
        categories={},
        notes=tuple(notes),
        time_text=tuple(record.time_text[i] for i in last) if record.time_text else (),
    )


def means(values: Floats) -> Floats:
    """float64[n], of what is known of each row; NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis=1)
    total = np.where(known, values, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def taken_as_rows(record: Record) -> tuple[str, ...]:
    """That columns which are waveforms are learned row by row, and what shows more of them.

    Where there is no time, any that swing about zero may be.
    """
    if len(record) < STRETCH:
        return ()
    rate, of_time = "N", "from row to row"
    if record.time_s is not None:
        step_s = float(np.median(np.diff(record.time_s)))
        if not 0 < step_s <= 1.001 / RATE_HZ_MIN:
            return ()
        rate = f"{float(f'{1 / step_s:.4g}'):g}"
        of_time = f"at {rate} rows a second"
    stretches = record.values[: len(record) // STRETCH * STRETCH].reshape(
        -1, STRETCH, len(record.names)
    )
    spread, off = stretches.std(axis=1), np.abs(stretches.mean(axis=1))
    # NaN compares as false, so a column with gaps is left alone.
    swings = np.all((spread > 0) & (off < OFF_ZERO_MAX * spread), axis=0)
    waves = [record.names[i] for i in np.flatnonzero(swings)]
    if not waves:
        return ()
    axes = f", {len(waves)}" if len(waves) > 1 else ""
    note = (
        f"{', '.join(waves)}: swings about zero {of_time}, a waveform? Rows "
        "show little of it. Bursts show its RMS, crest factor, kurtosis and bands: save it by "
        f"numpy.savez as an array [bursts, {STRETCH}{axes}] beside rate_hz={rate}, then give "
        "--data bursts.npz instead (models/vibration.md)"
    )
    return (note,)
