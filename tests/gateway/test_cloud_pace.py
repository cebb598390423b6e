"""A week without a receiver, in virtual time: all is delivered after, in order and at its pace."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random

import pytest

from gateway.cloud.config import CloudConfig
from gateway.cloud.summary import Spread, Summary, encode
from gateway.cloud.sync import BACKOFF_S_MAX, Sync, Waiting
from gateway.cloud.target import Delivery
from gateway.core.errors import LinkError, PeerError
from tests.sim.loop import LoopClock, simulate

BEGIN_S = 1_767_225_600  # 2026-01-01T00:00:00Z
WIDTH_S = 900
WEEK_S = 7 * 86_400
ASSETS = 5
HEAD_BYTES = 250
"""What a request says besides its summaries."""


class Waits:
    """Summaries in memory; a new one of each asset every interval."""

    def __init__(self) -> None:
        self.waiting: list[Waiting] = []
        self.made = 0

    async def fill(self) -> None:
        """Make them, until cancelled."""
        while True:
            await asyncio.sleep(WIDTH_S)
            start_s = BEGIN_S + round(asyncio.get_running_loop().time()) - WIDTH_S
            for asset in range(ASSETS):
                self.made += 1
                self.waiting.append(Waiting(self.made, summary(f"m{asset}", start_s)))

    async def wait(self) -> None:
        """There is a commit every now and then."""
        await asyncio.sleep(10)

    def read(self, summaries_max: int) -> Sequence[Waiting]:
        """The oldest."""
        return self.waiting[:summaries_max]

    def done(self, waiting: Waiting) -> None:
        """Only the oldest are ever done."""
        assert self.waiting.pop(0) is waiting

    def lag(self) -> int:
        """How many wait."""
        return len(self.waiting)


class Receiver:
    """Down for a time; then it takes all, and notes when, what and how much."""

    kind = "fake"

    def __init__(self, down_s: float) -> None:
        self.down_s = down_s
        self.tries = 0
        self.taken: list[tuple[float, int, bool, Sequence[Summary]]] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Delivery]:
        """Refuses while it is down."""
        self.tries += 1
        if asyncio.get_running_loop().time() < self.down_s:
            raise LinkError("nobody there")
        yield self

    async def deliver(self, summaries: Sequence[Summary], *, late: bool) -> int:
        """As large as it is unpacked: the worst case."""
        sent = HEAD_BYTES + sum(len(encode(one)) for one in summaries)
        self.taken.append((asyncio.get_running_loop().time(), sent, late, summaries))
        return sent


def summary(asset: str, start_s: int) -> Summary:
    """A full one."""
    spread = Spread(900, 0.1, 0.2, 0.5, 0.9, 1.3, 0.55)
    return Summary(
        "hall-3", asset, start_s, WIDTH_S, "press-v3", 9000, 3, 153_000, 0.99, 850.0, 1.25,
        180, 2, spread, spread, 0, 0, 0,
    )  # fmt: skip


def week_off(bytes_per_hour_max: int, after_s: float) -> tuple[Receiver, Waits]:
    """A week of summaries, then a receiver for a while."""
    receiver, waits = Receiver(WEEK_S), Waits()
    cloud = CloudConfig(interval_s=WIDTH_S, bytes_per_hour_max=bytes_per_hour_max)

    async def main() -> None:
        sync = Sync(
            receiver,
            waits,
            cloud,
            LoopClock(BEGIN_S),
            Random(1),
            lambda _: None,
        )
        tasks = [asyncio.create_task(sync.run()), asyncio.create_task(waits.fill())]
        await asyncio.sleep(WEEK_S + after_s)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    simulate(main)
    return receiver, waits


@pytest.mark.parametrize(("bytes_per_hour_max", "after_d"), [(30_000, 7), (100_000, 2)])
def test_after_a_week_all_is_delivered_in_order_and_no_hour_has_too_much(
    bytes_per_hour_max: int, after_d: int
) -> None:
    receiver, waits = week_off(bytes_per_hour_max, after_s=after_d * 86_400)
    places = [(one.start_s, one.asset) for _, _, _, many in receiver.taken for one in many]
    assert places == sorted(places)
    assert len(set(places)) == len(places) == waits.made - waits.lag()
    # All of the week, and no more waits than an hour brings.
    assert waits.lag() <= 5 * ASSETS
    # Steady tries: neither given up nor hammered.
    assert WEEK_S / BACKOFF_S_MAX <= receiver.tries <= 3 * WEEK_S / BACKOFF_S_MAX
    # What is old is called so, and what is new is not.
    assert receiver.taken[0][2]
    assert not receiver.taken[-1][2]
    for i, (begin_s, *_) in enumerate(receiver.taken):
        left = sum(sent for at_s, sent, *_ in receiver.taken[i:] if at_s < begin_s + 3600)
        assert left <= bytes_per_hour_max, f"{left} bytes in the hour from {begin_s:.0f} s"


def test_one_that_is_refused_does_not_stop_the_week(monkeypatch: pytest.MonkeyPatch) -> None:
    deliver = Receiver.deliver

    async def picky(self: Receiver, summaries: Sequence[Summary], *, late: bool) -> int:
        if any(one.asset == "m3" and one.start_s == BEGIN_S + WIDTH_S for one in summaries):
            raise PeerError("not this one", code=422)
        return await deliver(self, summaries, late=late)

    monkeypatch.setattr(Receiver, "deliver", picky)
    receiver, waits = week_off(1_000_000, after_s=86_400)
    taken = sum(len(many) for *_, many in receiver.taken)
    assert taken == waits.made - waits.lag() - 1
