"""Cuts a recording of vibration and speed into bursts, and tells a bearing's orders of each."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.cli.cells import unit_of
from models.errors import RecordError
from models.features.bearing import Bearing, bearing
from models.features.burst import described, knocks
from models.record import Record

TURNS = 32
"""A burst cut out of a recording holds so many turns at least: more than the 20 that orders take,
for shafts whose speed changes."""
EVEN = 0.01
"""A burst whose length by the clock differs by more, as a share, has a gap."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Orders:
    """What it takes to tell a bearing's orders.

    Attributes:
        geometry: Of the bearing.
        speed: Column (or array) of the shaft's speed; None: the one that is in rpm by its name.
        samples: Of a burst where recordings are cut into bursts; 0: as the first file asks for.
    """

    geometry: Bearing
    speed: str | None = None
    samples: int = 0

    @classmethod
    def parse(cls, text: str, speed: str | None) -> "Orders":
        """Of `6205`, or of rollers, their diameter, that of their circle, and a contact angle.

        >>> Orders.parse("9,7.94,39.04", None).geometry == Orders.parse("6205", None).geometry
        True

        Raises:
            RecordError: Neither a known number nor a geometry.
        """
        parts = text.split(",")
        if len(parts) == 1:
            return cls(bearing(text), speed)
        try:
            rollers, roller, pitch, contact = (float(part) for part in [*parts, "0"][:4])
        except ValueError:
            rollers = roller = pitch = contact = 0.0
        if len(parts) > 4 or not (rollers >= 1 and 0 < roller < pitch and 0 <= contact < 90):
            raise RecordError(
                "--bearing: must be a number, such as 6205, or ROLLERS,ROLLER_MM,PITCH_MM"
                f"[,CONTACT_DEG], such as 9,7.94,39.04, was {text!r}"
            )
        return cls(Bearing(int(rollers), roller, pitch, contact), speed)

    @classmethod
    def kept(cls, detail: Mapping[str, Any]) -> "Orders | None":
        """Of what a bundle keeps; None where it was trained without a bearing."""
        held = detail.get("bearing")
        if held is None:
            return None
        return cls(Bearing(**held["geometry"]), held["speed"], held["samples"])

    def detail(self) -> dict[str, Any]:
        """What a bundle keeps, so that `score` makes the same signals."""
        return {"bearing": asdict(self)}

    def speed_of(self, names: tuple[str, ...]) -> str:
        """The name of the speed among those that there are.

        Raises:
            RecordError: None, or several.
        """
        found = [n for n in names if (n == self.speed if self.speed else is_speed(n))]
        if len(found) != 1:
            raise RecordError(
                f"--speed: must name the column of the shaft's speed in rpm, there are "
                f"{', '.join(names)}"
            )
        return found[0]

    def samples_for(self, rate_hz: float, speed_rpm: Floats) -> int:
        """Samples of a burst: a power of two that holds `TURNS` turns at the usual speed.

        Raises:
            RecordError: The machine never runs.
        """
        running = speed_rpm[np.nan_to_num(speed_rpm) > 0]
        if not len(running):
            raise RecordError("--speed: must be above 0 rpm somewhere; the machine never runs here")
        return 1 << int(np.ceil(np.log2(TURNS * 60 / np.median(running) * rate_hz)))

    def of(self, name: str, bursts: Floats, rate_hz: float, speed_rpm: Floats) -> dict[str, Floats]:
        """The orders of each burst; NaN where a burst has none.

        Args:
            name: Of the signal.
            bursts: float64[n, m].
            rate_hz: Samples a second.
            speed_rpm: float64[n, m] or float64[n, 1].

        Raises:
            RecordError: No burst has any; with why the first has none.
        """
        why = ""
        rows = []
        for burst, speed in zip(bursts, speed_rpm, strict=True):
            try:
                rows.append(knocks(name, burst, rate_hz, speed, self.geometry))
            except RecordError as error:
                why = why or str(error)
                rows.append({})
        names = [f"{name} {defect}" for defect in self.geometry.orders]
        if not any(rows):
            raise RecordError(f"{name}: no burst shows a bearing's orders; {why}")
        return {name: np.array([row.get(name, np.nan) for row in rows]) for name in names}


def is_speed(name: str) -> bool:
    """Whether a column or an array is a speed by its name.

    >>> [is_speed(n) for n in ("rpm", "shaft_rpm", "Speed [rpm]", "drpmx")]
    [True, True, True, False]
    """
    plain = name.lower()
    return plain == "rpm" or plain.endswith("_rpm") or unit_of(plain) == "rpm"


def is_vibration(name: str) -> bool:
    """Whether a column or an array is an acceleration in g by its name."""
    return name.endswith("_g") or unit_of(name) == "g"


def recording_of(record: Record, orders: Orders) -> tuple[str, list[str], float]:
    """The speed, the vibrations and the sampling rate of a recording.

    Raises:
        RecordError: It is none.
    """
    speed = orders.speed_of(record.names)
    waves = [name for name in record.names if is_vibration(name)]
    if not waves or record.time_s is None:
        raise RecordError(
            "--bearing: needs a time column and a vibration in g (vibration_g, vibration [g]); "
            f"there are {', '.join(record.names)}"
        )
    step_s = float(np.median(np.diff(record.time_s)))
    if not step_s > 0:
        raise RecordError(f"--bearing: times must rise from row to row, rose by {step_s:g} s")
    return speed, waves, 1.0 / step_s


def by_burst(record: Record, orders: Orders) -> Record:
    """A recording as one row a burst: parts of its vibrations, orders, and means of the rest.

    A burst lies in one sequence and has no gap; it is labelled where any of its rows is.

    Raises:
        RecordError: It is no recording, or shorter than a burst.
    """
    speed, waves, rate_hz = recording_of(record, orders)
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
            f"--bearing: must hold a burst of {m} rows ({m / rate_hz:.3g} s) without a gap; record "
            "for longer"
        )
    rows = np.array(cut)
    columns = {name: _means(record.values[rows, i]) for name, i in at.items() if name not in waves}
    units = [record.units[at[name]] for name in columns]
    speed_rpm = record.values[rows, at[speed]]
    for name in waves:
        bursts = record.values[rows, at[name]]
        parts = described(name, bursts, rate_hz, acceleration_g=True)
        parts |= orders.of(name, bursts, rate_hz, speed_rpm)
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
        time_text=tuple(record.time_text[i] for i in last) if record.time_text else (),
    )


def _means(values: Floats) -> Floats:
    """float64[n], of what is known of each row; NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis=1)
    total = np.where(known, values, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
