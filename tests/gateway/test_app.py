"""The composition root with more machines than any of its parts' lists were thought for."""

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest

from gateway.app import Gateway
from gateway.config import parse
from gateway.console.views import AssetState
from gateway.core.batch import Batch
from gateway.core.refusal import Refused
from gateway.core.signals import Signal
from models.record import RUNNING


def test_one_source_may_feed_thousands_of_machines(tmp_path: Path) -> None:
    rows = "\n".join(
        f'{{ asset = "m{i}", signal = "speed", address = "holding:{i}" }},' for i in range(3000)
    )
    text = (
        '[[source]]\nkind = "modbus"\nid = "hall"\nurl = "tcp://192.0.2.1:502"\n'
        f"signals = [\n{rows}\n]\n"
    )

    async def main() -> None:
        gateway = Gateway(parse(text, tmp_path / "forewarn.toml"))
        try:
            views = gateway.view.assets()
            assert [view.id for view in views] == [f"m{i}" for i in range(3000)]
            assert len(gateway.log.signals) == 3000
        finally:
            gateway.trends.close()
            gateway.log.close()

    asyncio.run(main())


def test_a_machine_that_stands_is_shown_as_stopped_and_its_reading_as_it_is(tmp_path: Path) -> None:
    text = (
        '[[source]]\nkind = "modbus"\nid = "hall"\nurl = "tcp://192.0.2.1:502"\n'
        'signals = [{ asset = "press", signal = "speed", unit = "rpm", address = "holding:1" }]\n'
        '[[asset]]\nid = "press"\nrunning = "speed > 50"\n'
    )

    async def main() -> None:
        gateway = Gateway(parse(text, tmp_path / "forewarn.toml"))
        number = gateway.log.signals.intern(Signal("press", "speed", "rpm"))

        async def read(value: float) -> AssetState:
            t_ns = np.array([time.time_ns()])
            signal, quality = np.array([number], np.int32), np.zeros(1, np.uint8)
            await gateway.flow.take(
                [Batch("hall", signal, t_ns, np.array([value]), quality, int(t_ns[0]))]
            )
            (view,) = gateway.view.assets()
            return view.state

        try:
            assert await read(900.0) is AssetState.OK
            assert await read(3.0) is AssetState.STOPPED
            detail = gateway.view.asset("press")
            assert detail is not None
            values = {s.signal: s.value for s in detail.signals}
            assert values == {"speed": 3.0, RUNNING: 0.0}
            assert await read(900.0) is AssetState.OK
        finally:
            gateway.trends.close()
            gateway.log.close()

    asyncio.run(main())


def test_what_is_asked_of_learning_is_done_or_refused_and_shown(tmp_path: Path) -> None:
    text = (
        '[[source]]\nkind = "modbus"\nid = "hall"\nurl = "tcp://192.0.2.1:502"\n'
        'signals = [{ asset = "press", signal = "speed", unit = "rpm", address = "holding:1" }]\n'
        '[[asset]]\nid = "press"\nlearn = {}\n'
    )

    async def main() -> None:
        gateway = Gateway(parse(text, tmp_path / "forewarn.toml"))
        try:
            (lesson,) = gateway.view.learning()
            assert (lesson.stage, lesson.may) == ("collecting", ("rebaseline",))
            with pytest.raises(Refused, match="makes no sense"):
                await gateway.view.teach("press", "roll_back", "ana")
            before_ns = lesson.since_ns
            await gateway.view.teach("press", "rebaseline", "ana")
            (lesson,) = gateway.view.learning()
            assert lesson.since_ns > before_ns
            assert lesson.reason == "by ana"
            detail = gateway.view.asset("press")
            assert detail is not None
            assert detail.learning == lesson
        finally:
            gateway.trends.close()
            gateway.log.close()

    asyncio.run(main())
