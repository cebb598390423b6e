"""A device that fails in service: the CPU goes on with the same numbers, and the fault is told."""

from collections.abc import Iterator

import numpy as np
import pytest

from models import bundle
from models.errors import DeviceError
from models.runtime.fallback import RETRY_S_MIN, FallbackSession, open_lasting
from tests.models import bundles, modelserver
from tests.servers import free_port


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> bundle.Bundle:
    return bundles.make(tmp_path_factory.mktemp("bundles") / "m.fwm")


@pytest.fixture
def moody(held: bundle.Bundle) -> modelserver.Moody:
    return modelserver.Moody(held)


@pytest.fixture
def url(moody: modelserver.Moody) -> Iterator[str]:
    with modelserver.serving(moody) as at:
        yield at


class Hands:
    """A clock that is moved by hand."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize("mood", ["dead", "lying", "blank"])
def test_a_device_that_fails_in_service_costs_no_answer(
    held: bundle.Bundle, moody: modelserver.Moody, url: str, mood: str
) -> None:
    clock = Hands()
    session = FallbackSession(held, url, now_s=clock)
    x, want = held.golden.x[:5], held.golden.int8["probability"][:5]
    assert session.fault == ""
    assert session.device == url
    np.testing.assert_allclose(session.run(x)["probability"], want, atol=1e-6)
    assert moody.rows[-1] == 6, "one golden row travels with every call"
    moody.mood = mood
    np.testing.assert_allclose(session.run(x)["probability"], want, atol=1e-6)
    assert url in session.fault
    assert session.device == "cpu"
    # Nobody asks it again before its time.
    asked = len(moody.rows)
    session.run(x)
    assert len(moody.rows) == asked
    # It is still ill when it is tried again, and the next try comes later.
    moody.mood = "lying"
    clock.now_s += RETRY_S_MIN
    session.run(x)
    assert len(moody.rows) > asked
    assert session.device == "cpu"
    moody.mood = "honest"
    clock.now_s += RETRY_S_MIN
    session.run(x)
    assert session.device == "cpu"
    clock.now_s += RETRY_S_MIN
    session.run(x)
    assert session.device == url
    assert session.fault == ""
    session.close()


def test_a_device_that_is_not_there_at_the_start_is_a_fault_and_no_end(held: bundle.Bundle) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    session = open_lasting(held, dead)
    assert isinstance(session, FallbackSession)
    assert "refused" in session.fault
    got = session.run(held.golden.x)["probability"]
    np.testing.assert_array_equal(got, held.golden.int8["probability"])
    session.close()
    with pytest.raises(DeviceError, match="closed"):
        session.run(held.golden.x)


@pytest.mark.parametrize("device", ["cuda", "tensorrt", "openvino:NPU", "abacus"])
def test_a_wrong_device_or_driver_is_told(held: bundle.Bundle, device: str) -> None:
    session = open_lasting(held, device)
    assert isinstance(session, FallbackSession)
    assert session.fault.startswith(device.partition(":")[0] if device != "abacus" else "device:")
    assert session.run(held.golden.x[:1])["probability"].shape == (1, 1)
    session.close()


def test_the_cpu_needs_nothing_behind_it(held: bundle.Bundle) -> None:
    session = open_lasting(held, "cpu")
    assert not isinstance(session, FallbackSession)
    session.close()
