"""When each unit is asked, how much at once, and with what patience."""

import asyncio
import functools
import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.core.batch import Quality
from protocols.modbus.group import Group
from protocols.modbus.schedule import Slots
from tests.faults.modbus_device import Asked, Device, Write, on_tcp, on_tty, right
from tests.faults.modbus_faults import wrong_count
from tests.protocols.modbus_peers import faults_of, make_config, make_context, sweep


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
    assert len(turns) == 10
    assert set(turns.values()) == {10}
    assert max(turns) < 500_000_000


def test_a_turn_is_handed_over_at_its_end(tmp_path: Path) -> None:
    """What nobody is being asked to add to waits for nothing."""
    signals = [{"address": "holding:0", "unit_id": u} for u in (1, 2, 3)]
    config = make_config("tcp://plc", signals, poll_s=0.12, spread=0.5)
    group = Group(config, make_context(tmp_path), config.signals, Slots(120_000_000, 0), {})
    group.begin(0, 0)
    assert [job.due_ns for job in group.queue] == [0, 0, 40_000_000]
    wait_ns, batches = 50_000_000, []
    for now_ns in (1_000_000, 2_000_000, 41_000_000):
        group.store(group.pop().request, bytes(2), now_ns, now_ns)
        batches.append(group.flush(now_ns, wait_ns))
    assert [batch and batch.t_ns.tolist() for batch in batches] == [
        None,
        [1_000_000, 2_000_000],
        [41_000_000],
    ]


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
