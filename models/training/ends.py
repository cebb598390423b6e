"""Tells of machines whose record ends as if they had long to live: they may not have failed."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

END_SHARE = 0.05
"""Of the cap: rows with no more left than that are a machine's end."""
KNOWN_SHARE, UNLIKE_SHARE = 0.125, 0.5
"""Where the ends of most are told as at most so much of the cap, one that is told as more than half
of it is unlike them."""
NAMED_MAX = 20

Floats = NDArray[np.float64]


def unlike(
    unseen: Floats, left: Floats, group: NDArray[np.int64], cap: float, groups: Sequence[str]
) -> list[str]:
    """What to say of machines that end unlike the others, if any do.

    Args:
        unseen: float64[n], what trees told of each row that learned other machines. (A mix is held
            to the mean by ends that are none, and tells of all ends less well.)
        left: float64[n], the life that was left, flat above `cap`.
        group: int64[n], the machine of each row.
        cap: Largest life that is told apart.
        groups: The machines' names.
    """
    last = left <= END_SHARE * cap
    machines = np.unique(group[last])
    told = np.array([unseen[last & (group == machine)].mean() for machine in machines])
    if not len(told) or np.median(told) > KNOWN_SHARE * cap:
        return []
    found = [groups[machine] for machine in machines[told > UNLIKE_SHARE * cap]]
    if not found:
        return []
    more = f" and {len(found) - NAMED_MAX} more" if len(found) > NAMED_MAX else ""
    note = (
        f"{', '.join(found[:NAMED_MAX])}{more}: at the end as others are with "
        f"{UNLIKE_SHARE * cap:g} or more left; if that was no failure, leave the sequence out, or "
        "name with --label the life that each row has left"
    )
    return [note]
