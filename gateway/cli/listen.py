"""Shows what crosses one source's wire and what became of it, for `forewarn doctor --listen`."""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.borrowed import borrowed, context_for

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.core.batch import Batch, Waveform
    from gateway.core.source import SourceConfig, SourceContext
    from gateway.core.tap import Frame

ROUND_S = 0.25
"""So often what came and was of no use is shown."""
ROW_BYTES = 16


def show_wire(config: "Config", source_id: str, for_s: float, *, as_json: bool) -> None:
    """Show what a source sends and is sent for so long, and the samples and errors it makes."""
    from gateway.core.errors import GatewayError

    source = next((s for s in config.sources if s.id == source_id), None)
    if source is None:
        known = ", ".join(s.id for s in config.sources)
        raise click.BadParameter(
            f"SOURCE must be one of {known}, was {source_id!r}", param_hint="--listen"
        )
    good: Counter[str] = Counter()
    kept = config.source_dir(source.id)
    try:
        asyncio.run(_listen(source, kept, for_s, good, as_json=as_json))
    except GatewayError as error:
        click.echo(f"forewarn doctor: {error}", err=True)
    except KeyboardInterrupt:
        pass
    sys.exit(0 if good.total() else 1)


async def _listen(
    source: "SourceConfig", kept: Path, for_s: float, good: Counter[str], *, as_json: bool
) -> None:
    """Counts in `good` the usable samples of each signal, so that who has seen enough may go."""
    import protocols

    with borrowed(kept) as folder:
        context = context_for(source.id, source.kind, folder)
        told: Counter[str] = Counter()
        async with protocols.as_source(source).open(context) as session:
            until_ns = context.clock.mono_ns() + round(for_s * 1e9)
            listening = True
            while listening:
                listening = context.clock.mono_ns() < until_ns
                item = None
                try:
                    async with asyncio.timeout(ROUND_S):
                        item = await session.read()
                except TimeoutError:
                    pass
                frames = context.tap.frames()
                context.tap.start(context.clock, for_s + ROUND_S)
                rows = [] if item is None else list(_samples(item, context))
                errors = context.meter.errors - told
                told = context.meter.errors.copy()
                good.update(row["signal"] for row in rows if row["value"] is not None)
                if as_json:
                    _tell_json(frames, rows, errors)
                else:
                    _tell(frames, rows, errors)


def _samples(item: "Batch | Waveform", context: "SourceContext") -> Iterator[dict[str, Any]]:
    from gateway.core.batch import Batch, Quality

    if not isinstance(item, Batch):
        signal = context.signals[item.signal]
        yield {"signal": str(signal), "value": len(item.value), "unit": "samples in a burst"}
        return
    for number, value, quality in zip(
        item.signal.tolist(), item.value.tolist(), item.quality.tolist(), strict=True
    ):
        signal = context.signals[number]
        usable = value if quality != Quality.BAD else None
        yield {"signal": str(signal), "value": usable, "unit": signal.unit}


def _tell_json(frames: list["Frame"], rows: list[dict[str, Any]], errors: Counter[str]) -> None:
    for frame in frames:
        told = {"t_ns": frame.t_ns, "sent": frame.sent, "note": frame.note}
        click.echo(json.dumps(told | {"hex": frame.data.hex(" "), "size": frame.size}))
    if rows or errors:
        click.echo(json.dumps({"samples": rows, "errors": dict(errors)}, ensure_ascii=False))


def _tell(frames: list["Frame"], rows: list[dict[str, Any]], errors: Counter[str]) -> None:
    for frame in frames:
        at = datetime.fromtimestamp(frame.t_ns / 1e9, UTC).strftime("%H:%M:%S.%f")[:-3]
        direction = "sent" if frame.sent else "came"
        click.echo(f"{at} {direction} {frame.size} bytes {frame.note}".rstrip())
        for line in dump(frame.data):
            click.echo(f"  {line}")
    for row in rows:
        value = "BAD" if row["value"] is None else f"{row['value']:g} {row['unit']}"
        click.echo(f"  = {row['signal']}: {value}".rstrip())
    for kind, n in errors.most_common():
        click.echo(f"  ! {n} × {kind}")


def dump(data: bytes) -> Iterator[str]:
    """Rows of bytes: offset of the first, hexadecimal, and as text where it is any.

    >>> print(*dump(b"RPM 1500\\r\\n"))
       0  52 50 4d 20 31 35 30 30 0d 0a                    RPM 1500..
    """
    for at in range(0, len(data), ROW_BYTES):
        row = data[at : at + ROW_BYTES]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield f"{at:4}  {row.hex(' '):{3 * ROW_BYTES - 1}}  {text}"
