"""What an evaluation of any kind of model gives to `forewarn evaluate`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Measures, and the two ways to see them.

    Attributes:
        report: What `--json` prints; `protocol`, `notes` and `measures` stand in each.
        page: Makes the HTML report.
        show: Prints the measures for a person.
    """

    report: dict[str, Any]
    page: Callable[[], str]
    show: Callable[[], None]
