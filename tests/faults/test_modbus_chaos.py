"""Every fault at random, for as long as one likes: whatever is GOOD is true, and health returns."""

import asyncio
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from gateway.core.batch import Batch, Quality
from gateway.core.errors import LinkError
from tests.faults import modbus_faults as faults
from tests.faults.modbus_device import Asked, Behaviour, Device, Write, on_tcp, on_tty, right
from tests.protocols.modbus_peers import make_config, make_context

REGISTERS = (3, 4, 5, 9, 200, 201, 330)
UNITS = (1, 2, 3)

COMMON: list[Behaviour] = [
    faults.wrong_unit,
    faults.wrong_count,
    faults.wrong_function,
    faults.busy,
    faults.silence,
    faults.byte_by_byte,
]
TCP_ONLY = [faults.wrong_transaction, faults.short_frame, faults.long_frame, faults.garbage]
SERIAL_ONLY = [faults.cut_short, faults.bad_checksum, faults.noise_around, faults.garbage]


def chaos(random: Random, rtu: bool, share: float) -> Behaviour:
    """Health, but for a share of the requests; some replies are late, some links end."""
    choices = [*COMMON, *(SERIAL_ONLY if rtu else TCP_ONLY)]

    async def late(device: Device, asked: Asked, write: Write) -> None:
        await asyncio.sleep(random.choice([0.03, 0.06, 0.12]))
        write(device.frame(asked, asked.pdu()))

    async def hang_up(device: Device, asked: Asked, write: Write) -> None:
        device.hang_up(reset=random.random() < 0.5)

    async def behave(device: Device, asked: Asked, write: Write) -> None:
        if random.random() > share:
            await right(device, asked, write)
        else:
            await random.choice([*choices, late, hang_up])(device, asked, write)

    return behave


async def survive(rtu: bool, seed: int, sweeps: int, folder: Path) -> Counter[str]:
    """Poll through chaos, then through health; give the errors counted."""
    device = Device("rtu" if rtu else "mbap", behaviour=chaos(Random(seed), rtu, 0.2))
    context = make_context(folder)
    expected = {f"{unit}.{a}": 1000 * unit + a for unit in UNITS for a in REGISTERS}
    async with on_tty(device) if rtu else on_tcp(device) as url:
        signals = [
            {"signal": f"{unit}.{a}", "unit_id": unit, "address": f"holding:{a}"}
            for unit in UNITS
            for a in REGISTERS
        ]
        config = make_config(
            url, signals, timeout_s=0.04, poll_s=0.02, spread=0, unit_retry_s_max=0.1,
            connect_timeout_s=1,
        )  # fmt: skip
        taken = good_in_a_row = 0
        while good_in_a_row < 3:
            try:
                async with config.open(context) as session:
                    while good_in_a_row < 3:
                        batch = await session.read()
                        assert isinstance(batch, Batch)
                        for number, value, quality in zip(
                            batch.signal.tolist(),
                            batch.value.tolist(),
                            batch.quality.tolist(),
                            strict=True,
                        ):
                            if quality != Quality.BAD:
                                assert value == expected[context.signals[number].name]
                        taken += 1
                        if taken == sweeps:
                            device.behaviour = right
                        whole = len(batch) == len(signals)
                        healthy = whole and (batch.quality == Quality.GOOD).all()
                        good_in_a_row = good_in_a_row + 1 if healthy and taken > sweeps else 0
            except LinkError:
                context.meter.link_errors += 1
                await asyncio.sleep(0)
    assert not context.meter.quarantined
    return context.meter.errors


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("rtu", [False, True], ids=["tcp", "rtu"])
async def test_chaos(tmp_path: Path, rtu: bool, seed: int) -> None:
    async with asyncio.timeout(30):
        errors = await survive(rtu, seed, 40, tmp_path)
    assert len(+errors) >= 5


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("rtu", [False, True], ids=["tcp", "rtu"])
async def test_chaos_for_long(tmp_path: Path, rtu: bool, seed: int) -> None:
    await survive(rtu, seed, 2_000, tmp_path)
