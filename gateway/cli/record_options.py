"""The options by which `train`, `score` and `evaluate` say what is in the files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


events_option = click.option(
    "--events",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Errors, repairs: time, --group column, one of codes; or facts of each machine, without "
    "a time. May be repeated (failure, rul).",
)


day_first_option = click.option(
    "--day-first/--month-first",
    default=None,
    help="How 05/11/2026 is meant, where no row of the column tells.",
)


def orders_options(command: Command) -> Command:
    """`--bearing`, `--speed` and `--pulses-per-turn`, where a model is trained on vibration."""
    command = click.option(
        "--pulses-per-turn",
        type=click.IntRange(1, 10_000),
        metavar="N",
        help="The --speed column is of a tachometer: its sampled pulses, or their times in s.",
    )(command)
    command = click.option(
        "--speed",
        metavar="COL",
        help="Tell the vibration's orders of the shaft, by this speed in rpm beside it [default, "
        "with --bearing: the one in rpm].",
    )(command)
    return click.option(
        "--bearing",
        metavar="NUMBER",
        help="Search the vibration for this bearing's defects as well: 6205, or "
        "ROLLERS,ROLLER_MM,PITCH_MM.",
    )(command)


def failure_options(command: Command) -> Command:
    """`--failures` and `--within`, where labels are needed."""
    command = click.option(
        "--within", metavar="24h", help="With --failures: how long before one to warn."
    )(command)
    return click.option(
        "--failures",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Makes the label, from a table of failures as of --events; --label A,B: of these.",
    )(command)


def data_options(*, training: bool) -> Callable[[Command], Command]:
    """`--data`, `--time`, `--signals` and the rest, in the order in which `--help` shows them."""
    options = [
        click.option(
            "--data",
            "data",
            multiple=True,
            required=True,
            type=click.Path(path_type=Path),
            help="CSV, gzip, zip or Parquet, a sequence each; or a gateway's forewarn.toml."
            if training
            else "CSV, gzip, zip or Parquet; each file is a sequence of its own. May be repeated.",
        ),
        click.option("--time", metavar="COL", help="Time column [default: found by itself]."),
        day_first_option,
        click.option("--group", metavar="COL", help="Column that tells sequences apart."),
        click.option("--label", metavar="COL[,COL]", help="Label columns; 0 is healthy."),
        click.option("--ignore", metavar="A,B", help="Columns to leave alone."),
        events_option,
    ]
    if training:
        options += [
            click.option(
                "--signals", metavar="A,B", help="Columns to use [default: all other numbers]."
            ),
            click.option(
                "--derive",
                multiple=True,
                metavar="NAME = EXPR",
                help="A further signal, as 'power_w = torque * rpm * 0.1047'. May be repeated.",
            ),
        ]
    options.append(
        click.option("--rows", metavar="START:END", help="Which rows of each file to use.")
    )

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def split(text: str | None) -> tuple[str, ...]:
    """The names of `A,B`.

    >>> split("a, b"), split(None)
    (('a', 'b'), ())
    """
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def row_range(text: str | None) -> tuple[int | None, int | None] | None:
    """Start and end of `0:400`, `:400`, `400:`.

    Raises:
        click.BadParameter: Not such a range.
    """
    if text is None:
        return None
    start, colon, end = text.partition(":")
    try:
        found = (int(start) if start.strip() else None, int(end) if end.strip() else None)
    except ValueError:
        found = None, None
        colon = ""
    if not colon:
        raise click.BadParameter(f"must be START:END, such as 0:400, was {text!r}")
    return found


class ManyFiles(click.Command):
    """A command whose `--data` takes all names up to the next option, as shells expand them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat `--data` before each file name that follows another one."""
        out: list[str] = []
        taking = False
        for arg in args:
            if arg == "--data":
                taking = True
                out.append(arg)
                continue
            if arg.startswith("-") and arg != "-":
                taking = False
            elif taking and out[-1] != "--data":
                out.append("--data")
            out.append(arg)
        return super().parse_args(ctx, out)
