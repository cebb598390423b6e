"""Writes Grafana's dashboards, provisioning and alert rules; `--check` says whether they are fresh.

    python docker/grafana/build.py [--site NAME=ASSET,ASSET…] [--line NAME=ASSET,ASSET…]

Data carry no site or line: those variables stand for sets of assets, which the options name.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from boards import alarms, asset, energy, plant, provisioning, watcher
from boards.grafana import as_json
from boards.words import ALL, Variable

HERE = Path(__file__).resolve().parent
BOARDS = tuple(module.BOARD for module in (plant, asset, energy, alarms, watcher))


def groups_of(options: argparse.Namespace) -> tuple[Variable, ...]:
    """The variables site and line, as the options name their assets."""
    found = []
    for name, label in (("site", "Site"), ("line", "Line")):
        choices = [("All", ALL)]
        for text in getattr(options, name):
            title, _, assets = text.partition("=")
            # A comma would end the choice: an alternative of patterns needs none.
            choices.append((title, "|".join(re.escape(a) for a in assets.split(","))))
        found.append(Variable(name, label, choices=choices))
    return tuple(found)


def build(groups: Sequence[Variable]) -> dict[str, str]:
    """Path below this folder -> content, of everything that is generated."""
    pages = {
        f"dashboards/{page.uid.removeprefix('forewarn-')}.json": as_json(page, groups)
        for page in BOARDS
    }
    pages["provisioning/datasources/forewarn.yaml"] = provisioning.data_source()
    pages["provisioning/dashboards/forewarn.yaml"] = provisioning.provider()
    pages["provisioning/alerting/forewarn.yaml"] = provisioning.alert_rules()
    return {
        path: json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        for path, content in pages.items()
    }


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--site", action="append", default=[], metavar="NAME=ASSET,ASSET")
    parser.add_argument("--line", action="append", default=[], metavar="NAME=ASSET,ASSET")
    parser.add_argument("--check", action="store_true", help="write nothing")
    return parser.parse_args(arguments)


def main() -> None:
    """Write the files, or check them."""
    options = parse(sys.argv[1:])
    stale = []
    for name, text in build(groups_of(options)).items():
        path = HERE / name
        if options.check:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                stale.append(name)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if stale:
        sys.exit(f"docker/grafana: out of date: {', '.join(stale)}; run build.py")


if __name__ == "__main__":
    main()
