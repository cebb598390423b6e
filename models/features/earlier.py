"""Where signals were earlier in their window: it explains what follows late, and is not judged.

A temperature that follows its load in minutes is told by where the load was, not by where it is.
"""

from collections.abc import Callable, Mapping
from functools import partial

from models.features.stack import Floats, Stack

PARTS = 7
"""From the newest part of a window, an eighth, back to the oldest one."""


def earlier(stack: Stack, back: int) -> Floats:
    """Mean of a part as long as the newest one, so many sevenths of the way back to the oldest.

    Of a window of 48 cells, whose newest part holds 6, that is 12, 24 or 42 cells ago.
    """
    cells, newest = stack.values.shape[1], stack.recent.values.shape[1]
    # Whole parts, so that where the newest part is a machine's cycle this is one as well.
    start = cells - newest - round((cells - newest) * back / PARTS / newest) * newest
    return Stack(stack.values[:, max(0, start) :][:, :newest]).mean


EARLIER: Mapping[str, Callable[[Stack], Floats]] = {
    "late_mean": partial(earlier, back=2),
    "middle_mean": partial(earlier, back=4),
    "early_mean": partial(earlier, back=7),
}
"""Each kind, by the name that stands after the colon in `signal:late_mean`."""
