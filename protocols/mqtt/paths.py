"""Where a value stands in a JSON document, as an operator writes it."""

import re
from typing import TypeAlias

Steps: TypeAlias = tuple[str | int, ...]
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]|\[\"([^\"]*)\"\]")


def parse_path(path: str) -> Steps:
    """`data.values[3].v` or `["name.with.dots"]` as steps.

    Raises:
        ValueError: With the rule, for configuration models.
    """
    steps: list[str | int] = []
    at = 0
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None:
            raise ValueError('must be a path such as data.values[3] or ["a name"].v')
        key, index, quoted = match.groups()
        steps.append(int(index) if index is not None else key if key is not None else quoted)
        at = match.end()
    return tuple(steps)
