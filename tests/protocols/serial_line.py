"""One end of a real pty, as the machine that a serial source listens to."""

import os
import pty
import tty
from pathlib import Path


class PtyMachine:
    """A machine on a pty: says bytes, hears what it is asked, can be unplugged and plugged in.

    `port` is a link of its own, as /dev/serial/by-id is, that follows the terminal behind it.
    """

    def __init__(self, folder: Path, *, held: bool = True) -> None:
        """Without `held` only the gateway opens the terminal, so the machine sees when it does."""
        self.port = folder / "usb-machine"
        self._held = held
        self._master = -1
        self._slave = -1
        self.plug()

    def plug(self) -> None:
        """Appear, behind the same name as before."""
        assert self._master == -1
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.port.unlink(missing_ok=True)
        self.port.symlink_to(os.ttyname(self._slave))
        if not self._held:
            os.close(self._slave)
            self._slave = -1

    def unplug(self) -> None:
        """Vanish in the middle of whatever goes on."""
        if self._master != -1:
            os.close(self._master)
            if self._slave != -1:
                os.close(self._slave)
            self._master = self._slave = -1
            self.port.unlink()

    @property
    def fd(self) -> int:
        """The machine's end, for an event loop to watch."""
        return self._master

    def say(self, data: bytes) -> None:
        """Send bytes to whoever listens."""
        while data:
            data = data[os.write(self._master, data) :]

    def hear(self) -> bytes:
        """What was sent to the machine since the last call, waiting for some."""
        return os.read(self._master, 65536)
