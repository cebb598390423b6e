"""Writes Grafana's dashboards, provisioning and alert rules; `--check` says whether they are fresh.

    python docker/grafana/build.py [--config FILE] [--site NAME=ASSET,…] [--line NAME=ASSET,…]

Data carry no site or line: those variables stand for sets of assets, which the gateway's file or
the options name.
"""

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from boards import alarms, asset, energy, plant, provisioning, watcher
from boards.grafana import as_json
from boards.words import ALL, Variable

HERE = Path(__file__).resolve().parent
BOARDS = tuple(module.BOARD for module in (plant, asset, energy, alarms, watcher))


def groups_of(options: argparse.Namespace) -> tuple[Variable, ...]:
    """The variables site and line: as the gateway's file has them, and as the options name them."""
    assets: list[dict[str, str]] = []
    if options.config is not None:
        assets = tomllib.loads(options.config.read_text(encoding="utf-8")).get("asset", [])
    found = []
    for name, label in (("site", "Site"), ("line", "Line")):
        members: dict[str, list[str]] = {}
        for one in assets:
            if one.get(name):
                members.setdefault(one[name], []).append(one["id"])
        for text in getattr(options, name):
            title, _, listed = text.partition("=")
            members[title] = listed.split(",")
        # A comma would end the choice: an alternative of patterns needs none.
        choices = [
            (title.replace(",", " "), "|".join(re.escape(a) for a in those))
            for title, those in members.items()
        ]
        found.append(Variable(name, label, choices=[("All", ALL), *choices]))
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
    parser.add_argument("--config", type=Path, help="the gateway's file: takes site and line of it")
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
