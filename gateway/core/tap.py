"""The last bytes on one source's wire, for who looks for a fault: bounded, off by default."""

from collections import deque
from dataclasses import dataclass

from gateway.core.clock import Clock

FRAME_BYTES_MAX = 2_048
"""A longer frame is cut; how long it was is kept."""
FRAMES_MAX = 200
BYTES_MAX = 65_536
"""Kept of one source, both directions together; the oldest go first."""
OPEN_S_MAX = 3_600.0


@dataclass(frozen=True, slots=True)
class Frame:
    """What crossed the wire at once.

    Attributes:
        t_ns: UTC ns at the gateway.
        sent: From us to the device; False for what it sent.
        size: Bytes on the wire; `data` holds the first `FRAME_BYTES_MAX` of them.
        data: The bytes; decrypted where the link is.
        note: What the protocol calls it: a topic, a service; "" where the bytes say it all.
    """

    t_ns: int
    sent: bool
    size: int
    data: bytes
    note: str = ""


class Tap:
    """Keeps frames while it is open; a protocol asks `tap.open` before it hands one over.

    A protocol hands over nothing that signs it in: passwords, keys and session tokens stay out.

    Attributes:
        open: Whether frames are kept. All that a closed tap costs is reading this.
        frames_dropped: Frames that made room for newer ones since it was opened.
    """

    def __init__(self) -> None:
        self.open = False
        self.frames_dropped = 0
        self._frames: deque[Frame] = deque()
        self._bytes = 0
        self._clock: Clock | None = None
        self._until_ns = 0

    def start(self, clock: Clock, for_s: float) -> None:
        """Keep what comes from now on, for so long (at most `OPEN_S_MAX`); the old is forgotten."""
        self.stop()
        self._clock = clock
        self._until_ns = clock.mono_ns() + round(min(for_s, OPEN_S_MAX) * 1e9)
        self.open = True

    def stop(self) -> None:
        """Keep no more, and forget what was kept."""
        self.open = False
        self.frames_dropped = 0
        self._frames.clear()
        self._bytes = 0

    def left_s(self) -> float:
        """How long it stays open, s; 0 when it is closed. What was kept can be read after that."""
        if not self.open or self._clock is None:
            return 0.0
        left_ns = self._until_ns - self._clock.mono_ns()
        if left_ns <= 0:
            self.open = False
        return max(0.0, left_ns / 1e9)

    def sent(self, data: bytes, note: str = "") -> None:
        """We sent this."""
        self._put(data, note, sent=True)

    def received(self, data: bytes, note: str = "") -> None:
        """The device sent this."""
        self._put(data, note, sent=False)

    def frames(self) -> list[Frame]:
        """What was kept, oldest first."""
        return list(self._frames)

    def _put(self, data: bytes, note: str, *, sent: bool) -> None:
        if self._clock is None or not self.left_s():
            return
        kept = bytes(data[:FRAME_BYTES_MAX])
        self._frames.append(Frame(self._clock.wall_ns(), sent, len(data), kept, note))
        self._bytes += len(kept)
        while len(self._frames) > FRAMES_MAX or self._bytes > BYTES_MAX:
            self._bytes -= len(self._frames.popleft().data)
            self.frames_dropped += 1
