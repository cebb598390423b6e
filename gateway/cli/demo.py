"""`forewarn demo`: a simulated plant behind real protocols, through the whole pipeline."""

import asyncio
import contextlib
import json
import resource
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from gateway.app import Gateway
    from gateway.core.alarm import Transition

FAULT_DEFAULT = "pump-1:bearing_wear:35"
PROOF_S = 60.0
"""A fault that began less than this before the end is not yet expected to have alarmed."""
PLANT_START_S_MAX = 30.0
PLANT_STOP_S_MAX = 5.0


@click.command()
@click.option("--duration", type=float, metavar="S", help="End after so many seconds.")
@click.option("--headless", is_flag=True, help="No live table; JSON lines on stderr.")
@click.option(
    "--report", type=click.Path(path_type=Path), metavar="FILE.json", help="Write figures."
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="ASSET:KIND:AT_S",
    help=f"Let a fault begin; may be repeated; 'none' for none. [default: {FAULT_DEFAULT}]",
)
@click.option(
    "--picture",
    type=click.Path(path_type=Path),
    metavar="FILE.svg",
    help="With --duration: draw the table as it is at the end.",
)
@click.option("--learn", is_flag=True, help="Learn one machine live, from scratch.")
@click.option("--seed", default=1, show_default=True, help="Fixes the life of every machine.")
@click.option("--port", default=8080, show_default=True, help="Of the console; 0 takes a free one.")
@click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Keep what was recorded here; else it goes."
)
def command(
    *,
    duration: float | None,
    headless: bool,
    report: Path | None,
    faults: tuple[str, ...],
    picture: Path | None,
    learn: bool,
    seed: int,
    port: int,
    data_dir: Path | None,
) -> None:
    """Run four simulated machines over OPC UA, Modbus TCP, Modbus RTU and a serial line.

    One of them develops a fault; an explained alarm is due within two minutes. Nothing on this
    machine is touched but a temporary folder. The console is at http://127.0.0.1:8080; the link
    for signing in is in the first lines. With --duration the exit code says whether every
    fault was found (0) or not, or something else was alarmed or lost (1).

    \b
    Examples:
      forewarn demo
      forewarn demo --headless --duration 120 --report r.json
      forewarn demo --fault lathe-1:overheating:30 --fault compressor-1:blocked_outlet:60
    """
    from gateway.heap import settle_heap

    settle_heap()
    wanted = [f for f in (faults or (FAULT_DEFAULT,)) if f != "none"]
    from gateway.demo.layout import PlannedFault

    try:
        planned = [PlannedFault.parse(text) for text in wanted]
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    live = sys.stdout.isatty() and not headless
    with contextlib.ExitStack() as stack:
        folder = data_dir or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="forewarn-"))
        )
        folder.mkdir(parents=True, exist_ok=True)
        outcome = asyncio.run(
            _demo(
                folder,
                [str(p) for p in planned],
                seed,
                duration,
                live=live,
                learn=learn,
                port=port,
                picture=picture,
            )
        )
    if report is not None:
        report.write_text(json.dumps(outcome.report, indent=2, ensure_ascii=False) + "\n")
    if not headless or report is None:
        click.echo(outcome.words())
    sys.exit(0 if duration is None or outcome.proven else 1)


@dataclass
class _Outcome:
    """What the demo showed."""

    report: dict[str, Any]
    missed: list[str]

    @property
    def proven(self) -> bool:
        r = self.report
        quiet = r["false_alarms"] == 0 and r["samples_lost"] == 0
        return quiet and not self.missed and all(s["samples"] > 0 for s in r["sources"])

    def words(self) -> str:
        r = self.report
        samples = sum(source["samples"] for source in r["sources"])
        counts = f"{samples:,} samples from {len(r['sources'])} sources"
        cost = f"{r['cpu_us_per_sample']:.0f} µs CPU a sample, {r['rss_mb']:.0f} MB"
        found = f"{r['false_alarms']} false alarms, {r['samples_lost']} samples lost"
        lines = [f"{counts}, {r['assessments']:,} assessments, {found}, {cost}."]
        lines += [f"At {a['at_s']:.0f} s: {a['text']}" for a in r["alarms"]]
        lines += [f"Not found: {text}" for text in self.missed]
        return "\n".join(lines)


@dataclass
class _Watched:
    """Events of the run, in the order in which they happened."""

    start_s: float = field(default_factory=time.monotonic)
    faults: list[dict[str, Any]] = field(default_factory=list)
    alarms: list[dict[str, Any]] = field(default_factory=list)

    def fault(self, event: dict[str, Any]) -> None:
        at_s = round(time.monotonic() - self.start_s, 2)
        self.faults.append({"asset": event["asset"], "kind": event["kind"], "at_s": at_s})

    def transition(self, transition: "Transition") -> None:
        if transition.event != "active" or not transition.asset:
            return
        self.alarms.append(
            {
                "asset": transition.asset,
                "alarm": transition.alarm,
                "priority": transition.priority.name.lower(),
                "at_s": round(time.monotonic() - self.start_s, 2),
                "severity": round(transition.severity, 3),
                "top_signals": [driver.signal for driver in transition.drivers],
                "text": transition.text,
            }
        )

    def false_alarms(self) -> int:
        began = {fault["asset"]: fault["at_s"] for fault in reversed(self.faults)}
        return sum(a["at_s"] < began.get(a["asset"], float("inf")) for a in self.alarms)

    def missed(self, end_s: float) -> list[str]:
        found = {alarm["asset"] for alarm in self.alarms}
        return [
            f"{f['asset']} {f['kind']}, begun at {f['at_s']:.0f} s"
            for f in self.faults
            if f["asset"] not in found and f["at_s"] < end_s - PROOF_S
        ]


async def _demo(
    folder: Path,
    faults: Sequence[str],
    seed: int,
    duration_s: float | None,
    *,
    live: bool,
    learn: bool,
    port: int,
    picture: Path | None,
) -> _Outcome:
    from gateway.cli.live import draw
    from gateway.cli.run import run_until_told
    from gateway.cli.structured import write_json_lines
    from gateway.config import load
    from gateway.demo.configuration import configuration, shipped_bundles

    if not live:
        write_json_lines()
    stop = asyncio.Event()
    async with _plant(faults, seed) as (addresses, plant):
        config = folder / "forewarn.toml"
        config.write_text(
            configuration(
                addresses,
                data_dir=folder / "data",
                bundles=shipped_bundles(),
                learn=("lathe-1",) if learn else (),
                more=f"[console]\nport = {port}\nanonymous_viewer = true\n",
            ),
            encoding="utf-8",
        )
        from gateway.app import Gateway

        gateway = Gateway(load(config))
        watched = _Watched()
        gateway.annunciator.listeners.append(watched.transition)
        cpu_start_s = time.process_time()
        listening = asyncio.create_task(_listen(plant, watched, stop), name="plant")
        title = "forewarn demo: a simulated plant, real protocols"

        def end() -> None:
            if picture is not None:
                draw(gateway.view, gateway.clock.wall_ns(), title, picture)
            stop.set()

        if duration_s is not None:
            asyncio.get_running_loop().call_later(duration_s, end)
        await run_until_told(gateway, live=live, title=title, stop=stop)
        cpu_s = time.process_time() - cpu_start_s
        listening.cancel()
        await asyncio.wait([listening])
    return _Outcome(
        _report(gateway, watched, cpu_s), watched.missed(time.monotonic() - watched.start_s)
    )


def _report(gateway: "Gateway", watched: _Watched, cpu_s: float) -> dict[str, Any]:
    meters = gateway.links.meters.values()
    samples = sum(meter.samples for meter in meters)
    return {
        "sources": [
            {
                "id": meter.source,
                "protocol": meter.protocol,
                "samples": meter.samples,
                "link_errors": meter.link_errors,
            }
            for meter in meters
        ],
        "faults_injected": watched.faults,
        "alarms": watched.alarms,
        "assessments": gateway.flow.assessed,
        "false_alarms": watched.false_alarms(),
        "samples_lost": gateway.samples_lost(),
        "cpu_us_per_sample": round(1e6 * cpu_s / max(samples, 1), 1),
        "rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


@contextlib.asynccontextmanager
async def _plant(
    faults: Sequence[str], seed: int
) -> AsyncIterator[tuple[dict[str, Any], asyncio.subprocess.Process]]:
    """The plant in a process of its own; it ends when its standard input does."""
    arguments = ["-m", "gateway.demo", "--seed", str(seed)]
    for fault in faults:
        arguments += ["--fault", fault]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PLANT_START_S_MAX):
            line = await process.stdout.readline()
        if not line:
            raise click.ClickException("the simulated plant did not start; see the lines above")
        yield json.loads(line)["sources"], process
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(PLANT_STOP_S_MAX):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def _listen(
    plant: asyncio.subprocess.Process, watched: _Watched, stop: asyncio.Event
) -> None:
    """Note the faults that begin; a plant that dies ends the demo."""
    assert plant.stdout is not None
    while line := await plant.stdout.readline():
        event = json.loads(line)
        if event["event"] == "fault":
            watched.fault(event)
    stop.set()
