"""A session gives the bundle's numbers or none."""

from dataclasses import replace

import numpy as np
import pytest

from models import bundle, runtime
from models.errors import BundleError, DeviceError
from tests.models import bundles


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> bundle.Bundle:
    return bundles.make(tmp_path_factory.mktemp("bundles") / "m.fwm")


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_the_cpu_replays_the_golden_vectors(
    held: bundle.Bundle, precision: runtime.Precision
) -> None:
    session = runtime.open_session(held, precision=precision)
    assert session.precision == precision
    assert runtime.replay(session, held.golden, 0.001).worst <= 1
    assert session.run(held.golden.x[:1])["probability"].shape == (1, 1)
    session.close()


def test_other_numbers_are_refused(held: bundle.Bundle) -> None:
    wrong = {name: value + 0.5 for name, value in held.golden.int8.items()}
    lying = replace(held, golden=replace(held.golden, int8=wrong))
    with pytest.raises(BundleError, match=r"golden vectors on cpu must agree within 0\.02"):
        runtime.open_session(lying)
    nan = {name: np.full_like(value, np.nan) for name, value in held.golden.int8.items()}
    with pytest.raises(BundleError, match="is not a number"):
        runtime.open_session(replace(held, golden=replace(held.golden, int8=nan)))


def test_an_unknown_device_is_named(held: bundle.Bundle) -> None:
    with pytest.raises(DeviceError, match="device: must be"):
        runtime.open_session(held, "abacus")


def test_a_wrong_input_is_a_device_error(held: bundle.Bundle) -> None:
    session = runtime.open_session(held)
    with pytest.raises(DeviceError):
        session.run(np.zeros((2, bundles.D + 1), np.float32))
