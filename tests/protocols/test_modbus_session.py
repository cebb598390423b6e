"""Polling as an operator sees it: refusals, rates, units and reloads, against a real device."""

import asyncio
import functools
import itertools
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config import parse
from gateway.core.batch import Batch, Quality
from gateway.core.errors import ConfigError
from gateway.core.source import Session, Source
from protocols.modbus.group import Group
from protocols.modbus.schedule import Slots
from tests.faults.modbus_device import Asked, Behaviour, Device, Write, on_tcp, on_tty, right
from tests.faults.modbus_faults import wrong_count
from tests.protocols.modbus_peers import faults_of, make_config, make_context


async def sweep(session: Session) -> Batch:
    batch = await session.read()
    assert isinstance(batch, Batch)
    return batch


def refusing(illegal: Collection[int], *, count_max: int = 125) -> Behaviour:
    """A device without some addresses, which takes no request longer than `count_max`."""

    async def behave(device: Device, asked: Asked, write: Write) -> None:
        touched = range(asked.start, asked.start + asked.count)
        if asked.count > count_max:
            write(device.frame(asked, asked.refusal(3)))
        elif any(a in illegal for a in touched):
            write(device.frame(asked, asked.refusal(2)))
        else:
            await right(device, asked, write)

    return behave


@settings(max_examples=40, deadline=None)
@given(
    st.sets(st.integers(0, 60), min_size=1, max_size=40),
    st.sets(st.integers(0, 60), max_size=12),
    st.sampled_from([1, 5, 125]),
)
def test_whatever_is_illegal_every_legal_signal_is_good_in_every_sweep(
    wanted: set[int], illegal: set[int], count_max: int
) -> None:
    """Unwanted addresses may be illegal too; then a gap must not be read over them."""

    async def main(folder: Path) -> None:
        device = Device(behaviour=refusing(illegal, count_max=count_max))
        context = make_context(folder)
        async with on_tcp(device) as url, asyncio.timeout(30):
            signals = [{"signal": str(a), "address": f"holding:{a}"} for a in sorted(wanted)]
            config = make_config(url, signals, poll_s=0.01, flush_s=5)
            async with config.open(context) as session:
                for n in range(3):
                    batch = await sweep(session)
                    good = batch.value[batch.quality == Quality.GOOD]
                    assert sorted(good) == [1000 + a for a in sorted(wanted - illegal)]
                    assert len(batch) == len(wanted)
                    if n == 1:
                        asked = len(device.asked)
                # It has learnt: a sweep asks for no more than what is there.
                assert all(
                    not illegal & set(range(a.start, a.start + a.count)) and a.count <= count_max
                    for a in device.asked[asked:]
                )
        assert set(context.meter.quarantined) == {f"a/{a}" for a in wanted & illegal}

    with TemporaryDirectory() as folder:
        asyncio.run(main(Path(folder)))


async def test_many_refused_in_one_block_do_not_take_the_rest_along(tmp_path: Path) -> None:
    """Fifty illegal ones at the front and one at the end; what lies between is read."""
    device = Device(behaviour=refusing({*range(50), 99}))
    context = make_context(tmp_path)
    async with on_tcp(device) as url, asyncio.timeout(30):
        config = make_config(url, [{"address": f"holding:{a}"} for a in range(100)])
        async with config.open(context) as session:
            batch = await sweep(session)
    good = batch.value[batch.quality == Quality.GOOD]
    assert sorted(good) == [1000 + a for a in range(50, 99)]


async def test_a_refused_address_is_tried_again_and_comes_back(tmp_path: Path) -> None:
    device = Device(behaviour=refusing({5}))
    context = make_context(tmp_path)
    async with on_tcp(device) as url, asyncio.timeout(30):
        signals = [{"address": f"holding:{a}"} for a in range(10)]
        config = make_config(url, signals, quarantine_retry_s=0.1)
        async with config.open(context) as session:
            assert (await sweep(session)).quality.tolist().count(Quality.BAD) == 1
            assert set(context.meter.quarantined) == {"a/s5"}
            device.behaviour = right
            while context.meter.quarantined:
                await sweep(session)
            batch = await sweep(session)
            assert (batch.quality == Quality.GOOD).all()
            assert sorted(batch.value) == list(range(1000, 1010))


def test_a_refused_address_is_tried_again_ever_more_rarely(tmp_path: Path) -> None:
    config = make_config("tcp://plc", [{"address": f"holding:{a}"} for a in range(3)])
    group = Group(config, make_context(tmp_path), config.signals, Slots(10**9, 0), {})
    pauses_s = []
    for _ in range(8):
        group.quarantine(1, "refused", now_ns=0, pause_ns=600 * 10**9)
        pauses_s.append(group.quarantined[1].retry_ns / 1e9)
    assert pauses_s == [600, 1200, 2400, 4800, 9600, 19_200, 21_600, 21_600]


async def test_a_device_that_fails_while_it_starts_is_not_left_out_for_long(tmp_path: Path) -> None:
    """Exception 4 says nothing of the address, so ten minutes of quarantine would be wrong."""

    async def failing(device: Device, asked: Asked, write: Write) -> None:
        write(device.frame(asked, asked.refusal(4)))

    device = Device(behaviour=failing)
    context = make_context(tmp_path)
    async with on_tcp(device) as url, asyncio.timeout(30):
        config = make_config(url, [{"address": f"holding:{a}"} for a in range(3)], poll_s=0.02)
        async with config.open(context) as session:
            assert ((await sweep(session)).quality == Quality.BAD).all()
            assert "device failure" in context.meter.quarantined["a/s1"]
            device.behaviour = right
            while context.meter.quarantined:
                await sweep(session)
            assert ((await sweep(session)).quality == Quality.GOOD).all()


async def test_a_missing_table_is_refused_as_a_whole(tmp_path: Path) -> None:
    async def no_input(device: Device, asked: Asked, write: Write) -> None:
        pdu = asked.refusal(1) if asked.function == 4 else asked.pdu()
        write(device.frame(asked, pdu))

    device = Device(behaviour=no_input)
    context = make_context(tmp_path)
    async with on_tcp(device) as url, asyncio.timeout(30):
        signals = [{"address": f"{t}:{a}"} for t in ("input", "holding") for a in range(60)]
        async with make_config(url, signals).open(context) as session:
            batch = await sweep(session)
            assert (batch.quality == Quality.GOOD).sum() == 60
    assert len(context.meter.quarantined) == 60
    assert context.meter.requests <= 4  # It did not ask for each of them.


async def test_rates_are_kept_apart(tmp_path: Path) -> None:
    device = Device()
    context = make_context(tmp_path)
    async with on_tcp(device) as url, asyncio.timeout(30):
        signals = [
            {"address": "holding:1", "poll_s": 0.03},
            {"address": "holding:2", "poll_s": 0.3},
            {"address": "holding:3", "poll_s": 0.03},
        ]
        async with make_config(url, signals).open(context) as session:
            seen: Counter[float] = Counter()
            while seen[1002] < 3:
                seen.update((await sweep(session)).value.tolist())
    assert seen[1001] == seen[1003]
    shapes = Counter((a.start, a.count) for a in device.asked)
    assert shapes.keys() == {(1, 3), (2, 1)}
    if "slot_missed" not in context.meter.errors:
        # On a grid without drift: the fast one is asked ten times as often as the slow one.
        assert 18 <= seen[1001] <= 23
        assert abs(shapes[1, 3] - 10 * shapes[2, 1]) <= 10


async def test_a_line_too_slow_for_its_rate_leaves_slots_out_and_says_so(tmp_path: Path) -> None:
    async def slow(device: Device, asked: Asked, write: Write) -> None:
        await asyncio.sleep(0.05)
        await right(device, asked, write)

    device = Device(behaviour=slow)
    context = make_context(tmp_path)
    async with on_tcp(device) as url, asyncio.timeout(30):
        config = make_config(url, [{"address": "holding:1"}], poll_s=0.01)
        async with config.open(context) as session:
            for _ in range(5):
                assert (await sweep(session)).value.tolist() == [1001]
    assert context.meter.errors["slot_missed"] >= 10
    assert len(device.asked) <= 7  # Nothing piled up behind.


async def test_a_long_sweep_hands_over_what_it_has(tmp_path: Path) -> None:
    async def slow(device: Device, asked: Asked, write: Write) -> None:
        await asyncio.sleep(0.05)
        await right(device, asked, write)

    device = Device(behaviour=slow)
    async with on_tcp(device) as url, asyncio.timeout(30):
        signals = [{"address": "holding:1", "unit_id": u} for u in range(1, 11)]
        config = make_config(url, signals, poll_s=10, spread=0, flush_s=0.08)
        async with config.open(make_context(tmp_path)) as session:
            seen: list[float] = []
            batches = 0
            while len(seen) < 10:
                batch = await sweep(session)
                assert (batch.t_ns[1:] >= batch.t_ns[:-1]).all()
                seen += batch.value.tolist()
                batches += 1
    assert seen == [u * 1000 + 1 for u in range(1, 11)]
    assert batches >= 3


async def test_units_are_spread_over_the_interval(tmp_path: Path) -> None:
    signals = [{"address": f"holding:{a}", "unit_id": u} for u in range(1, 5) for a in (1, 500)]
    config = make_config("tcp://plc", signals, poll_s=0.4, spread=0.5)
    group = Group(config, make_context(tmp_path), config.signals, Slots(400_000_000, 0), {})
    # 950 ms: two slots were missed; the third goes on from its own time, not from now.
    group.begin(950_000_000, 0)
    due = [(job.request.unit, job.due_ns // 1_000_000) for job in group.queue]
    assert due == [(1, 800), (1, 800), (2, 850), (2, 850), (3, 900), (3, 900), (4, 950), (4, 950)]


def test_how_much_a_unit_takes_at_once_is_its_own(tmp_path: Path) -> None:
    addresses = [f"{table}:{a}" for table in ("holding", "coil") for a in (*range(20), 25)]
    signals = [{"address": a, "unit_id": unit} for a in addresses for unit in (1, 2)]
    devices = [{"unit_id": 2, "registers_max": 10, "bits_max": 8, "max_gap": 0}]
    config = make_config("tcp://plc", signals, devices=devices)
    group = Group(config, make_context(tmp_path), config.signals, Slots(10**9, 0), {})
    counts: dict[int, list[tuple[str, int]]] = {1: [], 2: []}
    for request in group.plan:
        counts[request.unit].append((request.table.name, request.count))
    assert sorted(counts[1]) == [("COIL", 26), ("HOLDING", 26)]
    assert sorted(counts[2]) == [
        ("COIL", 1), ("COIL", 4), ("COIL", 8), ("COIL", 8),
        ("HOLDING", 1), ("HOLDING", 10), ("HOLDING", 10),
    ]  # fmt: skip


def test_many_units_share_turns_within_their_part_of_the_interval(tmp_path: Path) -> None:
    """To wake up for each of a hundred units costs more than to ask it."""
    signals = [{"address": "holding:0", "unit_id": u} for u in range(1, 101)]
    config = make_config("tcp://plc", signals, poll_s=1, spread=0.5)
    group = Group(config, make_context(tmp_path), config.signals, Slots(10**9, 0), {})
    group.begin(0, 0)
    turns = Counter(job.due_ns for job in group.queue)
    assert len(turns) == 25
    assert set(turns.values()) == {4}
    assert max(turns) < 500_000_000


async def test_requests_under_way_at_once(tmp_path: Path) -> None:
    waiting: list[Callable[[], None]] = []

    async def hold(device: Device, asked: Asked, write: Write) -> None:
        waiting.append(functools.partial(write, asked.tcp(asked.pdu())))
        if len(waiting) == 4:
            for answer in reversed(waiting):  # In any order that the device likes.
                answer()
            waiting.clear()

    device = Device(behaviour=hold)
    context = make_context(tmp_path)
    async with on_tcp(device) as url, asyncio.timeout(30):
        signals = [{"address": f"holding:{100 * a}"} for a in range(8)]
        config = make_config(url, signals, in_flight=4)
        async with config.open(context) as session:
            for _ in range(3):
                batch = await sweep(session)
                assert sorted(batch.value) == [1000 + 100 * a for a in range(8)]
    assert not faults_of(context.meter)


async def test_the_pause_of_a_slow_device_is_kept(tmp_path: Path) -> None:
    asked_s: list[float] = []

    async def note(device: Device, asked: Asked, write: Write) -> None:
        asked_s.append(asyncio.get_running_loop().time())
        await right(device, asked, write)

    device = Device("rtu", behaviour=note)
    async with on_tty(device) as url, asyncio.timeout(30):
        signals = [{"address": f"holding:{200 * a}"} for a in range(5)]
        devices = [{"unit_id": 1, "turnaround_s": 0.03}]
        config = make_config(url, signals, devices=devices, interframe_s=0.01)
        async with config.open(make_context(tmp_path)) as session:
            assert len(await sweep(session)) == 5
    assert min(b - a for a, b in itertools.pairwise(asked_s)) >= 0.03


async def test_the_silence_that_one_unit_wants_is_kept_for_it_alone(tmp_path: Path) -> None:
    answered_s = 0.0
    silence_s: dict[int, list[float]] = {1: [], 2: []}

    async def note(device: Device, asked: Asked, write: Write) -> None:
        nonlocal answered_s
        loop = asyncio.get_running_loop()
        silence_s[asked.unit].append(loop.time() - answered_s)
        await right(device, asked, write)
        answered_s = loop.time()

    profile = tmp_path / "slow.toml"
    profile.write_text('[device]\ninterframe_s = 0.04\n[[signal]]\nsignal = "x"\naddress = 40001\n')
    device = Device("rtu", behaviour=note)
    async with on_tty(device) as url, asyncio.timeout(30):
        signals = [{"address": f"holding:{200 * a}", "unit_id": u} for u in (1, 2) for a in (0, 1)]
        devices = [{"unit_id": 2, "profile": str(profile), "asset": "meter"}]
        config = make_config(url, signals, devices=devices, spread=0)
        async with config.open(make_context(tmp_path)) as session:
            for _ in range(5):
                assert (await sweep(session)).quality.max() == Quality.GOOD
    assert min(silence_s[2]) >= 0.04
    assert min(silence_s[1][1:]) < 0.04


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ("retries = 0", ""),
        (
            "timeout_s = 0.05",
            "unit 2: no answer within 0.05 s; see its unit_id and wiring, or raise timeout_s",
        ),
    ],
)
async def test_the_patience_of_a_profile_is_that_of_its_device_alone(
    tmp_path: Path, setting: str, why: str
) -> None:
    """Both units answer late, and damaged at first; only the one with the profile is given up."""
    damaged: set[int] = set()

    async def sick(device: Device, asked: Asked, write: Write) -> None:
        await asyncio.sleep(0.15)
        first = asked.unit not in damaged
        damaged.add(asked.unit)
        await (wrong_count if first else right)(device, asked, write)

    profile = tmp_path / "meter.toml"
    profile.write_text(f'[device]\n{setting}\n[[signal]]\nsignal = "x"\naddress = 40001\n')
    context = make_context(tmp_path)
    async with on_tcp(Device(behaviour=sick)) as url, asyncio.timeout(30):
        devices = [{"unit_id": 2, "profile": str(profile), "asset": "meter"}]
        config = make_config(
            url, [{"address": "holding:1"}], devices=devices, timeout_s=5, spread=0, flush_s=10
        )
        async with config.open(context) as session:
            batch = await sweep(session)
    shown = {context.signals[n].asset: q for n, q in zip(batch.signal, batch.quality, strict=True)}
    assert shown == {"a": Quality.GOOD, "meter": Quality.BAD}
    assert context.meter.quarantined == ({"meter/x": why} if why else {})


async def test_a_gateway_that_reports_a_silent_unit_is_believed(tmp_path: Path) -> None:
    async def no_two(device: Device, asked: Asked, write: Write) -> None:
        write(device.frame(asked, asked.refusal(11) if asked.unit == 2 else asked.pdu()))

    device = Device(behaviour=no_two)
    context = make_context(tmp_path)
    async with on_tcp(device) as url, asyncio.timeout(30):
        signals = [{"address": f"holding:{a}", "unit_id": u} for u in (1, 2) for a in (1, 500)]
        async with make_config(url, signals).open(context) as session:
            for _ in range(6):
                batch = await sweep(session)
                assert sorted(batch.value[batch.quality == Quality.GOOD]) == [1001, 1500]
            assert set(context.meter.quarantined) == {"a/s2", "a/s3"}
            assert sum(asked.unit == 2 for asked in device.asked) <= 4
            device.behaviour = right
            while context.meter.quarantined:
                await sweep(session)
            assert ((await sweep(session)).quality == Quality.GOOD).all()


async def test_a_reload_keeps_what_is_known(tmp_path: Path) -> None:
    """Signals, rates and limits change without the link; refusals and silence are remembered."""

    async def two_is_dead(device: Device, asked: Asked, write: Write) -> None:
        if asked.unit == 1:
            await refusing({5})(device, asked, write)

    device = Device(behaviour=two_is_dead)
    context = make_context(tmp_path)
    before: list[dict[str, Any]] = [
        {"signal": "good", "address": "holding:4"},
        {"signal": "refused", "address": "holding:5"},
        {"signal": "silent", "address": "holding:4", "unit_id": 2},
    ]
    async with on_tcp(device) as url, asyncio.timeout(30):
        config = make_config(url, before, timeout_s=0.1)
        async with config.open(context) as session:
            while len(context.meter.quarantined) < 2:
                await sweep(session)
            shown = dict(context.meter.quarantined)
            refusals = context.meter.errors["exception_2"]
            added = {"signal": "added", "address": "holding:6", "poll_s": 0.02}
            after = make_config(url, [*before, added], timeout_s=0.1, registers_max=50)
            assert await session.apply(cast("Source", after))
            assert context.meter.quarantined == shown
            values: set[float] = set()
            while not {1004, 1006} <= values:
                values |= set((await sweep(session)).value.tolist())
            assert context.meter.errors["exception_2"] == refusals
            elsewhere = make_config("tcp://127.0.0.1:1", before)
            assert not await session.apply(cast("Source", elsewhere))
    assert device.connections == 1


async def test_a_counter_goes_on_over_a_restart(tmp_path: Path) -> None:
    count = 65_530

    async def counting(device: Device, asked: Asked, write: Write) -> None:
        nonlocal count
        count += 4
        data = (count % 65_536).to_bytes(2, "big")
        write(device.frame(asked, bytes([asked.function, 2]) + data))

    device = Device(behaviour=counting)
    context = make_context(tmp_path)
    async with on_tcp(device) as url, asyncio.timeout(30):
        signal = {"address": "holding:1", "counter": True, "scale": 0.5}
        config = make_config(url, [signal])
        for _ in range(2):  # The second time, another session with the same data directory.
            async with config.open(context) as session:
                for _ in range(3):
                    assert (await sweep(session)).value.tolist() == [count / 2]
    assert context.meter.errors == {"counter_rollover": 1}


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"url": "rtu:///dev/ttyS0", "in_flight": 2}, "in_flight"),
        ({"url": "rtu:///dev/ttyS0", "data_bits": 7}, "data_bits"),
        ({"url": "rtu:///dev/ttyS0", "unit_id": 248}, "1 to 247"),
        ({"tls_cert": "a.pem"}, "tls_cert and tls_key"),
        ({"tls_ca": "a.pem"}, "only for a tls"),
        ({"devices": [{"unit_id": 3}, {"unit_id": 3}]}, "listed twice"),
        ({"devices": [{"unit_id": 3, "profile": "no-such", "asset": "b"}]}, "eastron-sdm630"),
        ({"devices": [{"unit_id": 3, "profile": "eastron-sdm630"}]}, "asset"),
        (
            {"devices": [{"unit_id": 3, "profile": "eastron-sdm630", "asset": "b", "pick": ["x"]}]},
            "voltage_l1",
        ),
        ({"devices": [{"unit_id": 3, "profile": "no/such.toml", "asset": "b"}]}, "cannot be read"),
    ],
)
def test_wrong_settings_say_the_rule(settings: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        make_config(settings.pop("url", "tcp://plc"), [{"address": "holding:1"}], **settings)


def test_a_profile_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "drive.toml"
    path.write_text(
        "[device]\ntimeout_s = 2.5\nregisters_max = 20\n"
        '[[signal]]\nsignal = "speed"\nunit = "rpm"\naddress = 40010\n'
        '[[signal]]\nsignal = "temp"\naddress = 40011\npoll_s = 60\n'
    )
    devices = [
        {"unit_id": 4, "profile": str(path), "asset": "fan", "registers_max": 10, "poll_s": 2}
    ]
    written = {"asset": "fan", "signal": "speed", "address": 40012, "unit_id": 4}
    config = make_config("tcp://plc", [written], devices=devices)
    by_name = {signal.signal: signal for signal in config.signals}
    assert by_name["speed"].address == "40012"  # What is written out wins.
    assert config.poll_of(by_name["temp"]) == 60
    assert config.tuning(4).timeout_s == 2.5
    assert config.tuning(4).registers_max == 10
    assert config.tuning(1).registers_max == 125


def test_every_fault_of_a_file_is_named_at_once_and_once(tmp_path: Path) -> None:
    text = """[[source]]
kind = "modbus"
id = "x"
url = "tcpx://plc:502"
devices = [
  { unit_id = 3, profile = "nope", asset = "b" },
  { unit_id = 4, profile = "eastron-sdm630", asset = "b", pick = ["x"] },
]
signals = [
  { asset = "a", signal = "s", address = "holding:70000" },
  { asset = "a", signal = "t", address = "coil:7", type = "int16" },
]
"""
    with pytest.raises(ConfigError) as caught:
        parse(text, tmp_path / "f.toml")
    faults = [str(fault) for fault in caught.value.faults]
    assert [fault.line for fault in caught.value.faults] == [4, 6, 7, 10, 11]
    assert all(fault.count("was") == 1 for fault in faults)
    assert faults[3] == (
        "source[0].signals[0].address: holding register number must be 0 to 65535,"
        " was 'holding:70000' (f.toml:10)"
    )
