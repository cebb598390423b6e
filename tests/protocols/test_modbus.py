"""Modbus against real peers: what is on the wire arrives as samples."""

from pathlib import Path

import numpy as np
import pytest
from pymodbus.framer import FramerType

from gateway.core.batch import Batch, Quality
from protocols.modbus import group
from tests.protocols.modbus_peers import (
    faults_of,
    make_config,
    make_context,
    pty_pair,
    read_once,
    registers,
    serial_server,
    tcp_server,
)


async def test_a_hundred_registers_are_one_request_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = make_context(tmp_path)
    async with tcp_server(registers({0: range(100)})) as port:
        config = make_config(
            f"tcp://127.0.0.1:{port}", [{"address": f"holding:{i}"} for i in range(100)]
        )
        async with config.open(context) as session:
            monkeypatch.setattr(group, "plan", None)  # It was planned when it was opened.
            for n in range(1, 4):
                batch = await session.read()
                assert isinstance(batch, Batch)
                assert batch.value.tolist() == list(range(100))
                assert (batch.quality == Quality.GOOD).all()
                assert context.meter.requests == n
    assert len(context.signals) == 100
    assert not faults_of(context.meter)


@pytest.mark.parametrize(
    ("scheme", "framer"),
    [
        ("tcp", FramerType.SOCKET),
        ("rtu-over-tcp", FramerType.RTU),
        ("ascii-over-tcp", FramerType.ASCII),
    ],
)
async def test_framings_over_tcp(tmp_path: Path, scheme: str, framer: FramerType) -> None:
    async with tcp_server(registers({0: [7, 8, 9]}), framer) as port:
        config = make_config(
            f"{scheme}://127.0.0.1:{port}", [{"address": "holding:2"}, {"address": "input:0"}]
        )
        assert (await read_once(config, tmp_path)).value.tolist() == [9, 7]


@pytest.mark.parametrize("scheme", ["rtu", "ascii"])
async def test_framings_on_a_real_tty(tmp_path: Path, scheme: str) -> None:
    framer = FramerType.RTU if scheme == "rtu" else FramerType.ASCII
    devices = registers({0: [7, 8, 9]}, units=(1, 2))
    async with pty_pair() as (ours, theirs), serial_server(theirs, devices, framer):
        config = make_config(
            f"{scheme}://{ours}",
            [{"address": "holding:2"}, {"address": "input:0", "unit_id": 2}],
            baudrate=115_200,
        )
        assert sorted((await read_once(config, tmp_path)).value.tolist()) == [7, 9]


async def test_an_illegal_address_costs_no_other_signal_a_sample(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    async with tcp_server(registers({0: range(50), 51: range(51, 100)})) as port:
        config = make_config(
            f"tcp://127.0.0.1:{port}", [{"address": f"holding:{i}"} for i in range(100)]
        )
        async with config.open(context) as session:
            for _ in range(3):
                batch = await session.read()
                assert isinstance(batch, Batch)
                assert len(batch) == 100
                bad = batch.signal[batch.quality == Quality.BAD]
                assert [context.signals[i].name for i in bad] == ["s50"]
                good = batch.value[batch.quality == Quality.GOOD]
                assert sorted(good) == [i for i in range(100) if i != 50]
            asked = context.meter.requests
            await session.read()
    assert context.meter.requests == asked + 2  # 0 to 49 and 51 to 99.
    assert list(context.meter.quarantined) == ["a/s50"]
    assert "illegal data address" in context.meter.quarantined["a/s50"]
    assert np.isfinite(context.meter.latency_s)
