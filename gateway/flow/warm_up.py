"""What of the log fills the windows again after a restart."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from gateway.core.batch import Batch
from gateway.pipeline.fleet import Post
from gateway.store.blocks import Columns

WARM_UP_NS_MAX = 6 * 3600 * 1_000_000_000
"""Longest stretch of the log that is read again."""


def needed_from(posts: Sequence[Post], ends_ns: Mapping[str, int], now_ns: int) -> int:
    """UTC ns of the oldest sample that a window still needs.

    Args:
        posts: At least one.
        ends_ns: The end of the last closed window of each asset.
        now_ns: Taken where no window has closed yet.
    """
    needed_ns = max(
        (p.watch.cells + p.watch.stale_cells + p.watch.hop_cells) * p.watch.period_ns for p in posts
    )
    # The devices' own time, as in the windows; after a boot the wall clock may know nothing.
    latest_ns = max(ends_ns.values(), default=now_ns)
    oldest_ns = min(ends_ns.values(), default=now_ns)
    return max(oldest_ns, latest_ns - WARM_UP_NS_MAX) - needed_ns


def abreast(
    columns: Columns, source_of: Sequence[str], slice_ns: int, now_ns: int
) -> Iterator[list[Batch]]:
    """Samples in slices of time, all sources abreast, or the first would run away from the others.

    Args:
        columns: Of the samples, oldest first.
        source_of: The source of each signal, by its number; "" where nobody reads it any more.
        slice_ns: Length of a slice.
        now_ns: UTC ns, when they count as received.
    """
    signal, t_ns, value, quality = columns
    if not len(t_ns):
        return
    source = np.array(source_of)[signal]
    edges = np.arange(int(t_ns[0]), int(t_ns[-1]), slice_ns)[1:]
    for part in np.split(np.arange(len(t_ns)), np.searchsorted(t_ns, edges)):
        batches = []
        for name in np.unique(source[part]):
            mine = part[source[part] == name]
            batches.append(
                Batch(str(name), signal[mine], t_ns[mine], value[mine], quality[mine], now_ns)
            )
        yield batches
