"""Each protocol's page names every setting and every error, and each sample is a valid source."""

import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

import protocols
from protocols import config_type

KINDS = ("mqtt", "opcua", "replay", "serial")
"""The protocols whose pages are held to this."""
FOLDER = Path(inspect.getfile(protocols)).parent


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Every pydantic model that a type speaks of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models_in(part)


def settings(model: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[str]:
    """Every name an operator may write, down to the deepest table."""
    seen.add(model)
    for name, field in model.model_fields.items():
        yield name
        for inner in models_in(field.annotation):
            if inner not in seen:
                yield from settings(inner, seen)


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_names_every_setting(kind: str) -> None:
    page = (FOLDER / kind / f"{kind}.md").read_text()
    names = set(settings(config_type(kind), set()))
    missing = {name for name in names if f"`{name}`" not in page}
    assert not missing


@pytest.mark.parametrize(
    "sample",
    [path for kind in KINDS for path in sorted((FOLDER / kind).glob("*.toml"))],
    ids=lambda path: path.stem,
)
def test_the_sample_is_valid(sample: Path) -> None:
    sources = tomllib.loads(sample.read_text())["source"]
    for table in sources:
        assert config_type(sample.parent.name).model_validate(table).id == table["id"]


@pytest.mark.parametrize("kind", protocols.KINDS)
def test_the_example_on_the_page_is_valid(kind: str) -> None:
    page = (FOLDER / kind / f"{kind}.md").read_text()
    fenced = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    indented = re.findall(r"^    \[\[source\]\]\n(?:    .*\n)+", page, re.MULTILINE)
    for example in fenced + [re.sub("^    ", "", block, flags=re.MULTILINE) for block in indented]:
        for table in tomllib.loads(example)["source"]:
            assert config_type(kind).model_validate(table).id == table["id"]


@pytest.mark.parametrize("kind", protocols.KINDS)
def test_every_error_that_is_counted_is_on_the_page(kind: str) -> None:
    page = (FOLDER / kind / f"{kind}.md").read_text()
    code = "".join(file.read_text() for file in (FOLDER / kind).glob("*.py"))
    counted = set(re.findall(r'\berrors\["(\w+)"\]', code))
    assert counted
    assert not {name for name in counted if f"`{name}`" not in page}
