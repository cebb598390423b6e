"""`forewarn schema`: the JSON Schema of the configuration, an example, or texts to translate."""

import json
from typing import Any

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
    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a whole configuration file, every protocol's sources included."""
    import protocols
    from gateway.settings import Settings

    schema = Settings.model_json_schema(by_alias=True)
    definitions = schema.setdefault("$defs", {})
    kinds = []
    for kind in protocols.KINDS:
        source = protocols.config_type(kind).model_json_schema(by_alias=True)
        # Each protocol has its own idea of, say, `Signal`: keep their definitions apart.
        own = source.pop("$defs", {})
        text = json.dumps({"source": source, "own": own})
        for name in own:
            text = text.replace(f'"#/$defs/{name}"', f'"#/$defs/{kind}.{name}"')
        moved = json.loads(text)
        definitions |= {f"{kind}.{name}": value for name, value in moved["own"].items()}
        table = moved["source"]
        rows = table["properties"]["signals"]
        table["properties"]["signals"] = {
            "anyOf": [rows, {"type": "string", "description": "A CSV file with one signal a row."}]
        }
        table["properties"]["profile"] = {"type": "string", "description": "A [profile.NAME]."}
        definitions[f"source.{kind}"] = table
        kinds.append({"$ref": f"#/$defs/source.{kind}"})
    schema["title"] = "forewarn.toml"
    schema["properties"]["source"] = {"type": "array", "minItems": 1, "items": {"anyOf": kinds}}
    schema["properties"]["profile"] = {"type": "object", "additionalProperties": {"type": "object"}}
    schema["required"] = ["source"]
    return schema
