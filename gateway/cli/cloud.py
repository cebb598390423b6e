"""`forewarn cloud`: what would leave the plant, before it does."""

from pathlib import Path

import click


@click.group()
def command() -> None:
    """Show what summaries hold. Nothing here sends anything."""


@command.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--pretty", is_flag=True, help="Indented, instead of byte for byte as it would leave."
)
def preview(*, config: Path, pretty: bool) -> None:
    """Print the exact next payload: what waits, or else the interval that is under way.

    Reads the log beside a running gateway, or without one. Works with [cloud] switched off, too.

    \b
    Example:
      forewarn cloud preview forewarn.toml --pretty
    """
    import json

    from gateway.cloud.collect import Scope
    from gateway.cloud.https import as_json
    from gateway.config import load
    from gateway.core.clock import SystemClock
    from gateway.egress import current, waiting
    from gateway.store.reader import LogReader
    from gateway.store.schema import FILE_NAME

    loaded = load(config)
    settings = loaded.settings
    assets = {asset.id for asset in settings.asset}
    assets |= {signal.asset for source in loaded.sources for signal in source.signals}
    scope = Scope(settings.cloud, settings.gateway.id, frozenset(assets))
    reader = LogReader(loaded.data_dir / FILE_NAME)
    try:
        summaries = waiting(reader) or current(reader, scope, SystemClock())
    finally:
        reader.close()
    body = as_json(summaries)
    click.echo(json.dumps(json.loads(body), indent=2, ensure_ascii=False) if pretty else body)


@command.command("schema")
def print_schema() -> None:
    """Print the JSON Schema of a summary, for those who receive them.

    \b
    Example:
      forewarn cloud schema > summary.schema.json
    """
    from importlib.resources import files

    click.echo(files("gateway.cloud").joinpath("schema.json").read_text(encoding="utf-8"), nl=False)
