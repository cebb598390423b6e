"""`forewarn health`: is the gateway of this configuration alive and writing? For health checks."""

import json
import os
import sys
import tomllib
from pathlib import Path

import click

DEFAULT_CONFIG = "/etc/forewarn/forewarn.toml"


@click.command()
@click.argument("config", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def command(*, config: Path | None, as_json: bool) -> None:
    """Ask the running gateway of CONFIG whether it is well.

    CONFIG is $FOREWARN_CONFIG, or /etc/forewarn/forewarn.toml, unless given. Exit code 0: it is
    well. 1: it is not, or does not answer.

    \b
    Examples:
      forewarn health
      forewarn health forewarn.toml --json
    """
    from gateway.core.errors import ConfigError
    from gateway.health import ask_health

    path = config or Path(os.environ.get("FOREWARN_CONFIG", DEFAULT_CONFIG))
    try:
        # Only one word of the file is needed, and the check must be quick: no models, no types.
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        data_dir = path.parent / str(table.get("gateway", {}).get("data_dir", "data"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); name the configuration") from error
    try:
        said = ask_health(data_dir.resolve())
    except (OSError, ValueError) as error:
        said = {"ok": False, "error": f"no gateway answers in {data_dir}: {error}"}
    if as_json:
        click.echo(json.dumps(said))
    elif said.get("ok"):
        click.echo(f"well: {said['sources_up']} of {said['sources']} sources up")
        for source, why in said["down"].items():
            click.echo(f"{source}: {why}")
        cloud = said.get("cloud")
        if cloud:
            click.echo(
                f"cloud: {cloud['payload_bytes']} bytes left, {cloud['stayed_bytes']} stayed home, "
                f"{cloud['waiting']} summaries wait {cloud['why_not']}".rstrip()
            )
    else:
        click.echo(f"not well: {said.get('held') or said.get('error') or said}", err=True)
    sys.exit(0 if said.get("ok") else 1)
