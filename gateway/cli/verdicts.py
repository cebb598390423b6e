"""What alarms on a replayed record would have said, in the gateway's words."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from gateway.pipeline import wording
from models.explain import healthy_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.bundle import Bundle
    from models.record import Record
    from models.score import Scored

TOLD_MAX = 5


def verdicts(
    bundle: "Bundle", record: "Record", made: "Scored", anomalous: "NDArray[np.bool_]"
) -> list[dict[str, Any]]:
    """The worst stretches of anomalous rows, each as its worst row explains it.

    Args:
        bundle: An anomaly model.
        record: What was scored.
        made: What it said.
        anomalous: bool[n], the rows to tell of.

    Returns:
        `group`, `from` and `to` (time, or row of the group), `rows`, `severity` and `why`.
    """
    assert bundle.manifest.limit is not None
    limit, healthy = bundle.manifest.limit.value, healthy_of(bundle.manifest.detail)
    found = []
    for group, rows in record.sequences():
        for start, end in _stretches(anomalous[rows]):
            worst = start + int(np.argmax(made.score[rows[start:end]]))
            found.append((float(made.score[rows[worst]]) / limit, group, rows, start, end, worst))
    found.sort(key=lambda stretch: -stretch[0])
    out = []
    for severity, group, rows, start, end, worst in found[:TOLD_MAX]:
        row, said = rows[worst], [start, end - 1]
        why = wording.drivers(
            made.contribution[row], made.direction[row], made.signals, made.features[row], healthy
        )
        first, last = (record.time_text[rows[i]] if record.time_text else str(i) for i in said)
        out.append({
            "group": group,
            "from": first,
            "to": last,
            "rows": end - start,
            "severity": round(severity, 3),
            "why": "; ".join(str(each.text) for each in why),
        })  # fmt: skip
    return out


def _stretches(flags: "NDArray[np.bool_]") -> Iterator[tuple[int, int]]:
    """Start and end of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    return zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
