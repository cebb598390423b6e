"""Killed, cut off from power, out of disk, out of time: what was committed is there, once."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from random import Random

import numpy as np
import pytest

from gateway.core.alarm import Condition
from gateway.core.clock import SystemClock
from gateway.store.config import StoreConfig
from gateway.store.log import Log
from gateway.store.reader import LogReader
from gateway.store.schema import FILE_NAME

from ..eventually import eventually
from ..gateway.storing import SECOND_NS, T0_NS, assessments, numbered, opened, transition
from ..servers import influxd, require

ROOT = Path(__file__).parents[2]
ALL_NS = 1 << 62


class Child:
    """A running `store_child` and what it said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.durable = 0
        self.ready = False
        self.said: list[str] = []

    async def listen(self) -> None:
        assert self.process.stdout is not None
        async for raw in self.process.stdout:
            words = raw.decode().split()
            self.said.append(raw.decode().strip())
            if words[0] == "durable":
                self.durable = int(words[1])
            self.ready = self.ready or words[0] == "ready"

    async def reach(self, number: int, *, timeout_s: float = 20) -> None:
        """Wait until everything below `number` is durable."""
        await eventually(
            lambda: self.durable >= number or self.process.returncode is not None,
            timeout_s=timeout_s,
        )
        assert self.durable >= number, self.said[-5:]

    async def hear(self, line: str, *, after: int = 0) -> None:
        """Wait until it says so."""
        await eventually(lambda: line in self.said[after:], timeout_s=15)

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def child(
    folder: Path, start: int = 0, url: str = "", environment: dict[str, str] | None = None
) -> AsyncIterator[Child]:
    """A log under load in a process of its own; killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.faults.store_child", str(folder), str(start), url),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **(environment or {})},
    )
    running = Child(process)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(running.listen())
        try:
            yield running
        finally:
            await running.kill()


def stored(folder: Path) -> list[int]:
    """The numbers in the log, in the order in which they were logged."""
    reader = LogReader(folder / FILE_NAME)
    parts = [value for _, _, value, _ in reader.sample_blocks(-ALL_NS, ALL_NS)]
    reader.close()
    assert reader.damaged == 0
    return np.concatenate(parts).astype(int).tolist() if parts else []


async def kill_again_and_again(folder: Path, kills: int) -> None:
    random = Random(kills)
    start = 0
    for _ in range(kills):
        async with child(folder, start) as running:
            await eventually(lambda: running.ready)
            await running.reach(start + random.randrange(1, 3000))
            await asyncio.sleep(random.random() * 0.05)  # Anywhere within a commit.
            await running.kill()
            durable = running.durable
        found = await asyncio.to_thread(stored, folder)
        assert len(found) >= durable
        assert found == list(range(len(found)))
        start = len(found)


async def test_what_was_committed_survives_kill_9(tmp_path: Path) -> None:
    await kill_again_and_again(tmp_path, 5)


@pytest.mark.soak
async def test_what_was_committed_survives_a_hundred_kill_9(tmp_path: Path) -> None:
    await kill_again_and_again(tmp_path, 100)


async def test_killed_while_writing_to_influx_nothing_is_missing_there_or_twice(
    tmp_path: Path,
) -> None:
    with influxd(tmp_path / "influxd") as server:
        server.query("CREATE DATABASE forewarn")
        start = 0
        for _ in range(3):
            async with child(tmp_path / "data", start, server.url) as running:
                await running.reach(start + 5000)
                await running.kill()
            start = len(await asyncio.to_thread(stored, tmp_path / "data"))
        async with child(tmp_path / "data", start, server.url) as running:
            await running.reach(start + 100)
            assert running.process.stdin is not None
            running.process.stdin.close()
            await running.process.wait()
        found = await asyncio.to_thread(stored, tmp_path / "data")
        async with child(tmp_path / "data", len(found), server.url) as running:
            await eventually(lambda: server.count() >= len(found), timeout_s=20)
        values = server.values()
        assert values[: len(found)] == found == list(range(len(found)))
        assert values == list(range(len(values)))


@contextmanager
def mounted(image: Path, at: Path) -> Iterator[None]:
    """An ext4 file system in a file, mounted."""
    at.mkdir(parents=True, exist_ok=True)
    mount = subprocess.run(
        [require("mount"), "-o", "loop", str(image), str(at)], capture_output=True, check=False
    )
    if mount.returncode:
        reason = f"loop devices cannot be mounted here: {mount.stderr.decode().strip()}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    try:
        yield
    finally:
        subprocess.run(["umount", str(at)], check=True, capture_output=True)


def formatted(image: Path, megabytes: int = 64) -> Path:
    """A file with an empty ext4 in it."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    subprocess.run([require("mkfs.ext4"), "-q", "-F", str(image)], check=True)
    return image


async def cut_power_again_and_again(folder: Path, cuts: int) -> None:
    image = formatted(folder / "disk.img")
    random = Random(cuts)
    with mounted(image, folder / "disk"):
        async with child(folder / "disk" / "data") as running:
            for _ in range(cuts):
                await running.reach(running.durable + random.randrange(1, 3000))
                durable = running.durable
                # What the file system holds back in memory is not in the copy: the power is cut.
                copy = folder / "cut.img"
                await asyncio.to_thread(shutil.copyfile, image, copy)
                with mounted(copy, folder / "cut"):
                    async with opened(folder / "cut" / "data"):
                        pass
                    found = await asyncio.to_thread(stored, folder / "cut" / "data")
                assert len(found) >= durable
                assert found == list(range(len(found)))


async def test_what_was_committed_survives_a_power_cut(tmp_path: Path) -> None:
    await cut_power_again_and_again(tmp_path, 3)


@pytest.mark.soak
async def test_what_was_committed_survives_many_power_cuts(tmp_path: Path) -> None:
    await cut_power_again_and_again(tmp_path, 40)


@contextmanager
def small_disk(at: Path, megabytes: int) -> Iterator[Path]:
    """A tmpfs of this size."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    at.mkdir()
    subprocess.run(
        [require("mount"), "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(at)], check=True
    )
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True)


def fill_up(at: Path) -> Path:
    """A file that takes every byte that is left."""
    ballast = at / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb") as file:
        while True:
            file.write(bytes(4096))
            file.flush()
    return ballast


@asynccontextmanager
async def reporting(log: Log) -> AsyncIterator[list[Condition]]:
    """Run the log's reports into a list."""
    told: list[Condition] = []
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(log.run(told.append))
        yield told
        running.cancel()


def active(told: list[Condition]) -> set[str]:
    state = {condition.alarm: condition.active for condition in told}
    return {alarm for alarm, is_active in state.items() if is_active}


async def test_a_full_disk_is_told_and_outlived(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 8) as disk:
        async with opened(disk / "data") as log, reporting(log) as told:
            log.append(numbered(0, 5000))
            await log.flush()
            ballast = await asyncio.to_thread(fill_up, disk)
            for start in range(5000, 20_000, 1000):
                log.append(numbered(start, 1000))
            log.append(transition(T0_NS))
            await eventually(lambda: active(told) == {"log.held"})
            assert log.samples(T0_NS, T0_NS + 100 * SECOND_NS)[2].tolist() == list(range(5000))
            async with asyncio.timeout(30):
                await log.flush(even_held=False)
            ballast.unlink()
            await log.flush()
            await eventually(lambda: active(told) == set())
            assert log.samples(T0_NS, T0_NS + 100 * SECOND_NS)[2].tolist() == list(range(20_000))
            assert list(log.transitions()) == [transition(T0_NS)]
            assert log.counters()["samples_dropped"] == 0


async def test_a_disk_that_is_full_to_the_brim_is_one_alarm_until_there_is_room(
    tmp_path: Path,
) -> None:
    with small_disk(tmp_path / "small", 32) as disk:
        async with opened(disk / "data") as log, reporting(log) as told:
            log.append(numbered(0, 100))
            await log.flush()
            for n in range(1, 4):
                ballast = await asyncio.to_thread(fill_up, disk)
                for start in range(10_000 * n, 10_000 * n + 10_000, 1000):
                    log.append(numbered(start, 1000))
                await eventually(lambda: active(told) == {"log.held"})
                # Somebody frees a little, and the next takes it.
                os.truncate(ballast, ballast.stat().st_size - 200_000)
                await log.flush()
                assert "free" in log.held
            ballast.unlink()
            log.append(numbered(100, 1))
            await eventually(lambda: active(told) == set())
            assert not log.held
            assert [c.active for c in told if c.alarm == "log.held"] == [True, False]
            assert log.counters()["samples_dropped"] == 0


async def test_memory_that_fills_while_the_disk_is_full_drops_raw_data_and_keeps_alarms(
    tmp_path: Path,
) -> None:
    config = StoreConfig(commit_s=0.02, memory_mb_max=0.5)
    with small_disk(tmp_path / "small", 8) as disk:
        async with opened(disk / "data", config) as log, reporting(log) as told:
            log.append(numbered(0, 1000))
            await log.flush()
            ballast = await asyncio.to_thread(fill_up, disk)
            log.append(transition(T0_NS))
            log.append(assessments(T0_NS))
            for start in range(1000, 101_000, 1000):
                log.append(numbered(start, 1000))
            await eventually(lambda: active(told) == {"log.held", "log.dropping"})
            ballast.unlink()
            await log.flush()
            kept = log.samples(T0_NS, T0_NS + 1000 * SECOND_NS)[2].astype(int).tolist()
            dropped = log.counters()["samples_dropped"]
            assert dropped > 0
            assert kept == [*range(1000), *range(1000 + dropped, 101_000)]
            assert len(list(log.transitions())) == 1
            assert log.heads()["assessment"] == 2  # type: ignore[index]


async def test_a_file_that_becomes_read_only_is_told_and_outlived(tmp_path: Path) -> None:
    chattr = require("chattr")
    image = formatted(tmp_path / "disk.img", 32)
    with mounted(image, tmp_path / "disk"):
        folder = tmp_path / "disk" / "data"
        files = [str(folder / name) for name in ("log.db", "log.db-wal")]
        async with opened(folder) as log, reporting(log) as told:
            log.append(numbered(0, 1000))
            await log.flush()
            run(chattr, "+i", *files)
            try:
                log.append(numbered(1000, 1000))
                await eventually(lambda: active(told) == {"log.held"})
            finally:
                run(chattr, "-i", *files)
            await log.flush()
            await eventually(lambda: active(told) == set())
            assert log.samples(T0_NS, T0_NS + 10 * SECOND_NS)[2].tolist() == list(range(2000))


async def test_a_file_system_that_aborts_is_told_and_what_was_committed_is_there(
    tmp_path: Path,
) -> None:
    image = formatted(tmp_path / "disk.img", 32)
    folder = tmp_path / "disk" / "data"
    with mounted(image, tmp_path / "disk"):
        async with opened(folder) as log, reporting(log) as told:
            log.append(numbered(0, 1000))
            await log.flush()
            run("mount", "-o", "remount,abort", str(tmp_path / "disk"), check=False)
            log.append(numbered(1000, 1000))
            await eventually(lambda: active(told) == {"log.held"})
    with mounted(image, tmp_path / "disk"):
        assert stored(folder) == list(range(1000))


def faketime_library() -> Path:
    """The library that `faketime` preloads."""
    require("faketime")
    return next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


def run(*command: str, check: bool = True) -> None:
    """Run a tool of the system that ends at once."""
    subprocess.run(command, check=check, capture_output=True)


async def step_the_clock(folder: Path, first: str, then: list[str]) -> list[str]:
    """Run a child under a clock that is stepped; returns what it said."""
    clock = folder / "clock"
    clock.write_text(first)
    environment = {
        "LD_PRELOAD": str(faketime_library()),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    async with child(folder / "data", 0, "clock", environment) as running:
        await running.reach(1000)
        for step in then:
            # In one move: a clock file that is read half-written is another fault than this one.
            (folder / "clock.new").write_text(step)
            (folder / "clock.new").replace(clock)
            reached, seen = running.durable, len(running.said)
            await running.reach(reached + 2000)
            await running.hear("condition clock.stepped True", after=seen)
            if first.startswith("1970"):
                await running.hear("condition clock.unset False", after=seen)
        await running.kill()
        found = await asyncio.to_thread(stored, folder / "data")
        assert len(found) >= running.durable
        assert found == list(range(len(found)))
        return running.said


async def test_a_clock_that_is_set_loses_nothing_and_is_told(tmp_path: Path) -> None:
    said = await step_the_clock(tmp_path, "+0", ["+3600", "-7200"])
    assert "condition log.held True" not in said


async def test_a_clock_at_1970_loses_nothing_and_is_told(tmp_path: Path) -> None:
    said = await step_the_clock(tmp_path, "1970-01-01 00:00:10", ["+0"])
    assert "condition clock.unset True" in said
    assert "condition clock.unset False" in said


def test_the_clock_of_the_tests_is_sane() -> None:
    assert SystemClock().wall_ns() > 1_735_689_600 * SECOND_NS


@pytest.mark.parametrize("how", ["full", "read-only"])
async def test_a_start_on_a_disk_that_takes_nothing_goes_on_in_memory(
    tmp_path: Path, how: str
) -> None:
    with small_disk(tmp_path / "small", 8) as disk:
        async with opened(disk / "data") as log:
            log.append(numbered(0, 1000))
            log.append(transition(T0_NS))
            await log.flush()
        ballast = await asyncio.to_thread(fill_up, disk) if how == "full" else None
        if how == "read-only":
            run("mount", "-o", "remount,ro", str(disk))
        async with opened(disk / "data") as log, reporting(log) as told:
            log.append(numbered(1000, 1000))
            await eventually(lambda: active(told) == {"log.held"})
            assert len(list(log.transitions())) == 1
            if ballast is not None:
                ballast.unlink()
            else:
                run("mount", "-o", "remount,rw", str(disk))
            await log.flush()
            await eventually(lambda: active(told) == set())
            assert log.samples(T0_NS, T0_NS + 100 * SECOND_NS)[2].tolist() == list(range(2000))
