"""`forewarn support`: state for those who help, without secrets and raw data."""

from pathlib import Path

import click


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("bundle", type=click.Path(path_type=Path, dir_okay=False))
def command(*, config: Path, bundle: Path) -> None:
    """Write versions, the configuration without secrets, counters and health into BUNDLE (.zip).

    Nothing is sent anywhere. No measured value, no alarm text and no secret is in it; names of
    assets and signals are, as the configuration has them.

    \b
    Example:
      forewarn support forewarn.toml support.zip
    """
    import tomllib

    from gateway.support import collect

    try:
        table = tomllib.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # A file that is wrong is just what support may be asked about.
        table = {}
    data_dir = config.parent / str(table.get("gateway", {}).get("data_dir", "data"))
    names = collect(config, data_dir.resolve(), bundle)
    click.echo(f"{bundle}: {', '.join(names)}; look into it before you give it away")
