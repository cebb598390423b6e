"""The `forewarn` command: one module a command, each imported only when it is called."""

from importlib import import_module

import click
from typing_extensions import override

COMMANDS = {
    "alarms": "List, acknowledge, shelve and judge alarms.",
    "backup": "Copy the log, the models and the users while the gateway runs.",
    "bench": "Measure what each stage costs on this machine.",
    "browse": "Show what an OPC UA server offers, as TOML ready to paste.",
    "check": "Check a configuration file; with --connect read every signal once.",
    "cloud": "Show exactly what would leave the plant.",
    "demo": "Run a simulated plant over real protocols through the whole pipeline.",
    "devices": "Show what can run models here, how fast, and how exactly.",
    "doctor": "Look for what is wrong with an installation.",
    "evaluate": "Judge training and limits on a labelled folder of files.",
    "events": "Tell a running gateway what happened to machines, and list it.",
    "export": "Write what the gateway stored as CSV or Parquet.",
    "gather": "Gather a folder of recorded bursts, one a file, for training.",
    "health": "Ask the running gateway whether it is well.",
    "influx": "Prepare and check an InfluxDB for this gateway.",
    "model": "Show, verify, sign and export model bundles.",
    "restore": "Put a backup into an empty data directory.",
    "run": "Run the gateway.",
    "scan": "Find Modbus units and readable ranges, read-only.",
    "schema": "Print the JSON Schema of the configuration.",
    "score": "Replay data through a bundle; each row sees only rows up to it.",
    "support": "Collect state for support, without secrets and raw data.",
    "train": "Train a model and write it as a bundle.",
    "trust": "Show and pin the certificate of an OPC UA server.",
    "user": "Manage the people and tokens that may use the console.",
}
"""Name -> one line for `--help`, so that listing commands imports none of them.

A module `gateway/cli/NAME.py` (or `NAME_.py` where NAME is taken) holds one click command called
`command`. Commands whose module does not exist are not listed.
"""


class LazyGroup(click.Group):
    """A group that imports a command's module when that command is called."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        from pathlib import Path

        here = Path(__file__).parent
        return [
            name for name in COMMANDS if (here / f"{name}.py").exists() or (here / name).is_dir()
        ]

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = import_module(f"gateway.cli.{cmd_name}").command
        return command

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, COMMANDS[name]) for name in self.list_commands(ctx)]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="forewarn", prog_name="forewarn")
def group() -> None:
    """Forewarn reads machines, learns what healthy looks like, and warns early.

    \b
    Try:
      forewarn demo                      four simulated machines, one going wrong
      forewarn check forewarn.toml       is my configuration right?
      forewarn run forewarn.toml         the gateway
    Exit codes: 0 done, 1 the answer is no, 2 wrong use or a wrong file.
    """


def main() -> None:
    """Run the command line; errors made on purpose become one line and exit code 2."""
    from gateway.core.errors import GatewayError
    from models.errors import ModelError

    try:
        group(prog_name="forewarn")
    except (GatewayError, ModelError) as error:
        click.echo(f"forewarn: {error}", err=True)
        raise SystemExit(2) from None
