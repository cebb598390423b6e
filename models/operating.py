"""Names the operating condition of a window: at what speed and load, and how usual that is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.manifest import Manifest

SPEEDS = ("rpm", "1/min", "min-1", "r/min", "Hz", "m/min", "m/s")
LOADS = (
    *("%", "Nm", "N·m", "kNm", "kN", "N", "kW", "W", "MW", "A"),
    *("kg/h", "t/h", "m³/h", "m3/h", "m³/min", "l/min", "l/s", "l/h"),
    *("bar", "mbar", "kPa", "MPa", "Pa"),
)
"""Units of what a machine is set to or asked for, rather than of how it bears it. Heat, vibration
and sound are answers, so they name no operating condition. The first that is there is taken."""
FIGURES = 3


@dataclass(frozen=True, slots=True, eq=False)
class Operating:
    """The operating conditions of a healthy machine, and what names one.

    Attributes:
        named: The features (which, of which signal, its unit) that say where a window is.
        features: int64[m], of the `d` features: the levels that tell conditions apart.
        scale: float64[m].
        centre: float64[c, m], where each condition lies.
        share: Of the healthy record, in each.
    """

    named: tuple[tuple[int, str, str], ...]
    features: NDArray[np.int64]
    scale: NDArray[np.float64]
    centre: NDArray[np.float64]
    share: tuple[float, ...]

    @classmethod
    def of(cls, manifest: Manifest) -> "Operating":
        """From a bundle; one whose training told no conditions apart has one."""
        held = manifest.detail.get("operating") or {"features": [], "scale": [], "centre": []}
        at = {name: i for i, name in enumerate(manifest.features)}
        levels = [name for name in held["features"] if name in at]
        scale = np.asarray(held["scale"], float)
        centre = np.asarray(held["centre"], float).reshape(-1, max(1, len(levels)))
        units = {signal.name: signal.unit for signal in manifest.signals}
        named = [name for name in (_first(units, SPEEDS), _first(units, LOADS)) if name]
        if not named and len(centre) > 1:
            # No unit tells; what differs most between the conditions does.
            reach = (centre.max(axis=0) - centre.min(axis=0)) / scale
            named = [levels[i].rpartition(":")[0] for i in np.argsort(-reach, kind="stable")[:2]]
        return cls(
            tuple((at[f"{n}:mean"], n, units[n]) for n in named if f"{n}:mean" in at),
            np.array([at[name] for name in levels], np.int64),
            scale,
            centre,
            tuple(held.get("share", (1.0,))),
        )

    def words(self, features: NDArray[np.float32]) -> str:
        """Such as `1,450 rpm, 62 % load`; "" where nothing names it.

        Args:
            features: float32[d], of one window.
        """
        out = []
        for at, name, unit in self.named:
            value = float(features[at])
            if np.isfinite(value):
                number = f"{value:,.{_decimals(value)}f}"
                what = f"{number} {unit}" if unit in SPEEDS else f"{number} {unit} {name}"
                out.append(what if unit else f"{name} {number}")
        return ", ".join(out)

    def rarity(self, features: NDArray[np.float32]) -> float | None:
        """Share of the healthy record that ran so; None where conditions are not told apart."""
        if len(self.centre) < 2:
            return None
        away = (features[self.features] - self.centre) / self.scale
        return float(self.share[int(np.argmin(np.nansum(away**2, axis=1)))])


def _first(units: dict[str, str], wanted: Sequence[str]) -> str:
    """The first signal with the most telling of the units; "" for none."""
    return next((name for unit in wanted for name, has in units.items() if has == unit), "")


def _decimals(value: float) -> int:
    """Decimals that show three figures: an operator needs no more to know where that was."""
    whole = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    return max(0, FIGURES - whole) if value else 0
