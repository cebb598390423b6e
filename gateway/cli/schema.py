"""`forewarn schema`: the JSON Schema of the configuration, an example, or texts to translate."""

import json

import click

EXAMPLE = """\
# forewarn.toml: one machine behind Modbus TCP. Check it with `forewarn check forewarn.toml`.

[gateway]
id = "hall-3"

[[source]]
kind = "modbus"
id = "press-plc"
url = "tcp://192.0.2.10:502"
poll_s = 1.0
signals = [
  { asset = "press-1", signal = "speed", unit = "rpm", address = "holding:100", type = "uint16" },
  { asset = "press-1", signal = "temperature", unit = "°C", address = "holding:101", scale = 0.1 },
  { asset = "press-1", signal = "current", unit = "A", address = "input:10", type = "float32" },
]

[[asset]]
id = "press-1"
class = "press"
# Limits work at once; a model comes from `forewarn train`, or is learned on the box:
limits = [ { signal = "temperature", high = 80, high_high = 95, deadband = 2 } ]
learn = {}
"""


@click.command()
@click.option("--example", is_flag=True, help="Print a first forewarn.toml instead.")
@click.option("--texts", is_flag=True, help="Print all that operators read instead, to translate.")
def command(*, example: bool, texts: bool) -> None:
    """Print the JSON Schema of forewarn.toml.

    \b
    Examples:
      forewarn schema > forewarn.schema.json
      forewarn schema --example > forewarn.toml
      forewarn schema --texts > de.toml
    """
    if example:
        click.echo(EXAMPLE, nl=False)
        return
    if texts:
        from gateway.core.texts import ENGLISH, source

        click.echo(source(ENGLISH), nl=False)
        return
    from gateway.config import json_schema

    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
