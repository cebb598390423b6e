"""The shipped bundles: quiet on lives that they have not seen, and quick to find what is wrong."""

import numpy as np
import pytest

from gateway.demo.configuration import ARTIFACTS, LIFE_H, shipped_bundles
from gateway.demo.machines import CLASSES
from gateway.demo.physics import Column, Fault
from gateway.demo.record import EPOCH_S, failing, healthy, stretches
from models import bundle
from models.heads import answer
from models.record import Record
from models.score import score
from tests.gateway.test_demo_physics import SHOWN

ONSET_S, FOUND_S_MAX = 40.0, 30.0


def record_of(kind: str, columns: dict[str, Column]) -> Record:
    """Columns of the demo's physics as a record."""
    names = tuple(name for name in columns if name not in ("time", "energy", "severity"))
    units = tuple(CLASSES[kind].sensors[name].unit for name in names)
    values = np.stack([columns[name] for name in names], axis=1)
    own = stretches(kind, columns)
    runs, count = own >= 0, int(own.max()) + 1
    return Record(
        values=values[runs],
        names=names,
        units=units,
        time_s=columns["time"][runs],
        group=own[runs],
        groups=tuple(map(str, range(count))),
    )


@pytest.mark.parametrize("kind", CLASSES)
def test_a_shipped_bundle_is_quiet_in_health_and_finds_its_fault(kind: str) -> None:
    made = bundle.read(shipped_bundles()[kind][0])
    assert made.manifest.state == "active"
    assert made.manifest.asset_class == kind
    assert made.manifest.limit
    assert made.manifest.limit.supported
    limit = made.manifest.limit.value
    quiet = score(made, record_of(kind, healthy(kind, hours=4, seed=301))).score
    assert np.nanmax(quiet) < 0.9 * limit
    assert {"sensors", "follow", "operating"} <= set(made.manifest.detail)
    for seed in (311, 312):
        sick = failing(kind, Fault(SHOWN[kind], ONSET_S, 30.0), hours=120 / 3600, seed=seed)
        ill = record_of(kind, sick)
        over = np.flatnonzero(np.nan_to_num(score(made, ill).score) > limit)
        assert len(over)
        assert ill.time_s is not None
        assert 0 < ill.time_s[over[0]] - EPOCH_S - ONSET_S < FOUND_S_MAX


def test_the_shipped_failure_modes_are_told_apart_and_quiet_in_health() -> None:
    made = bundle.read(ARTIFACTS / "conveyor-failure.fwm")
    modes = made.manifest.labels
    assert set(modes) == set(CLASSES["conveyor"].faults)
    calm = answer(made, record_of("conveyor", healthy("conveyor", hours=2, seed=301))).values
    assert np.nanmax(calm) < 0.2
    for mode in modes:
        sick = failing("conveyor", Fault(mode, ONSET_S, 30.0), hours=100 / 3600, seed=311)
        said = answer(made, record_of("conveyor", sick)).values
        assert np.nanmax(said[: int(4 * ONSET_S)]) < 0.2
        assert modes[int(np.argmax(said[-1]))] == mode
        assert said[-1].max() > 0.5


def test_the_shipped_life_is_long_in_health_and_ends_with_the_bearing() -> None:
    made = bundle.read(ARTIFACTS / "conveyor-life.fwm")
    hours = made.manifest.detail["row_s"] / 3600
    calm = answer(made, record_of("conveyor", healthy("conveyor", hours=2, seed=301))).values
    assert np.nanmin(calm[:, 1]) * hours > 4 * LIFE_H
    sick = failing("conveyor", Fault("bearing_wear", ONSET_S, 60.0), hours=120 / 3600, seed=311)
    said = answer(made, record_of("conveyor", sick)).values * hours
    assert said[-1, 1] < LIFE_H
