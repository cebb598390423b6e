"""What tells the orders of a shaft from a file: its speed or a tachometer, and its bearing."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import RecordError
from models.features.bearing import DEFECTS, Bearing, bearing
from models.features.burst import order_parts, orders_of
from models.features.rotor import ORDERS
from models.features.speed import is_speed

TURNS = 32
"""A burst cut out of a recording holds so many turns at least: more than the 20 that a bearing's
orders take, for shafts whose speed changes."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Orders:
    """What it takes to tell the orders of a shaft.

    Attributes:
        geometry: Of its bearing; None for the orders of the shaft alone.
        speed: Column (or array) of the shaft's speed; None: the one that is in rpm by its name.
        samples: Of a burst where recordings are cut into bursts; 0: as the first file asks for.
        pulses_per_turn: That column is of a tachometer, with so many pulses a turn; 0: it is a
            speed in rpm.
    """

    geometry: Bearing | None = None
    speed: str | None = None
    samples: int = 0
    pulses_per_turn: int = 0

    @classmethod
    def asked(
        cls, bearing: str | None, speed: str | None, pulses_per_turn: int | None
    ) -> "Orders | None":
        """Of `--bearing`, `--speed` and `--pulses-per-turn`; None where none is given.

        Raises:
            RecordError: They do not go together, or name no bearing.
        """
        if pulses_per_turn and not speed:
            raise RecordError("--pulses-per-turn: needs --speed, the column of the tachometer")
        if not bearing and not speed:
            return None
        return cls(geometry_of(bearing) if bearing else None, speed, 0, pulses_per_turn or 0)

    @classmethod
    def kept(cls, detail: Mapping[str, Any]) -> "Orders | None":
        """Of what a bundle keeps; None where it was trained without."""
        # Bundles from before the shaft's own orders keep them under the name of the bearing.
        held = detail.get("orders") or detail.get("bearing")
        if held is None:
            return None
        return cls(**held | {"geometry": Bearing(**held["geometry"]) if held["geometry"] else None})

    def detail(self) -> dict[str, Any]:
        """What a bundle keeps, so that `score` makes the same signals."""
        return {"orders": asdict(self)}

    @property
    def option(self) -> str:
        """The option that asked for them, for messages."""
        return "--bearing" if self.geometry else "--speed"

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

    def told(self, speed: str) -> str:
        """The name of the speed as a signal: a tachometer's, of its pulses."""
        return f"{speed} speed [rpm]" if self.pulses_per_turn else speed

    def of(
        self, name: str, bursts: Floats, rate_hz: float, speed_rpm: Floats
    ) -> tuple[dict[str, Floats], str]:
        """The orders of each burst, NaN where one is not to be had, and why; "" where all are.

        Args:
            name: Of the signal.
            bursts: float64[n, m].
            rate_hz: Samples a second.
            speed_rpm: float64[n, m] or float64[n, 1].
        """
        rows, lacking = [], []
        for burst, speed in zip(bursts, speed_rpm, strict=True):
            parts, why = orders_of(name, burst, rate_hz, speed, self.geometry)
            rows.append(parts)
            if why:
                lacking.append("; ".join(why))
        made = {
            f"{name} {part}": np.array([row[f"{name} {part}"] for row in rows])
            for part in order_parts(self.geometry)
        }
        if not lacking:
            return made, ""
        return made, f"{name}: {len(lacking)} of {len(rows)} bursts lack orders; {lacking[0]}"

    def need(self, name: str, made: Mapping[str, Floats], why: str) -> None:
        """See that some burst has what was asked for: a bearing's orders, or else the shaft's.

        Raises:
            RecordError: None has; with why the first has none.
        """
        wanted = self.geometry.orders if self.geometry else ORDERS
        if all(np.isnan(made[f"{name} {part}"]).all() for part in wanted):
            raise RecordError(f"{self.option}: {why}")


def geometry_of(text: str) -> Bearing:
    """Of `6205`, or of rollers, their diameter, that of their circle, and a contact angle.

    >>> geometry_of("9,7.94,39.04") == geometry_of("6205")
    True

    Raises:
        RecordError: Neither a known number nor a geometry.
    """
    parts = text.split(",")
    if len(parts) == 1:
        try:
            return bearing(text)
        except RecordError as error:
            told = "as --bearing ROLLERS,ROLLER_MM,PITCH_MM[,CONTACT_DEG], such as 9,7.94,39.04"
            raise RecordError(f"{error}, {told}") from None
    try:
        rollers, roller, pitch, contact = (float(part) for part in [*parts, "0"][:4])
    except ValueError:
        rollers = roller = pitch = contact = 0.0
    if len(parts) > 4 or not (rollers >= 1 and 0 < roller < pitch and 0 <= contact < 90):
        raise RecordError(
            "--bearing: must be a number, such as 6205, or ROLLERS,ROLLER_MM,PITCH_MM"
            f"[,CONTACT_DEG], such as 9,7.94,39.04, was {text!r}"
        )
    return Bearing(int(rollers), roller, pitch, contact)


def without_bearing(names: Collection[str]) -> tuple[str, ...]:
    """A note where orders of a shaft were learned and none of its bearing.

    >>> without_bearing(["drive_end_g rms", "drive_end_g 1x"])
    ('drive_end_g: its shaft is known; with --bearing NUMBER its bearing would be told of too',)
    >>> without_bearing(["drive_end_g 1x", "drive_end_g outer race"])
    ()
    """
    bases = [name.removesuffix(" 1x") for name in names if name.endswith(" 1x")]
    bare = [base for base in bases if f"{base} {DEFECTS[0]}" not in names]
    told = "its shaft is known; with --bearing NUMBER its bearing would be told of too"
    return tuple(f"{base}: {told}" for base in bare[:1])
