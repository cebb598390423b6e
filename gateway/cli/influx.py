"""`forewarn influx`: prepares and checks the InfluxDB of a gateway."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from gateway.store.config import InfluxConfig


@click.group()
def command() -> None:
    """Prepare and check the InfluxDB of a gateway.

    \b
    Examples:
      forewarn influx setup forewarn.toml --days 400
      forewarn influx check forewarn.toml
    """


@command.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--days", default=0.0, help="How long the server keeps data; 0 is for ever.")
def setup(*, config: Path, days: float) -> None:
    """Make the database or bucket, its retention and its DBRP mapping, where they are missing.

    What is there already is left as it is. Exit code 1: the server refuses or is away.
    """
    from gateway.core.errors import ConfigError
    from gateway.store.influx_setup import setup as make

    gateway, influx = _load(config)
    try:
        for line in make(influx, days=days):
            click.echo(line)
        _check(influx, gateway)
    except (ConfigError, OSError) as error:
        click.echo(f"forewarn: {error}", err=True)
        sys.exit(1)


@command.command()
@click.argument("config", type=click.Path(path_type=Path))
def check(*, config: Path) -> None:
    """Write one point, as the gateway would. Exit code 1: it was not taken."""
    from gateway.core.errors import ConfigError

    gateway, influx = _load(config)
    try:
        _check(influx, gateway)
    except (ConfigError, OSError) as error:
        click.echo(f"forewarn: {error}", err=True)
        sys.exit(1)


def _check(influx: "InfluxConfig", gateway: str) -> None:
    from gateway.store.influx_setup import check as write_one

    write_one(influx, gateway, time.time_ns())
    click.echo(f"a point was written to {influx.database} at {influx.url}")


def _load(path: Path) -> tuple[str, "InfluxConfig"]:
    from gateway.config import load
    from gateway.core.errors import ConfigError

    settings = load(path).settings
    if settings.influx is None:
        raise ConfigError(f"{path.name}: has no [influx] table; add one with url and database")
    return settings.gateway.id, settings.influx
