"""`forewarn run`: the gateway."""

import asyncio
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from gateway.app import Gateway


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--headless", is_flag=True, help="No live table: JSON lines, as without a terminal.")
def command(*, config: Path, headless: bool) -> None:
    """Run the gateway that CONFIG describes, until SIGTERM or Ctrl-C.

    On a terminal a live table shows sources, assets, scores and alarms; without one, or with
    --headless, events go to stderr as JSON lines. A changed CONFIG is taken when it is valid.

    \b
    Examples:
      forewarn run forewarn.toml
      forewarn run forewarn.toml --headless 2> forewarn.log
    """
    from gateway.heap import settle_heap

    settle_heap()
    from gateway.cli.structured import write_json_lines
    from gateway.config import load

    write_json_lines()
    settings = load(config)
    from gateway.app import Gateway

    gateway = Gateway(settings)
    asyncio.run(run_until_told(gateway, live=sys.stdout.isatty() and not headless))


async def run_until_told(
    gateway: "Gateway",
    *,
    live: bool,
    title: str = "forewarn",
    stop: asyncio.Event | None = None,
) -> None:
    """Run `gateway` until `stop` is set, or SIGTERM or SIGINT comes; with a live table if asked."""
    ending = stop or asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    try:
        if not live:
            await gateway.run(ending)
            return
        await _run_live(gateway, ending, title)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def _run_live(gateway: "Gateway", ending: asyncio.Event, title: str) -> None:
    from rich.console import Console
    from rich.live import Live

    from gateway.cli.live import show
    from gateway.cli.structured import write_to

    console = Console()
    write_to(lambda line: console.print(line, style="dim", markup=False, highlight=False))
    with Live(console=console, auto_refresh=True, refresh_per_second=4) as live:
        showing = asyncio.create_task(show(gateway.view, gateway.clock, live, title), name="live")
        try:
            await gateway.run(ending)
        finally:
            showing.cancel()
            with suppress(asyncio.CancelledError):
                await showing
