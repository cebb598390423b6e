"""The tap: off by default, bounded in frames, bytes and time."""

from gateway.core.tap import BYTES_MAX, FRAME_BYTES_MAX, FRAMES_MAX, OPEN_S_MAX, Tap


class Hands:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now_ns = 1_000

    def wall_ns(self) -> int:
        return self.now_ns + 10**18

    def mono_ns(self) -> int:
        return self.now_ns


def test_a_closed_tap_keeps_nothing() -> None:
    tap = Tap()
    tap.received(b"x")
    assert not tap.open
    assert not tap.frames()


def test_frames_have_a_time_and_a_direction() -> None:
    clock, tap = Hands(), Tap()
    tap.start(clock, 60)
    tap.sent(b"\x01\x03")
    clock.now_ns += 5
    tap.received(b"\x01\x83\x02", "refused")
    first, second = tap.frames()
    assert (first.sent, first.data, first.t_ns) == (True, b"\x01\x03", 10**18 + 1_000)
    assert (second.sent, second.note, second.t_ns - first.t_ns) == (False, "refused", 5)


def test_it_closes_by_itself_and_what_was_kept_can_be_read() -> None:
    clock, tap = Hands(), Tap()
    tap.start(clock, 10)
    tap.sent(b"early")
    clock.now_ns += 10**10
    tap.sent(b"late")
    assert not tap.open
    assert tap.left_s() == 0
    assert [frame.data for frame in tap.frames()] == [b"early"]
    tap.start(clock, 10)
    assert not tap.frames()


def test_nobody_leaves_it_open_for_a_day() -> None:
    clock, tap = Hands(), Tap()
    tap.start(clock, 1e9)
    assert tap.left_s() == OPEN_S_MAX


def test_it_is_bounded_whatever_comes() -> None:
    clock, tap = Hands(), Tap()
    tap.start(clock, 60)
    for n in range(1_000):
        tap.received(bytes([n % 256]) * 5_000)
    frames = tap.frames()
    assert sum(len(frame.data) for frame in frames) <= BYTES_MAX
    assert all((len(f.data), f.size) == (FRAME_BYTES_MAX, 5_000) for f in frames)
    assert tap.frames_dropped == 1_000 - len(frames)
    assert frames[-1].data[0] == 999 % 256
    for _ in range(1_000):
        tap.received(b"x")
    assert len(tap.frames()) == FRAMES_MAX
