"""The live table of a running gateway: sources, assets, scores and alarms."""

import asyncio
import io
import math
import re
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gateway.console.plant import Plant
from gateway.console.views import AssetState, AssetView
from gateway.core.alarm import AlarmView, Priority
from gateway.core.clock import Clock
from gateway.core.meter import LinkState, SourceMeter

REFRESH_S = 0.5
ALARMS_SHOWN = 8
_BARS = " ▁▂▃▄▅▆▇█"
_STATE_STYLE = {
    AssetState.ALARM: "bold red",
    AssetState.ACKED: "yellow",
    AssetState.NO_DATA: "magenta",
    AssetState.PARTIAL: "magenta",
    AssetState.LEARNING: "cyan",
    AssetState.STOPPED: "dim",
    AssetState.OK: "green",
}
_LINK_STYLE = {LinkState.UP: "green", LinkState.CONNECTING: "cyan"}


async def show(plant: Plant, clock: Clock, live: Live, title: str) -> None:
    """Keep the table fresh until cancelled."""
    while True:
        live.update(picture(plant, clock.wall_ns(), title))
        await asyncio.sleep(REFRESH_S)


def draw(plant: Plant, now_ns: int, title: str, path: Path) -> None:
    """Write the table as a picture."""
    console = Console(record=True, width=118, file=io.StringIO(), force_terminal=True)
    console.print(picture(plant, now_ns, title))
    svg = console.export_svg(title="forewarn demo")
    # Without the fonts that it would fetch from elsewhere: a picture must not call home.
    path.write_text(re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL), encoding="utf-8")


def picture(plant: Plant, now_ns: int, title: str) -> RenderableType:
    """The whole table at one moment."""
    health = plant.health()
    foot = Text(
        f"{title}   {health.samples:,} samples   lost {health.samples_lost}   Ctrl-C ends",
        style="dim",
    )
    return Group(
        _sources(plant.sources(), now_ns), _assets(plant.assets()), _alarms(plant.alarms()), foot
    )


def _sources(meters: Sequence[SourceMeter], now_ns: int) -> Table:
    table = Table("source", "protocol", "link", "samples", "last", "answer", "errors", expand=True)
    for meter in meters:
        age_s = (now_ns - meter.last_sample_ns) / 1e9 if meter.last_sample_ns else math.nan
        table.add_row(
            meter.source,
            meter.protocol,
            Text(meter.state, style=_LINK_STYLE.get(meter.state, "bold red")),
            f"{meter.samples:,}",
            "—" if math.isnan(age_s) else f"{max(age_s, 0):.1f} s",
            "—" if math.isnan(meter.latency_s) else f"{meter.latency_s * 1e3:.1f} ms",
            str(sum(meter.errors.values())),
        )
    return table


def _assets(assets: Sequence[AssetView]) -> Table:
    table = Table("asset", "state", "score / limit", "", "what drives it", expand=True)
    table.columns[4].ratio = 1
    for asset in assets:
        severity = "—" if math.isnan(asset.severity) else f"{asset.severity:.2f}"
        why = (
            asset.cause
            or asset.abstained.replace("_", " ")
            or "; ".join(d.text for d in asset.drivers)
        )
        if asset.state is AssetState.LEARNING and asset.learning_text:
            why = asset.learning_text
        if asset.state is AssetState.PARTIAL:
            why = "; ".join(f"{u.signal} not judged: {u.text}" for u in asset.unseen)
        style = _STATE_STYLE[asset.state]
        table.add_row(
            asset.id,
            Text(asset.state.replace("_", " "), style=style),
            Text(severity, style=style),
            sparkline(asset.trend),
            why,
        )
    return table


def _alarms(alarms: Sequence[AlarmView]) -> RenderableType:
    if not alarms:
        return Text("No alarms.", style="green")
    table = Table("alarm", "state", "priority", "what", expand=True)
    table.columns[3].ratio = 1
    for alarm in alarms[:ALARMS_SHOWN]:
        table.add_row(
            f"{alarm.asset or 'gateway'}: {alarm.alarm}",
            alarm.state.replace("_", " "),
            Priority(alarm.priority).name.lower(),
            alarm.text,
        )
    if len(alarms) > ALARMS_SHOWN:
        table.add_row(f"and {len(alarms) - ALARMS_SHOWN} more", "", "", "")
    return table


def sparkline(values: Sequence[float]) -> str:
    """Severities as bars: full height is twice the limit; a gap is an abstention."""
    cells = []
    for value in values[-12:]:
        if math.isnan(value):
            cells.append("·")
        else:
            cells.append(_BARS[min(8, max(1, round(4 * value)))])
    return "".join(cells)
