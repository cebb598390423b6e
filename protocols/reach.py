"""Says why a peer or a port cannot be reached, and what to look at, for every protocol."""

import errno
import re
import socket

from gateway.core.errors import LinkError, LinkRefused

REFUSED = "nothing listens there; see that it runs, and the port in its address"
NO_WAY = "no way leads there; see its address, the cable and the network"

CLOSED = "the other end closed the connection; see that it runs, and what its own log says"


def unreached(error: BaseException) -> str:
    """Why a peer cannot be reached, as a person says it, and what to look at next."""
    match error:
        case socket.gaierror():
            return "no such host is known; see the name in its address, or write its number"
        case ConnectionRefusedError():
            return REFUSED
        case ConnectionError():
            return CLOSED
        case OSError(errno=errno.EHOSTUNREACH | errno.ENETUNREACH | errno.EHOSTDOWN):
            return NO_WAY
        case _:
            return _of_text(str(error)) or type(error).__name__


def _of_text(text: str) -> str:
    """Libraries that wrap an error keep its number only as text."""
    held = re.search(r"\[Errno (\d+)\]", text)
    number = int(held[1]) if held else 0
    if number == errno.ECONNREFUSED:
        return REFUSED
    return NO_WAY if number in {errno.EHOSTUNREACH, errno.ENETUNREACH} else text


def unopened(name: str, error: Exception) -> LinkError:
    """The error of a port that cannot be opened: whether waiting may help, and what to do."""
    match getattr(error, "errno", None):
        case errno.ENOENT | errno.ENXIO | errno.ENODEV:
            return LinkError(f"port {name} is not there; plug it in, or see /dev/serial/by-id")
        case errno.EACCES | errno.EPERM:
            return LinkRefused(
                f"port {name}: permission denied; add the gateway's user to the group that owns it"
            )
        case errno.EBUSY | errno.EAGAIN:
            return LinkRefused(f"port {name} is in use by another program; stop that one")
        case _ if "Inappropriate ioctl" in str(error):
            return LinkRefused(f"port {name} is no serial port; see its name")
        case _:
            return LinkError(f"port {name} cannot be opened: {error}")
