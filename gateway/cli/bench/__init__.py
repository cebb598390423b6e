"""`forewarn bench`: what each stage costs on this machine, beside its budget."""

import json
from dataclasses import asdict
from pathlib import Path

import click

STAGES = ("pipeline", "growth", "features", "models", "wire", "alarm", "process")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
@click.option("--quick", is_flag=True, help="A tenth of the load: a look, not a measurement.")
@click.option("--runs", default=3, show_default=True, help="Runs; the median is shown.")
@click.option("--only", "stages", multiple=True, type=click.Choice(STAGES), help="One; repeat.")
@click.option(
    "--bundle",
    type=click.Path(path_type=Path, exists=True),
    help="Judge with this bundle instead of the demo plant's pump.",
)
def command(
    *, as_json: bool, quick: bool, runs: int, stages: tuple[str, ...], bundle: Path | None
) -> None:
    """Measure the cost of each stage on this machine: CPU a sample, features, models, memory.

    Runs on one core for some minutes; leave the machine alone meanwhile. Nothing outside a
    temporary folder and loopback is touched.

    \b
    Examples:
      forewarn bench
      forewarn bench --only pipeline
      forewarn bench --json > bench.json
    """
    from gateway.heap import settle_heap

    settle_heap()
    from gateway.cli.bench.measure import measure

    figures = measure(stages or STAGES, runs=runs, scale=0.1 if quick else 1.0, bundle=bundle)
    if as_json:
        click.echo(json.dumps([asdict(figure) for figure in figures], indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("what", "measured", "budget", "")
    for figure in figures:
        over = figure.budget is not None and figure.value > figure.budget
        mark = "" if figure.budget is None else "[red]over" if over else "[green]within"
        budget = "" if figure.budget is None else f"{figure.budget:g} {figure.unit}"
        table.add_row(figure.what, f"{figure.value:.3g} {figure.unit}", budget, mark)
    Console().print(table)
