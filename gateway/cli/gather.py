"""`forewarn gather`: a folder of recorded bursts, one a file, as one file for training."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Waves = NDArray[np.float32]

SHORT_MAX = 0.1
"""Share of the longest burst by which another may be shorter: all are cut to the shortest."""
CROSSES_MIN = 0.01
"""A waveform crosses its mean in so many of its rows; a clock or a counter does not."""
_NUMBERS = re.compile(r"\d+")
_SPAN = re.compile(r"^(\d+(?:\.\d+)?)(s|min|h|d)$")
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


@click.command()
@click.argument(
    "folder", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="FOLDER"
)
@click.option("--rate-hz", type=click.FloatRange(min=0, min_open=True), required=True,
              help="Samples a second.")  # fmt: skip
@click.option(
    "--columns", metavar="A,B", help="Names or numbers of the columns [those that are waveforms]."
)
@click.option(
    "--name", default="waveform", show_default=True, help="Of the signal; …_g: acceleration in g."
)
@click.option(
    "--every",
    metavar="10min",
    help="From one burst to the next, where no file is called by its time.",
)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="An .npz file."
)
def command(
    *,
    folder: Path,
    rate_hz: float,
    columns: str | None,
    name: str,
    every: str | None,
    out: Path,
) -> None:
    """Gather a FOLDER of recorded bursts, one a file (CSV, with a header or without).

    The bursts are put in the order of their times, where files are called by them
    (2003.10.22.12.06.24, burst_20260301-101500.csv), or else of the numbers in their names.

    \b
    Examples:
      forewarn gather 1st_test --rate-hz 20000 --name vibration_g --out life.npz
      forewarn gather Bearing1_1 --rate-hz 25600 --every 1min --columns 1,2 --out life.npz
      forewarn train --data life.npz --rows 0:200 --out bearing.fwm
    """
    import numpy as np
    from rich.console import Console
    from rich.progress import track

    from gateway.cli.sentences import say

    files = [f for f in folder.iterdir() if f.is_file() and not f.name.startswith(".")]
    if not files:
        raise click.BadParameter(f"{folder}: must hold a file for each burst, holds none")
    called = {file: time for file in files if (time := _called(file)) is not None}
    known = len(called) == len(files)
    files.sort(key=lambda file: (called[file] if known else 0.0, _natural(file)))
    at = _columns(files[0], columns)
    console = Console(stderr=True)
    bursts = [
        _read(file, at)
        for file in track(files, "reading", console=console, transient=True,
                          disable=not console.is_terminal)
    ]  # fmt: skip
    lengths = [len(burst) for burst in bursts]
    samples = min(lengths)
    if samples < (1 - SHORT_MAX) * max(lengths):
        file = files[lengths.index(samples)]
        raise click.ClickException(
            f"{file}: must be about as long as the others ({max(lengths)} rows), has {samples};"
            " take it away, or gather it elsewhere"
        )
    arrays: dict[str, Any] = {name: np.stack([burst[:samples] for burst in bursts])}
    if known:
        arrays["t0"] = np.array([called[file] for file in files])
    elif every:
        arrays["t0"] = np.arange(len(files)) * _span_s(every)
    with out.open("wb") as sink:
        np.savez(sink, rate_hz=np.array(rate_hz), **arrays)
    when = "by their names" if known else f"{every} apart" if every else "without a time (--every)"
    say(
        f"{out}: {len(files)} bursts of {samples} samples ({samples / rate_hz:.3g} s), {len(at)}"
        f" waveforms, {when}; from {files[0].name} to {files[-1].name}"
    )


def _called(file: Path) -> float | None:
    """UTC seconds that a file is called by, from its year on.

    >>> _called(Path("2003.10.22.12.06.24")) == _called(Path("a_20031022-120624.csv"))
    True
    >>> _called(Path("acc_00017.csv"))
    """
    digits = _NUMBERS.findall(file.name)
    for first in range(len(digits)):
        text = "".join(digits[first:])[:14]
        if len(digits[first]) in {4, 8, 14} and len(text) == len("YYYYMMDDhhmmss"):
            try:
                return datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp()
            except ValueError:
                continue
    return None


def _natural(file: Path) -> list[tuple[int, str]]:
    """By which burst_2 comes before burst_10."""
    return [
        (int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", file.name)
    ]


def _columns(file: Path, wanted: str | None) -> list[int]:
    """Which columns of a file are gathered."""
    import numpy as np

    from gateway.cli.tables import numbers, share, table

    held = table(file)
    if wanted:
        names = list(held.names)
        out = []
        for each in (part.strip() for part in wanted.split(",")):
            number = int(each) if each.isdigit() else 0
            if each not in names and not 1 <= number <= len(names):
                raise click.BadParameter(
                    f"must be of {', '.join(names)}, or 1 to {len(names)}, was {each!r}",
                    param_hint="--columns",
                )
            out.append(names.index(each) if each in names else number - 1)
        return out
    waves = []
    for index, (name, cells) in enumerate(zip(held.names, held.columns, strict=True)):
        values = numbers(held, name) if share(cells) == 1.0 else np.zeros(0)
        above = values > values.mean() if len(values) else np.zeros(0, bool)
        if len(values) and np.mean(above[1:] != above[:-1]) >= CROSSES_MIN:
            waves.append(index)
    if not waves:
        raise click.ClickException(
            f"{file}: no column swings about its mean as a waveform does ({', '.join(held.names)});"
            " name them with --columns"
        )
    return waves


def _read(file: Path, at: Sequence[int]) -> "Waves":
    """float32[samples, waves]."""
    import numpy as np

    from gateway.cli.tables import numbers, table

    held = table(file)
    if len(held.names) <= max(at):
        raise click.ClickException(
            f"{file}: must have {max(at) + 1} columns as the first file, has {len(held.names)}"
        )
    return np.column_stack([numbers(held, held.names[index]) for index in at]).astype(np.float32)


def _span_s(text: str) -> float:
    found = _SPAN.match(text)
    if found is None or not float(found[1]):
        raise click.BadParameter(
            f"must be such as 10min or 30s, was {text!r}", param_hint="--every"
        )
    return float(found[1]) * _SECONDS[found[2]]
