"""Knows what stands in a column and is no measurement: labels, and numbers that mean "none"."""

import re
from collections.abc import Sequence

import numpy as np

from gateway.cli.cells import NO_NUMBER, number
from gateway.cli.tables import Floats, Table, numbers
from models.errors import RecordError

LABELS = frozenset(
    {"anomaly", "anomalies", "isanomaly", "anomalous", "anomalie", "label", "labels", "class"}
    | {"fault", "faults", "faulty", "isfault", "faultnumber", "faulttype", "failure", "isfailure"}
    | {"machinefailure", "outlier", "isoutlier", "attack", "abnormal", "groundtruth", "changepoint"}
    | {"störung", "stoerung", "fehler", "ausfall", "défaut", "defaut", "panne", "fallo", "guasto"}
)
SHORT_LABELS = frozenset({"y", "target"})
"""These may be a direction or a set point as well."""
CLASSES_MAX = 50
HEALTHY = frozenset(
    {"normal", "ok", "healthy", "good", "none", "no", "false", "no failure", "nofailure", "nominal"}
    | {
        "neg",
        "negative",
        "no fault",
        "pass",
        "passed",
        "gut",
        "gesund",
        "i.o.",
        "io",
        "in ordnung",
        "nein",
        "falsch",
    }
)
"""Words of a label that say what 0 says."""


def label_in(name: str, values: Floats) -> str:
    """Whether a column that nobody named is a label: of 0 and 1 (`healthy`), of `classes`, or not.

    Args:
        name: What it is called.
        values: What is in it.
    """
    name = re.sub(r"[\W_]+", "", name).casefold()
    if name not in LABELS | SHORT_LABELS:
        return ""
    seen = set(np.unique(values[np.isfinite(values)]))
    if seen <= {0.0, 1.0}:
        return "healthy"
    several = {-1.0, 0.0, 1.0} if name in SHORT_LABELS else set(map(float, range(-1, CLASSES_MAX)))
    return "classes" if seen <= several else ""


def label_column(names: Sequence[str], label: str) -> str:
    """The column that a label is read from: itself, or pump where the label is `pump=2`."""
    return label if label in names or "=" not in label else label.rpartition("=")[0]


def truth(held: Table, label: str) -> Floats:
    """A label column: its numbers, or 0 where its words say healthy and 1 where they do not.

    Of -1 and 1, -1 is healthy. Of `pump=2`, 1 where pump is 2.

    Raises:
        RecordError: Words of which none is known for healthy.
    """
    name = label_column(held.names, label)
    column = held.columns[held.names.index(name)]
    words = set() if column.dtype == np.float64 else {cell.casefold() for cell in column if cell}
    if all(number(word) is not None or word in NO_NUMBER - HEALTHY for word in words):
        values = numbers(held, name)
        if label != name:
            wanted = number(label.rpartition("=")[2])
            return np.where(np.isnan(values), np.nan, values == wanted)
        signs = set(np.unique(values[np.isfinite(values)])) <= {-1.0, 1.0}
        return np.maximum(values, 0.0) if signs else values
    if label != name:
        wanted_word = label.rpartition("=")[2].casefold()
        return np.array([np.nan if not c else float(c.casefold() == wanted_word) for c in column])
    if not words & HEALTHY:
        raise RecordError(
            f"{held.path}: column {name}: must be 0 where healthy, or hold one of the words "
            f"{', '.join(sorted(HEALTHY)[:8])}…; held {', '.join(sorted(words)[:5])}; say which is "
            f"the failure, as --label '{name}={min(words)}'"
        )
    fold = [cell.casefold() for cell in column]
    return np.array([np.nan if not c else float(c not in HEALTHY and c != "0") for c in fold])


def no_value_note(name: str, codes: Sequence[float]) -> str:
    """That a signal has numbers that mean none."""
    told = ", ".join(f"{each:g}" for each in codes)
    return f"{name}: {told} lies apart from all others and means that there is none"
