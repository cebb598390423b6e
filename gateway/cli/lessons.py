"""`forewarn model promote|rollback|baseline`: what is decided of the learning of a machine."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from gateway.cli.remote import Gateway

CONFIG = click.Path(path_type=Path)


def options(function: Callable[..., Any]) -> Callable[..., Any]:
    """CONFIG ASSET --url --token-file."""
    for wrap in (
        click.option(
            "--token-file",
            type=click.Path(path_type=Path),
            help="File that holds the token; else it is taken from FOREWARN_TOKEN.",
        ),
        click.option(
            "--url", envvar="FOREWARN_URL", help="Of the console [default: by the configuration]."
        ),
        click.argument("asset"),
        click.argument("config", type=CONFIG),
    ):
        function = wrap(function)
    return function


@click.command()
@options
def promote(config: Path, asset: str, *, url: str | None, token_file: Path | None) -> None:
    """Let the model that only watches ASSET judge it from now on.

    Exit code 0: done. 1: it makes no sense now, and why. 2: wrong use, or no gateway answers.

    \b
    Example:
      forewarn model promote forewarn.toml press-1
    """
    _teach(config, asset, url, token_file, "promote", "promoted")


@click.command()
@options
def rollback(config: Path, asset: str, *, url: str | None, token_file: Path | None) -> None:
    """Go back to the model that judged ASSET before the present one.

    Exit code 0: done. 1: there is none. 2: wrong use, or no gateway answers.

    \b
    Example:
      forewarn model rollback forewarn.toml press-1
    """
    _teach(config, asset, url, token_file, "roll-back", "rolled back")


@click.command()
@options
def baseline(config: Path, asset: str, *, url: str | None, token_file: Path | None) -> None:
    """ASSET is healthy as it runs now: learn it anew, while the present model judges on.

    Exit code 0: begun. 1: it makes no sense now. 2: wrong use, or no gateway answers.

    \b
    Example:
      forewarn model baseline forewarn.toml press-1
    """
    _teach(config, asset, url, token_file, "baseline", "a new baseline begins")


def _teach(
    config: Path, asset: str, url: str | None, token_file: Path | None, path: str, done: str
) -> None:
    gateway = Gateway.at(f"model {path}", url or _url(config), token_file)
    gateway.ask(f"learning/{path}", {"asset": asset})
    now = next(
        (row["text"] for row in json.loads(gateway.ask("learning")) if row["asset"] == asset), ""
    )
    click.echo(f"{asset}: {done}; now {now}")


def _url(config: Path) -> str:
    """Where the configuration says that the console is."""
    from gateway.config import load

    console = load(config).settings.console
    scheme = "https" if console.tls_certificate else "http"
    host = console.host if console.host not in ("0.0.0.0", "::") else "127.0.0.1"  # noqa: S104
    return f"{scheme}://{host}:{console.port}"


def show(config: Path, *, as_json: bool) -> None:
    """Print where every machine of a gateway stands, from its log; it may be running or not."""
    from dataclasses import asdict

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from gateway.config import load
    from gateway.core.texts import english
    from gateway.learning.progress import Progress
    from gateway.store.reader import LogReader
    from gateway.store.schema import FILE_NAME
    from gateway.view.lessons import lesson

    settings = load(config)
    path = settings.data_dir / FILE_NAME
    kept: dict[str, bytes] = {}
    if path.exists():
        reader = LogReader(path)
        try:
            kept = reader.state("learn")
        finally:
            reader.close()
    rows = [
        lesson(
            asset.id,
            Progress.load(kept[asset.id]) if asset.id in kept else Progress(),
            english(),
        )
        for asset in settings.settings.asset
        if asset.learn is not None
    ]
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], ensure_ascii=False))
        return
    if not rows:
        click.echo(f"{config}: no [[asset]] is learned here; give one `learn = {{}}`")
        return
    table = Table("asset", "stage", "judges", "watches", "before", "why", box=None)
    for row in rows:
        why = "; ".join(row.missing) or row.reason
        if row.stage == "collecting":
            why = f"{row.share:.0%}" + (f": {why}" if why else "")
        if row.stage == "shadow":
            why = f"{row.windows} windows, {row.flagged} above the limit" + (why and f"; {why}")
        cells = (row.asset, row.stage, row.bundle, row.candidate, row.previous, why)
        table.add_row(*map(escape, cells))
    Console(highlight=False).print(table)
