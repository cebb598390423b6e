"""A serial line of this machine's own: a pseudo-terminal, and printing on it."""

import fcntl
import os
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager

UNREAD_BYTES_MAX = 1000


@contextmanager
def pty() -> Iterator[tuple[int, int, str]]:
    """A pair of pseudo-terminals in raw mode: our end, the other end, and its path.

    The other end is kept open here, so that a reader may come and go without ending the line.
    """
    ours, theirs = os.openpty()
    try:
        tty.setraw(theirs)
        os.set_blocking(ours, False)
        yield ours, theirs, os.ttyname(theirs)
    finally:
        os.close(ours)
        os.close(theirs)


def unread_bytes(theirs: int) -> int:
    """How much of what was printed nobody has read."""
    return int.from_bytes(fcntl.ioctl(theirs, termios.FIONREAD, bytes(4)), sys.byteorder)


def print_line(ours: int, theirs: int, line: bytes) -> None:
    """Print a line; when nobody has read for long, what waits is forgotten, as a real line does."""
    if unread_bytes(theirs) > UNREAD_BYTES_MAX:
        termios.tcflush(theirs, termios.TCIFLUSH)
    os.write(ours, line)
