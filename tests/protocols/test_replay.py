"""The replay source: tables of every make, pace in virtual time, what is shown of faults."""

import asyncio
import gzip
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from structlog.testing import capture_logs

from gateway.cli import group
from gateway.core.batch import Batch, Quality
from gateway.core.errors import DataError, LinkRefused
from gateway.core.source import Session
from protocols.replay import Config
from protocols.replay.table import find_delimiter, read_blocks

from ..conformance import Bench, bench, check_module
from ..sim.loop import simulate

SIGNALS = [{"asset": "m", "signal": "x"}, {"asset": "m", "signal": "y"}]
SECOND = 10**9
T0 = 1_700_000_000 * SECOND


def config(file: Path, **settings: Any) -> Config:
    table = {"kind": "replay", "id": "r", "files": [str(file)], "signals": SIGNALS}
    return Config.model_validate(table | settings)


def rows(n: int, *, start: int = 0, step_s: float = 1.0) -> str:
    lines = [f"{1_700_000_000 + i * step_s},{i},{-i}" for i in range(start, start + n)]
    return "t,x,y\n" + "\n".join(lines) + "\n"


def put(file: Path, content: str | bytes) -> None:
    file.write_bytes(content.encode() if isinstance(content, str) else content)


def world_of(tmp_path: Path) -> Bench:
    return bench("r", "replay", tmp_path)


async def take(session: Session, n: int) -> list[Batch]:
    batches: list[Batch] = []
    while sum(len(batch) for batch in batches) < n:
        batch = await session.read()
        assert isinstance(batch, Batch)
        batches.append(batch)
    return batches


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "recording.csv"


KEPT = {"time_column": "t", "time_form": "unix_s", "times": "kept", "speed": 0}


def write_gzip(path: Path, text: str) -> None:
    path.write_bytes(gzip.compress(text.encode()))


def write_parquet(path: Path, text: str) -> None:
    names, *lines = [line.split(",") for line in text.split()]
    columns = {name: [float(line[i]) for line in lines] for i, name in enumerate(names)}
    parquet.write_table(pa.table(columns), path)


WRITERS = {
    "comma": lambda path, text: path.write_text(text),
    "semicolon": lambda path, text: path.write_text(text.replace(",", ";")),
    "tab": lambda path, text: path.write_text(text.replace(",", "\t")),
    "bom": lambda path, text: path.write_text("\ufeff" + text),
    "quoted": lambda path, text: path.write_text(text.replace("x", '"x"', 1)),
    "gzip": write_gzip,
    "parquet": write_parquet,
}


@pytest.mark.parametrize("kind", WRITERS)
async def test_every_make_of_table_is_read_as_fast_as_possible(
    file: Path, tmp_path: Path, kind: str
) -> None:
    WRITERS[kind](file, rows(2500))
    world = world_of(tmp_path)
    async with config(file, **KEPT).open(world.context) as session:
        batches = await take(session, 5000)
    values = [value for batch in batches for value in batch.value.tolist()]
    assert values == [v for i in range(2500) for v in (i, -i)]
    times = [t for batch in batches for t in batch.t_ns.tolist()]
    assert times == [T0 + i * SECOND for i in range(2500) for _ in SIGNALS]
    assert not world.meter.errors


def test_real_time_and_faster_in_virtual_time(file: Path, tmp_path: Path) -> None:
    file.write_text(rows(120, step_s=10))

    async def main(speed: float) -> list[tuple[float, Batch]]:
        loop = asyncio.get_running_loop()
        got = []
        settings = KEPT | {"times": "now", "speed": speed, "rows_per_batch_max": 1}
        async with config(file, **settings).open(world_of(tmp_path).context) as session:
            for _ in range(120):
                (batch,) = await take(session, 2)
                got.append((loop.time(), batch))
        return got

    got = simulate(lambda: main(1))
    assert [round(b[0] - a[0], 6) for a, b in pairwise(got)] == [10.0] * 119
    assert all(b.t_ns[0] - a.t_ns[0] == 10 * SECOND for (_, a), (_, b) in pairwise(got))
    assert abs(got[0][1].t_ns[0] - got[0][1].received_ns) < SECOND


async def test_faster_ends_now_and_keeps_the_spacing(file: Path, tmp_path: Path) -> None:
    put(file, rows(121, step_s=10))
    settings = KEPT | {"times": "now", "speed": 100_000}
    world = world_of(tmp_path)
    async with config(file, **settings).open(world.context) as session:
        batches = await take(session, 242)
    times = [t for batch in batches for t in batch.t_ns.tolist()][::2]
    assert all(b - a == 10 * SECOND for a, b in pairwise(times))
    assert abs(times[-1] - batches[-1].received_ns) < SECOND
    assert all(t <= batches[-1].received_ns for t in times)


def test_it_falls_silent_at_the_end_or_begins_again(file: Path, tmp_path: Path) -> None:
    file.write_text("x,y\n1,2\n3,4\n")

    async def main() -> None:
        with capture_logs() as logs:
            async with config(file).open(world_of(tmp_path).context) as session:
                await take(session, 4)
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(3600):
                        await session.read()
        assert [line["event"] for line in logs] == ["replay.finished"]
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        async with config(file, repeat=True).open(world_of(tmp_path).context) as session:
            values = [v for batch in await take(session, 10) for v in batch.value.tolist()]
        assert values == [1, 2, 3, 4, 1, 2, 3, 4, 1, 2]
        assert loop.time() - began_s == pytest.approx(4)

    # A timer an hour away keeps the simulated loop from calling the silence a deadlock.
    simulate(main)


async def test_a_signal_comes_and_goes_in_the_middle(file: Path, tmp_path: Path) -> None:
    put(file, rows(30))
    world = world_of(tmp_path)
    one = config(file, **KEPT, signals=SIGNALS[:1], rows_per_batch_max=10)
    both = config(file, **KEPT, rows_per_batch_max=10)
    async with one.open(world.context) as session:
        (first,) = await take(session, 10)
        assert await session.apply(both)
        (second,) = await take(session, 20)
        assert await session.apply(one)
        (third,) = await take(session, 10)
        assert not await session.apply(config(file, **KEPT | {"speed": 2}))
    assert first.value.tolist() == list(range(10))
    assert second.value.tolist() == [v for i in range(10, 20) for v in (i, -i)]
    assert third.value.tolist() == list(range(20, 30))


async def test_cells(file: Path, tmp_path: Path) -> None:
    put(file, "t;x;y\n1;1,5;RUN\n2;;STOP\n3;oops;?\n4;2;RUN;extra\nx;3;RUN\n")
    signals = [SIGNALS[0] | {"scale": 2}, SIGNALS[1] | {"states": {"RUN": 1, "STOP": 0}}]
    world = world_of(tmp_path)
    settings = {**KEPT, "decimal_comma": True, "signals": signals}
    async with config(file, **settings).open(world.context) as session:
        batches = await take(session, 5)
    batch = batches[0]
    values = [v for b in batches for v in b.value.tolist()]
    assert values[:3] == [3, 1, 0]
    assert [q for b in batches for q in b.quality.tolist()] == [0, 0, 0, 2, 2]
    assert batch.signal.tolist()[:3] == [0, 1, 1]
    assert world.meter.errors == {"value": 2, "ragged": 1, "clock": 1}


async def test_a_column_that_lacks_is_one_bad_signal(file: Path, tmp_path: Path) -> None:
    put(file, "t,x\n1,5\n2,6\n")
    world = world_of(tmp_path)
    async with config(file, **KEPT).open(world.context) as session:
        batches = await take(session, 3)
    assert batches[0].quality.tolist() == [Quality.BAD]
    assert batches[1].value.tolist() == [5, 6]
    assert world.meter.quarantined == {"m/y": "the recording has no column 'y'"}
    assert world.meter.errors == {"column": 1}


DATED = {"time_column": "t", "time_form": "iso"}


@pytest.mark.parametrize(
    ("content", "settings", "rule"),
    [
        (None, {}, "no such file"),
        (b"", {}, "empty"),
        (b"PAR1 junk", {}, "not a Parquet file"),
        (b"\x1f\x8b\x08 junk", {}, "not a table|not a gzip"),
        (b"a,b\n1,2\n", KEPT, "has no column 't' for the time; it has a, b"),
        (
            b"t,x\n01.06.2021 00:10,2\n",
            DATED,
            "'t', such as '01.06.2021 00:10', by time_form 'iso'",
        ),
    ],
)
async def test_what_cannot_be_replayed_says_why(
    file: Path, tmp_path: Path, content: bytes | None, settings: dict[str, Any], rule: str
) -> None:
    if content is not None:
        put(file, content)
    with pytest.raises(LinkRefused, match=rule):
        async with config(file, **settings).open(world_of(tmp_path).context) as session:
            await session.read()


@given(st.binary(max_size=300))
def test_junk_is_a_data_error_at_most(junk: bytes) -> None:
    try:
        for block in blocks_of(junk):
            assert all(len(cells) == block.rows for cells in block.columns.values())
    except (DataError, OSError):
        pass


@given(st.sampled_from(sorted(WRITERS)), st.data())
def test_a_damaged_recording_is_a_data_error_at_most(kind: str, data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        WRITERS[kind](path := Path(folder) / "r", rows(30))
        whole = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    damaged = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        for block in blocks_of(damaged):
            assert all(len(cells) == block.rows for cells in block.columns.values())
    except (DataError, OSError):
        pass


def blocks_of(data: bytes) -> Iterator[Any]:
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        yield from read_blocks(Path(file.name))


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("a;b\n1,5;2\n", ";"),
        ("a,b\n1;x,2\n", ","),
        ("a|b|c\n1|2|3\n", "|"),
        ("time\ta\n1\t2\n", "\t"),
        ("only\n1\n", ","),
    ],
)
def test_the_delimiter_is_found(text: str, delimiter: str) -> None:
    assert find_delimiter(text.splitlines(keepends=True)) == delimiter


def test_module_conforms() -> None:
    check_module("replay", libraries=["pyarrow", "pandas"])


def test_check_says_what_was_counted_against_a_signal_that_is_bad(file: Path) -> None:
    put(file, "x\n1,5\n")
    config = file.with_name("forewarn.toml")
    config.write_text(
        f'[gateway]\ndata_dir = "{file.parent}"\n[[source]]\nkind = "replay"\nid = "r"\n'
        f'files = ["{file}"]\ndelimiter = ";"\nsignals = [{{ asset = "m", signal = "x" }}]\n'
    )
    result = CliRunner().invoke(group, ["check", str(config), "--connect", "--json"])
    assert json.loads(result.stdout)["read"][0]["bad"] == {"m/x": "answered BAD (1 × value)"}
