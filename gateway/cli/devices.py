"""`forewarn devices`: what can run models here, how fast, and how exactly."""

import json
import math
import sys
from pathlib import Path

import click


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path), required=False)
@click.option("--server", multiple=True, metavar="URL", help="A model server to try as well.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def command(bundle: Path | None, *, server: tuple[str, ...], as_json: bool) -> None:
    """Show what can run models here; with a bundle, load, prove and time it on each.

    `off` is the worst difference from the golden vectors, in % of what the bundle allows; above
    100 % a device is refused. Exit code 1: no device runs the bundle.

    \b
    Examples:
      forewarn devices
      forewarn devices pump.fwm --server http://127.0.0.1:8000/pump
    """
    from rich.console import Console
    from rich.table import Table

    from models.runtime import Tried, candidates, try_all

    there = candidates(server)
    if bundle is None:
        if as_json:
            click.echo(json.dumps([{"device": name, "precision": kind} for name, kind in there]))
        else:
            click.echo("\n".join(name for name, _ in there))
            click.echo("give a bundle to see what each does with it", err=True)
        return

    from models.bundle import read

    held = read(bundle)
    both = [*there, *((name, "fp32") for name, kind in there if kind == "int8")]
    with Console(stderr=True).status("trying every device"):
        tried = try_all(held, [(name, kind) for name, kind in sorted(both)])

    def told(each: Tried) -> dict[str, object]:
        numbers = {
            name: None if math.isnan(value) else round(value, 4)
            for name, value in (
                ("load_ms", each.load_ms),
                ("batch_1_us", each.batch_1_us),
                ("batch_32_us", each.batch_32_us),
                ("off", each.off),
            )
        }
        return {
            "device": each.device,
            "precision": each.precision,
            "refused": each.refused,
            **numbers,
        }

    if as_json:
        click.echo(json.dumps([told(each) for each in tried]))
    else:
        table = Table("device", "precision", "load ms", "1 row us", "32 rows us", "off", box=None)
        for each in tried:
            if each.refused:
                table.add_row(each.device, each.precision, "refused: " + each.refused)
            else:
                table.add_row(
                    each.device,
                    each.precision,
                    f"{each.load_ms:.0f}",
                    f"{each.batch_1_us:.0f}",
                    f"{each.batch_32_us:.0f}",
                    f"{100 * each.off:.1f} %",
                )
        Console().print(table)
    sys.exit(0 if any(not each.refused for each in tried) else 1)
