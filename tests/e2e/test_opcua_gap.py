"""A gateway that is killed: what the OPC UA server kept meanwhile is in the log, each once."""

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from gateway.core.errors import StoreError
from tests.e2e.processes import Gateway, gateway
from tests.eventually import eventually
from tests.protocols.opcua_plant import URI, Plant, plant

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def historian() -> AsyncIterator[Plant]:
    async with plant() as made:
        await made.historize("speed")
        await made.historize("load")
        await made.add("torque", 0.0)  # Nobody keeps its past.
        yield made


def configure(folder: Path, url: str, names: tuple[str, ...]) -> Path:
    rows = ",\n".join(
        f'  {{ asset = "pump", signal = "{n}", address = "nsu={URI};s={n}", queue_size = 1000 }}'
        for n in names
    )
    path = folder / "forewarn.toml"
    path.write_text(
        f"""
        [gateway]
        id = "hall"
        data_dir = "{folder / "data"}"
        [console]
        enabled = false
        [[source]]
        kind = "opcua"
        id = "plc"
        url = "{url}"
        security_policy = "None"
        publishing_interval_s = 0.1
        keep_alive_s = 0.5
        repeat_s = 0.3
        timeout_s = 1.0
        signals = [
        {rows}
        ]
        """
    )
    return path


class Teller:
    """Gives values without end; remembers when each was."""

    def __init__(self, made: Plant) -> None:
        self.made = made
        self.told: dict[str, list[int]] = {"speed": [], "load": []}

    async def tell(self, name: str) -> None:
        told = self.told[name]
        at = datetime.now(UTC)
        at = at.replace(microsecond=at.microsecond // 1000 * 1000)
        await self.made.set(name, float(len(told) + 1), at=at)
        told.append(round(at.timestamp() * 1000) * 1_000_000)

    async def run(self) -> None:
        """`speed` changes all the time, `load` now and then."""
        while True:
            await self.tell("speed")
            if len(self.told["speed"]) % 40 == 0:
                await self.tell("load")
            await asyncio.sleep(0.02)


def logged(one: Gateway, name: str) -> Counter[int]:
    """How often the log holds each time at which a signal had a usable value."""
    try:
        with one.log() as log:
            table = log.signals()
            numbers = [i for i, s in enumerate(table.signals()) if s.name == name]
            _, t_ns, _, quality = log.samples(0, 1 << 62, numbers)
    except StoreError:
        return Counter()  # Not made yet.
    return Counter(t_ns[quality != 2].tolist())


def stop_in_a_thread(one: Gateway, number: signal.Signals) -> "asyncio.Future[int]":
    """The plant goes on while the gateway ends."""
    loop = asyncio.get_running_loop()
    return loop.run_in_executor(None, lambda: one.stop(number, timeout_s=20))


async def test_after_kill_9_the_gap_is_filled_from_the_servers_history_once(
    historian: Plant, tmp_path: Path
) -> None:
    teller = Teller(historian)
    speed, load = teller.told["speed"], teller.told["load"]
    config = configure(tmp_path, historian.url, ("speed", "load"))
    with gateway(config) as one:
        telling = asyncio.create_task(teller.run())
        try:
            for _ in range(2):
                one.start()
                mark = len(speed)
                await eventually(
                    lambda mark=mark: bool(logged(one, "speed").keys() & set(speed[mark:])),  # type: ignore[misc]
                    timeout_s=40,
                )
                # Killed while samples flow, and while the gap before is being filled.
                await stop_in_a_thread(one, signal.SIGKILL)
                down = len(load)
                await eventually(lambda down=down: len(load) > down + 1)  # type: ignore[misc]
            one.start()
            mark = len(speed)
            await eventually(
                lambda: bool(logged(one, "speed").keys() & set(speed[mark:])), timeout_s=40
            )
        finally:
            telling.cancel()
        first = {n: min(logged(one, n).keys() & set(t)) for n, t in teller.told.items()}
        wanted = {name: {t for t in told if t >= first[name]} for name, told in teller.told.items()}
        for name, stamps in wanted.items():
            await eventually(
                lambda name=name, stamps=stamps: not stamps - logged(one, name).keys(),  # type: ignore[misc]
                timeout_s=30,
            )
        for name, stamps in wanted.items():
            seen = logged(one, name)
            assert {t: seen[t] for t in stamps if seen[t] != 1} == {}
        assert await stop_in_a_thread(one, signal.SIGTERM) == 0
        assert not one.told("history.gap")
        assert len(one.told("history.filled")) >= 2


async def test_what_nobody_keeps_is_counted_and_told(historian: Plant, tmp_path: Path) -> None:
    config = configure(tmp_path, historian.url, ("speed", "torque"))
    with gateway(config) as one:
        for value in (1.0, 2.0):
            await historian.set("torque", value)
            one.start()
            await eventually(lambda: bool(logged(one, "torque")), timeout_s=40)
            up = len(one.told("source.up"))
            await eventually(lambda up=up: len(one.told("source.up")) >= max(1, up))  # type: ignore[misc]
            if value == 1.0:
                await stop_in_a_thread(one, signal.SIGKILL)
        await eventually(lambda: bool(one.told("history.gap")), timeout_s=40)
        (gap,) = one.told("history.gap")
        assert gap["source"] == "plc"
        assert gap["signals"] == 1
        assert gap["text"].startswith("gap of ")
        assert gap["text"].endswith("in pump/torque not filled: the server keeps no history")
        kept = config.parent / "data" / "sources" / "plc" / "resume.json"
        await eventually(lambda: not kept.exists() or not json.loads(kept.read_text())["marks"])
    seen = logged(one, "torque")
    assert np.isfinite(list(seen)).all()
