"""From the file to typed settings: every fault at once, each with its line."""

import csv
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError

import protocols
from gateway.cloud.config import CloudAsset
from gateway.core.errors import ConfigError, Fault
from gateway.core.signals import Signal
from gateway.core.source import SourceConfig
from gateway.cross_check import check_settings, check_sources
from gateway.faults import did_you_mean, dotted, without_tags, worded
from gateway.pipeline.config import DeriveConfig
from gateway.settings import Settings
from gateway.toml_lines import Path as TomlPath
from gateway.toml_lines import locate
from models.paths import unreadable
from models.record import RUNNING

Table: TypeAlias = dict[str, Any]
Model = TypeVar("Model", bound=BaseModel)

CONFIG_BYTES_MAX = 16_000_000


@dataclass(frozen=True)
class Config:
    """One valid configuration.

    Attributes:
        path: The file that it came from; relative paths in it start at its folder.
        sources: One typed configuration per `[[source]]`, in the file's order.
        settings: All the rest.
    """

    path: Path
    sources: tuple[SourceConfig, ...]
    settings: Settings

    def resolve(self, relative: str) -> Path:
        """A path written in the file, as an absolute one."""
        return (self.path.parent / relative).resolve()

    @property
    def data_dir(self) -> Path:
        """Where the log, the models and the keys are kept."""
        return self.resolve(self.settings.gateway.data_dir)

    def source_dir(self, source_id: str) -> Path:
        """Where one source keeps its own: certificates, and where its history was read to."""
        return self.data_dir / "sources" / re.sub(r"[^\w.-]", "_", source_id)

    @cached_property
    def sources_of(self) -> dict[Signal, str]:
        """Every signal that is read, and the source that reads it."""
        return {s.key(): source.id for source in self.sources for s in source.signals}

    def as_table(self) -> dict[str, Any]:
        """The whole configuration as plain values; a secret is its reference."""
        table: dict[str, Any] = self.settings.model_dump(mode="json", by_alias=True)
        table["source"] = [source.model_dump(mode="json", by_alias=True) for source in self.sources]
        return table


def load(path: Path) -> Config:
    """Read and check one configuration file.

    Raises:
        ConfigError: With every fault that could be found at once, each with its file and line.
    """
    try:
        text = path.read_bytes()[:CONFIG_BYTES_MAX].decode()
    except OSError as error:
        start = "`forewarn schema --example` prints one to start from"
        told = f"{path}: {unreadable(path, error, '.toml')}; {start}"
        raise ConfigError(told) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: must be text in UTF-8: {error}") from error
    return parse(text, path)


def parse(text: str, path: Path) -> Config:
    """Check the text of a configuration file; `path` is for relative paths and messages."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        what = str(error).partition(" (at ")[0]
        raise ConfigError(
            [Fault("", f"not valid TOML: {what}", path.name, int(line[1]) if line else 0)]
        ) from error
    reading = _Reading(path, text)
    sources = reading.sources(document)
    settings = reading.settings(document)
    reading.note(check_sources(sources))
    kept = tuple(source for source in sources if source is not None)
    if settings is not None and len(kept) == len(sources):
        reading.note(check_settings(settings, kept, path.parent))
    if reading.faults or settings is None:
        raise ConfigError(sorted(reading.faults, key=lambda fault: (fault.file, fault.line)))
    return Config(path, kept, _with_running(settings))


def _with_running(settings: Settings) -> Settings:
    """With a derived signal for each rule of when a machine runs; run hours are counted by it."""
    rules = {asset.id: asset.running.strip() for asset in settings.asset if asset.running.strip()}
    if not rules:
        return settings
    derive = tuple(
        DeriveConfig(asset=asset, signal=RUNNING, expression=rule)
        for asset, rule in rules.items()
        if rule != RUNNING
    )
    told = {asset.id: asset for asset in settings.cloud.asset}
    told |= {
        asset: told.get(asset, CloudAsset(id=asset)).model_copy(update={"run": RUNNING})
        for asset in rules
        if asset not in told or told[asset].run is None
    }
    cloud = settings.cloud.model_copy(update={"asset": tuple(told.values())})
    return settings.model_copy(update={"derive": (*settings.derive, *derive), "cloud": cloud})


class _Reading:
    """One pass over one document, collecting faults."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._text = text
        self._csv: dict[int, Path] = {}
        self.faults: list[Fault] = []

    @cached_property
    def _lines(self) -> dict[TomlPath, int]:
        """Where everything stands; walked for only once a fault must be placed."""
        return locate(self._text)

    def sources(self, document: Table) -> list[SourceConfig | None]:
        tables = document.get("source", [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self._fault(("source",), "must be written as [[source]] tables")
            return []
        if not tables:
            self._fault((), "has no [[source]]; a gateway without one has nothing to read")
        return [self._source(i, table, document) for i, table in enumerate(tables)]

    def _source(self, i: int, table: Table, document: Table) -> SourceConfig | None:
        at: TomlPath = ("source", i)
        table = self._with_profile(at, table, document)
        kind = table.get("kind")
        if not isinstance(kind, str) or kind not in protocols.KINDS:
            known = ", ".join(protocols.KINDS)
            hint = did_you_mean(str(kind), protocols.KINDS, "")
            text = f"must be one of {known}, was {kind!r}"
            self._fault((*at, "kind"), f"{text}; {hint}" if hint else text)
            return None
        if isinstance(table.get("signals"), str):
            rows = self._signals_csv(i, table["signals"])
            if rows is None:
                return None
            table = {**table, "signals": rows}
        return self._typed(protocols.config_type(kind), table, at)

    def _with_profile(self, at: TomlPath, table: Table, document: Table) -> Table:
        name = table.get("profile")
        if name is None:
            return table
        own = document.get("profile", {})
        profile = protocols.find_profile(name, own) if isinstance(name, str) else None
        if profile is None:
            known = ", ".join(sorted({*own, *protocols.profiles.names()}))
            self._fault((*at, "profile"), f"must name a [profile.NAME] ({known}), was {name!r}")
            return {key: value for key, value in table.items() if key != "profile"}
        return protocols.merge_profile(table, profile)

    def _signals_csv(self, i: int, name: str) -> list[Table] | None:
        path = self._path.parent / name
        self._csv[i] = path
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                rows = list(csv.DictReader(file))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            self._fault(("source", i, "signals"), f"the file {name!r} cannot be read: {error}")
            return None
        return [{k: _cell(v) for k, v in row.items() if k and v not in ("", None)} for row in rows]

    def settings(self, document: Table) -> Settings | None:
        rest = {key: value for key, value in document.items() if key not in ("source", "profile")}
        return self._typed(Settings, rest, ())

    def note(self, found: Iterable[tuple[TomlPath, str]]) -> None:
        """Take faults that lie between tables."""
        for at, message in found:
            self._fault(at, message)

    def _typed(self, model: type[Model], table: Table, at: TomlPath) -> Model | None:
        try:
            return model.model_validate(table)
        except ValidationError as error:
            for details in error.errors():
                if details["type"] == "too_short" and details["input"]:
                    continue  # Its elements have faults of their own, and those say more.
                place = (*at, *without_tags(details["loc"], table))
                self._fault(place, worded(details, model))
            return None

    def _fault(self, at: TomlPath, message: str) -> None:
        if len(at) > 3 and at[0] == "source" and isinstance(at[1], int) and at[1] in self._csv:
            row = at[3]
            line = row + 2 if isinstance(row, int) else 0
            self.faults.append(Fault(dotted(at), message, self._csv[at[1]].name, line))
            return
        place = at
        while place and place not in self._lines:
            place = place[:-1]
        self.faults.append(Fault(dotted(at), message, self._path.name, self._lines.get(place, 0)))


def _cell(text: str) -> Any:
    """A CSV cell as TOML would have typed it: lists and tables in TOML's own notation."""
    text = text.strip()
    if text.startswith(("{", "[")) or text in ("true", "false"):
        try:
            return tomllib.loads(f"cell = {text}")["cell"]
        except tomllib.TOMLDecodeError:
            return text
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text
