"""The operating condition of a window in words, and how usual it is."""

import numpy as np
import pytest

from models.manifest import Limit, Manifest, Signal
from models.operating import Operating
from tests.models.bundles import manifest


def made(units: dict[str, str], **detail: object) -> Manifest:
    return manifest(
        kind="anomaly",
        outputs=("score",),
        labels=(),
        limit=Limit(value=1.0),
        signals=tuple(Signal(name=name, unit=unit) for name, unit in units.items()),
        features=tuple(f"{name}:{kind}" for kind in ("mean", "spread") for name in units),
        detail=detail,
    )


@pytest.mark.parametrize(
    ("units", "values", "words"),
    [
        ({"heat": "°C", "speed": "rpm", "load": "%"}, [60, 1449.7, 62.4], "1,450 rpm, 62.4 % load"),
        ({"power": "kW", "flow": "l/min"}, [3.217, 40.0], "3.22 kW power"),
        ({"shaft": "Hz", "vibration": "mm/s"}, [0.4, 3.0], "0.400 Hz"),
        ({"speed": "rpm"}, [np.nan], ""),
        ({"heat": "°C", "vibration": "mm/s"}, [60.0, 3.0], ""),
    ],
)
def test_what_a_machine_is_set_to_names_its_condition(
    units: dict[str, str], values: list[float], words: str
) -> None:
    features = np.array([*values, *[0.0] * len(values)], np.float32)
    assert Operating.of(made(units)).words(features) == words


def test_without_units_what_differs_most_between_conditions_names_it() -> None:
    held = {
        "features": ["a:mean", "b:mean", "c:mean"],
        "scale": [1.0, 1.0, 1.0],
        "centre": [[0.0, 0.0, 0.0], [0.1, 9.0, 0.0]],
        "share": [0.9, 0.1],
    }
    operating = Operating.of(made({"a": "", "b": "", "c": ""}, operating=held))
    near = np.array([0.0, 8.5, 0.0, 0, 0, 0], np.float32)
    assert operating.words(near) == "b 8.50, a 0"
    assert operating.rarity(near) == 0.1
    assert Operating.of(made({"speed": "rpm"})).rarity(near) is None
