"""Keeps a process that runs for months from holding memory that it freed; decision 030."""

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""As in glibc's `malloc.h`."""
ARENAS = 1
MMAP_BYTES = 256 * 1024
"""A column of 10,000 doubles stays below it; the blocks of a trend or a merge do not."""
TRIM_BYTES = 1024 * 1024


def settle_heap() -> None:
    """Let freed memory go back to the system. To be called before any thread is started.

    Nothing is done where the C library has no `mallopt`, or where the environment says otherwise.
    """
    if not sys.platform.startswith("linux") or "MALLOC_ARENA_MAX" in os.environ:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl
        return
    for setting, value in (
        (M_ARENA_MAX, ARENAS),
        (M_MMAP_THRESHOLD, MMAP_BYTES),
        (M_TRIM_THRESHOLD, TRIM_BYTES),
    ):
        mallopt(setting, value)
