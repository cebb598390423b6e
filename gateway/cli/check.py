"""`forewarn check`: is the configuration right, and with --connect, does every signal answer?"""

import asyncio
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.borrowed import borrowed, context_for, errors_of, heard

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.core.source import SourceConfig

SILENT_TODO = "see its address, and that the machine sends it"


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--connect", is_flag=True, help="Read every signal once; nothing is stored.")
@click.option(
    "--timeout-s", default=15.0, show_default=True, help="How long each source may take to answer."
)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def command(*, config: Path, connect: bool, timeout_s: float, as_json: bool) -> None:
    """Check CONFIG and show every fault at once, each with its line.

    Where a gateway runs by it, what that one takes on only at its next start is told as well.

    Exit code 0: it can run. 1: it can, but a source or signal does not answer, or a language of
    your own lacks texts. 2: the file is wrong.

    \b
    Examples:
      forewarn check forewarn.toml
      forewarn check forewarn.toml --connect
    """
    from gateway.config import load
    from gateway.core.errors import ConfigError

    try:
        settings = load(config)
        fit(settings)
    except ConfigError as error:
        if as_json:
            faults = [
                {"path": f.path, "message": f.message, "file": f.file, "line": f.line}
                for f in error.faults
            ]
            click.echo(json.dumps({"valid": False, "faults": faults}, ensure_ascii=False))
        else:
            click.echo(str(error), err=True)
            count = counted(len(error.faults), "fault")
            click.echo(f"{config}: {count}; nothing was started", err=True)
        sys.exit(2)
    results = asyncio.run(_read_all(settings, timeout_s)) if connect else []
    answered = all(result.ok for result in results)
    waits = _waiting(settings)
    lacks = settings.settings.console.texts.lacks
    if as_json:
        report = _report(settings, results, connect=connect) | {"texts_lacking": lacks}
        if waits is not None:
            report["waits_for_restart"] = waits
        click.echo(json.dumps(report, ensure_ascii=False))
    else:
        _show(settings, results)
        for line in (*(waits or ()), *lacks):
            click.echo(line)
        if settings.settings.console.in_clear:
            click.echo(
                f"console.host: {settings.settings.console.host} without tls_certificate: "
                "passwords cross the network in clear; give it one, or put a proxy before it"
            )
    sys.exit(0 if answered and not lacks else 1)


def counted(n: int, noun: str) -> str:
    """`1 fault`, `1,372 faults`.

    >>> counted(1, "fault"), counted(1372, "fault")
    ('1 fault', '1,372 faults')
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def fit(config: "Config") -> None:
    """Take what is derived, and the models, as a gateway does at its start; these on the CPU.

    Raises:
        ConfigError: A formula, or a bundle for other signals or units, or a damaged one.
    """
    from gateway.core.signals import SignalTable
    from gateway.pipeline.derive import Derive
    from gateway.pipeline.events import Events
    from gateway.pipeline.fleet import assignments, muster
    from models.runtime import open_session

    table = SignalTable()
    settings = config.settings
    sources_of = config.sources_of | Derive(settings.derive, config.sources_of, table).sources
    muster(
        assignments(settings.asset, config.resolve),
        sources_of,
        table,
        opener=lambda bundle, _device: open_session(bundle, "cpu"),
        events=Events(settings.event_log, settings.asset, sources_of, table),
    )


def _waiting(config: "Config") -> list[str] | None:
    """What the gateway that runs here would not take on before a restart; None where none runs."""
    from gateway.changes import waiting
    from gateway.health import ask_health

    try:
        running = ask_health(config.data_dir).get("fixed")
    except (OSError, ValueError):
        return None
    return None if running is None else [*map(str, waiting(running, config.as_table()))]


@dataclass
class _Result:
    """What one source said."""

    source: str
    error: str = ""
    value: dict[str, float] = field(default_factory=dict)
    bad: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return not self.error and not self.bad


async def _read_all(config: "Config", timeout_s: float) -> list[_Result]:
    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(
                _read(source, timeout_s, config.source_dir(source.id)), name=f"check:{source.id}"
            )
            for source in config.sources
        ]
    return [task.result() for task in running]


async def _read(source: "SourceConfig", timeout_s: float, kept: Path) -> _Result:
    import protocols
    from gateway.core.batch import Batch, Quality
    from gateway.core.errors import GatewayError

    result = _Result(source.id)
    seen: dict[int, bool] = {}
    with borrowed(kept) as folder:
        context = context_for(source.id, source.kind, folder)
        wanted = {context.signals.intern(s.key()): str(s.key()) for s in source.signals}
        try:
            async with (
                asyncio.timeout(timeout_s),
                protocols.as_source(source).open(context) as session,
            ):
                while not all(seen.get(number) for number in wanted):
                    item = await session.read()
                    if not isinstance(item, Batch):
                        seen[item.signal] = True
                        continue
                    for number, value, quality in zip(
                        item.signal.tolist(),
                        item.value.tolist(),
                        item.quality.tolist(),
                        strict=True,
                    ):
                        seen[number] = seen.get(number, False) or quality != Quality.BAD
                        if quality != Quality.BAD:
                            result.value[wanted[number]] = value
                    if set(seen) == set(wanted):
                        break  # Each has answered once, if only with "no".
        except TimeoutError:
            if not seen:
                result.error = f"no answer within {timeout_s:g} s ({heard(context)})"
        except GatewayError as error:
            result.error = str(error)
    errors = f" ({', '.join(errors_of(context))})" if context.meter.errors else ""
    for number, name in wanted.items():
        if not seen.get(number):
            silent = f"nothing came for it within {timeout_s:g} s; {SILENT_TODO}"
            why = "answered BAD" if number in seen else "did not answer" if result.error else silent
            why += errors
            result.bad[name] = context.meter.quarantined.get(name, why)
    return result


def _report(config: "Config", results: list[_Result], *, connect: bool) -> dict[str, Any]:
    report: dict[str, Any] = {
        "valid": True,
        "faults": [],
        "sources": [
            {"id": source.id, "kind": source.kind, "signals": len(source.signals)}
            for source in config.sources
        ],
        "assets": sorted({signal.asset for s in config.sources for signal in s.signals}),
    }
    if connect:
        report["read"] = [
            {"source": r.source, "error": r.error, "values": r.value, "bad": r.bad} for r in results
        ]
    return report


def _show(config: "Config", results: list[_Result]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    n = sum(len(source.signals) for source in config.sources)
    assets = {signal.asset for source in config.sources for signal in source.signals}
    counts = ((len(config.sources), "source"), (n, "signal"), (len(assets), "asset"))
    console.print(f"{config.path}: valid. {', '.join(counted(*each) for each in counts)}.")
    judged = {
        asset.id for asset in config.settings.asset if asset.bundle or asset.bundles or asset.learn
    }
    if assets - judged:
        console.print(f"Recorded, but judged by no model: {', '.join(sorted(assets - judged))}.")
    if not results:
        return
    table = Table("source", "signal", "value", "")
    table.columns[3].overflow = "fold"  # A fingerprint is there to be compared to the end.
    for result in results:
        if result.error:
            table.add_row(result.source, "", "", f"[red]{escape(result.error)}")
            continue  # No signal of it was even asked for.
        for name, value in result.value.items():
            table.add_row(result.source, name, f"{value:g}", "[green]ok")
        for name, why in result.bad.items():
            table.add_row(result.source, name, "", f"[red]{escape(why)}")
    console.print(table)
    if silent := next((result.source for result in results if not result.ok), None):
        ask = f"forewarn doctor {config.path} --listen {silent}"
        console.print(f"What comes on a wire, and what becomes of it: {ask}")
