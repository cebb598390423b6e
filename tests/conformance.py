"""What every protocol must do, whatever it speaks. A new protocol calls `check_source` and is done.

Idea: trio.testing.check_one_way_stream, river.checks.yield_checks, Telegraf models.BufferSuiteTest.

A protocol's test brings a `Peer`: a real server or device under the test's control, and the sources
that read it. The checks say what an operator may rely on; none of them knows a protocol.
"""

import ast
import asyncio
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Protocol, TypeAlias

import pytest
import structlog

import protocols
from gateway.core.alarm import Condition
from gateway.core.batch import Batch, Quality, Waveform
from gateway.core.clock import SystemClock
from gateway.core.errors import LinkError
from gateway.core.meter import LinkState, SourceMeter
from gateway.core.signals import SignalTable
from gateway.core.source import Session, Source, SourceContext

READ_TIMEOUT_S = 30.0
"""Longest wait for anything that a check expects."""


class Peer(Protocol):
    """A real server or device, under the test's control."""

    @property
    def source(self) -> Source:
        """Reads exactly one signal, the one that `emit` moves."""
        ...

    @property
    def wider(self) -> Source:
        """The same link with one more good signal, listed second."""
        ...

    @property
    def broken(self) -> Source | None:
        """As `wider`, but the peer refuses the second one's address; None where none can be."""
        ...

    @property
    def resets(self) -> bool:
        """Whether the transport can be reset (TCP) as well as closed."""
        ...

    @property
    def asked(self) -> bool:
        """Whether the adapter sends requests at all; a sensor that only pushes is not asked."""
        ...

    def links(self) -> int:
        """How many links were opened so far."""
        ...

    async def emit(self, n: int) -> Sequence[float]:
        """Make `n` more distinct values available.

        Returns:
            Those that must be read, in order: all of them where the peer pushes or keeps a queue,
            the last one where it is polled.
        """
        ...

    async def hang_up(self, *, reset: bool) -> None:
        """End the link from the peer's side: by TCP RST if `reset`, else by closing it."""
        ...


PeerMaker: TypeAlias = Callable[[], AbstractAsyncContextManager[Peer]]


@dataclass
class Bench:
    """A context for one source, with what it reported kept for the test."""

    context: SourceContext
    reported: list[Condition] = field(default_factory=list)

    @property
    def meter(self) -> SourceMeter:
        return self.context.meter


def bench(source_id: str, protocol: str, data_dir: Path) -> Bench:
    """A fresh context: system clock, seeded jitter, empty signal table, counters at zero."""
    reported: list[Condition] = []
    context = SourceContext(
        clock=SystemClock(),
        random=Random(0),
        log=structlog.get_logger().bind(source=source_id),
        signals=SignalTable(),
        meter=SourceMeter(source_id, protocol),
        data_dir=data_dir,
        report=reported.append,
    )
    return Bench(context, reported)


async def check_source(make: PeerMaker, data_dir: Path) -> None:
    """Run every check that needs a peer. Raises AssertionError at the first that fails."""
    await check_samples_survive_cancellation(make, data_dir)
    await check_hang_up_is_a_link_error(make, data_dir)
    await check_can_be_reopened(make, data_dir)
    await check_counts_what_all_count(make, data_dir)
    await check_bad_address_is_one_bad_signal(make, data_dir)
    await check_a_signal_comes_and_goes_without_the_link(make, data_dir)
    await check_the_wire_is_shown_to_who_asks(make, data_dir)


def check_module(kind: str, *, libraries: Sequence[str], writes: str = "") -> None:
    """Run every check that reads the protocol's code.

    Args:
        kind: Name of the module or folder in `protocols`.
        libraries: Import names that may be loaded only when a source opens.
        writes: More names that write to a machine, as a regular expression.
    """
    check_imports_light(kind, libraries)
    check_never_writes(kind, writes)


async def check_samples_survive_cancellation(make: PeerMaker, data_dir: Path) -> None:
    """A read that is cancelled, whenever it is, takes no sample with it."""
    async with make() as peer:
        world = _bench(peer.source, data_dir)
        async with peer.source.open(world.context) as session:
            got: list[float] = []
            due: list[float] = []
            for _ in range(5):
                reading = asyncio.create_task(session.read())
                more = await peer.emit(2)
                # A polled peer promises its last value only, and that until it has the next one.
                due = due + list(more) if len(more) == 2 else []
                for _ in range(3):
                    await asyncio.sleep(0)
                reading.cancel()
                try:
                    got += _values(await reading)
                except asyncio.CancelledError:
                    pass
            due += await peer.emit(3)
            await _read_until(session, due, got)


async def check_hang_up_is_a_link_error(make: PeerMaker, data_dir: Path) -> None:
    """However the peer goes away, the reader learns it by a LinkError and nothing else."""
    async with make() as peer:
        kinds = (False, True) if peer.resets else (False,)
    for reset in kinds:
        async with make() as peer:
            world = _bench(peer.source, data_dir)
            async with (
                asyncio.timeout(READ_TIMEOUT_S),
                peer.source.open(world.context) as session,
            ):
                await session.read()
                await peer.hang_up(reset=reset)
                with pytest.raises(LinkError):
                    while True:
                        await session.read()


async def check_can_be_reopened(make: PeerMaker, data_dir: Path) -> None:
    """One source may be opened again and again, and says where and when each sample came from."""
    async with make() as peer:
        world = _bench(peer.source, data_dir)
        for _ in range(3):
            async with peer.source.open(world.context) as session:
                got: list[float] = []
                due = await peer.emit(1)
                await _read_until(session, due, got, peer.source, world)


async def check_counts_what_all_count(make: PeerMaker, data_dir: Path) -> None:
    """The adapter counts its own half of the meter, and leaves the supervisor's half alone."""
    async with make() as peer:
        world = _bench(peer.source, data_dir)
        async with peer.source.open(world.context) as session:
            got: list[float] = []
            due = await peer.emit(2)
            await _read_until(session, due, got)
        meter = world.meter
        assert meter.connects == meter.link_errors == meter.samples == meter.samples_bad == 0
        assert meter.last_sample_ns == 0
        assert meter.state is LinkState.CONNECTING
        assert meter.samples_lost == 0
        assert not meter.quarantined
        assert not +meter.errors
        if peer.asked:
            assert meter.requests > 0
            assert 0 < meter.latency_s <= meter.latency_s_max < READ_TIMEOUT_S
        else:
            assert meter.requests == 0


async def check_bad_address_is_one_bad_signal(make: PeerMaker, data_dir: Path) -> None:
    """An address that the peer refuses is one BAD signal, shown with its reason; the rest live."""
    async with make() as peer:
        if peer.broken is None:
            return
        world = _bench(peer.broken, data_dir)
        async with peer.broken.open(world.context) as session:
            good, bad = _numbers(peer.broken, world)
            values: list[float] = []
            refused = 0
            due = await peer.emit(2)
            async with asyncio.timeout(READ_TIMEOUT_S):
                while not (refused and _is_subsequence(due, values)):
                    batch = await session.read()
                    assert isinstance(batch, Batch)
                    refused += int((batch.signal == bad).sum())
                    assert (batch.quality[batch.signal == bad] == Quality.BAD).all()
                    values += batch.value[batch.signal == good].tolist()
            name = str(peer.broken.signals[1].key())
            assert world.meter.quarantined.keys() == {name}
            assert world.meter.quarantined[name]
            assert sum(world.meter.errors.values()) >= 1


async def check_a_signal_comes_and_goes_without_the_link(make: PeerMaker, data_dir: Path) -> None:
    """Adding and removing one signal is a matter of that signal: the same link serves on."""
    async with make() as peer:
        world = _bench(peer.source, data_dir)
        async with peer.source.open(world.context) as session:
            await session.read()
            links = peer.links()
            assert await session.apply(peer.wider)
            seen: set[int] = set()
            async with asyncio.timeout(READ_TIMEOUT_S):
                while seen != set(_numbers(peer.wider, world)):
                    await peer.emit(1)
                    item = await session.read()
                    assert isinstance(item, Batch)
                    seen |= set(item.signal[item.quality != Quality.BAD].tolist())
            assert await session.apply(peer.source)
            due = await peer.emit(2)
            got: list[float] = []
            await _read_until(session, due, got, peer.source, world)
            assert peer.links() == links


async def check_the_wire_is_shown_to_who_asks(make: PeerMaker, data_dir: Path) -> None:
    """An open tap shows what crosses the wire, both ways; a closed one keeps nothing."""
    async with make() as peer:
        world = _bench(peer.source, data_dir)
        tap = world.context.tap
        async with peer.source.open(world.context) as session:
            await _read_until(session, await peer.emit(1), [])
            assert not tap.frames()
            tap.start(world.context.clock, READ_TIMEOUT_S)
            await _read_until(session, await peer.emit(2), [])
            frames = tap.frames()
            assert any(frame.data for frame in frames if not frame.sent)
            assert peer.asked == any(frame.data for frame in frames if frame.sent)
            tap.stop()
            await _read_until(session, await peer.emit(1), [])
            assert not tap.frames()


def check_imports_light(kind: str, libraries: Sequence[str]) -> None:
    """Knowing a protocol's configuration must not load its library."""
    code = (
        f"import sys, protocols; protocols.config_type({kind!r})\n"
        f"print([name for name in {list(libraries)!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


WRITES = (
    r"write_(?!text$|bytes$)\w+|\w+_write|\w*Write(Request|Value|Values|Parameters|Single\w*|Multiple\w*)"
    r"|set_value|set_values|set_writable|call_method|call_methods|history_update\w*|HistoryUpdate\w*"
    r"|add_nodes|delete_nodes|add_references|delete_references|mask_write\w*|preset_\w+|force_\w+"
)
"""Names by which the libraries that we use change something in a machine."""


def check_never_writes(kind: str, writes: str = "") -> None:
    """No name that the protocol's code defines, imports or uses is one that writes to a machine."""
    pattern = re.compile(f"(?:{WRITES}{'|' + writes if writes else ''})")
    root = Path(protocols.__file__).parent
    files = sorted((root / kind).rglob("*.py")) if (root / kind).is_dir() else [root / f"{kind}.py"]
    assert files
    found = [
        f"{file.name}:{line}: {name}"
        for file in files
        for line, name in names_in(file.read_text())
        if pattern.fullmatch(name)
    ]
    assert not found, "an adapter never writes to a machine: " + ", ".join(found)


def names_in(code: str) -> list[tuple[int, str]]:
    """Every name that a module defines, imports, reads or looks up by text, with its line."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                found.append((node.lineno, node.name))
            case ast.Attribute():
                found.append((node.lineno, node.attr))
            case ast.Name():
                found.append((node.lineno, node.id))
            case ast.ImportFrom() | ast.Import():
                found += [(node.lineno, part.name) for part in node.names]
            case ast.Call(func=ast.Name(id="getattr"), args=[_, ast.Constant(value=str() as text)]):
                found.append((node.lineno, text))
    return found


def _bench(source: Source, data_dir: Path) -> Bench:
    return bench(source.id, source.kind, data_dir)


def _numbers(source: Source, world: Bench) -> list[int]:
    return [world.context.signals.intern(signal.key()) for signal in source.signals]


def _values(item: Batch | Waveform) -> list[float]:
    values: list[float] = item.value.tolist()
    return values


def _is_subsequence(due: Sequence[float], got: Sequence[float]) -> bool:
    rest = iter(got)
    return all(any(value == seen for seen in rest) for value in due)


async def _read_until(
    session: Session,
    due: Sequence[float],
    got: list[float],
    source: Source | None = None,
    world: Bench | None = None,
) -> None:
    """Read into `got` until `due` is in it; with `source`, every batch must be this source's."""
    async with asyncio.timeout(READ_TIMEOUT_S):
        while not _is_subsequence(due, got):
            item = await session.read()
            got += _values(item)
            if source is not None and world is not None:
                assert item.source == source.id
                assert abs(item.received_ns - world.context.clock.wall_ns()) < 60 * 10**9
                if isinstance(item, Batch):
                    assert set(item.signal.tolist()) <= set(_numbers(source, world))
