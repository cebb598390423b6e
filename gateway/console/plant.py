"""What the console may ask of the gateway."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from gateway.console.views import (
    Ask,
    AssetDetail,
    AssetView,
    BundleView,
    EgressView,
    Health,
    LearningView,
    Payload,
    Series,
)
from gateway.core.alarm import AlarmKpis, AlarmView, Command, Shown, Transition
from gateway.core.event import Entry, Event, EventLog
from gateway.core.meter import SourceMeter
from gateway.core.tap import Tap

if TYPE_CHECKING:
    from prometheus_client.registry import Collector


class Plant(Protocol):
    """The gateway as the console sees it.

    Methods that are not `async` answer from memory within microseconds. The others may read a
    file; they run beside acquisition and never hold it up.
    """

    def collectors(self) -> "Sequence[Collector]":
        """What else counts for `/metrics`: the log and its readers."""
        ...

    def assets(self) -> Sequence[AssetView]:
        """Every configured asset, in the order of the configuration."""
        ...

    def asset(self, asset: str) -> AssetDetail | None:
        """One asset; None if it is not configured."""
        ...

    def alarms(self) -> Sequence[AlarmView]:
        """Every alarm that is not normal, most urgent first."""
        ...

    def shown(self) -> Sequence[Shown]:
        """The same, with those that belong together as one: floods of an area, causes."""
        ...

    async def history(
        self, *, start_ns: int, end_ns: int, asset: str, limit: int, before: int
    ) -> Sequence[tuple[int, Transition]]:
        """Transitions with their number in the log, newest first, at most `limit` of them.

        `asset` "" is all of them. `before` is the number to page from, 0 the newest.
        """
        ...

    async def history_json(
        self, *, start_ns: int, end_ns: int, asset: str, limit: int, before: int
    ) -> bytes:
        """The same as a JSON list of `{"number": …, "transition": {…}}`."""
        ...

    async def kpis(self) -> AlarmKpis:
        """How well the alarms serve, over the last day."""
        ...

    async def command(self, command: Command) -> None:
        """Do what a person asks; returns when it is on disk.

        Raises:
            Refused: It makes no sense now.
        """
        ...

    async def series(
        self, asset: str, signals: Sequence[str], *, start_ns: int, end_ns: int, points_max: int
    ) -> Sequence[Series]:
        """Curves from the trends: signals, and of models `@severity`, `@score`, `@limit`, `@rul`,
        `@failure:MODE`.
        """
        ...

    def sources(self) -> Sequence[SourceMeter]:
        """The counters of every source."""
        ...

    def tap(self, source: str) -> Tap | None:
        """What shows the wire of a source; None where there is no such source."""
        ...

    def open_tap(self, source: str, for_s: float) -> None:
        """Let it keep what crosses the wire, for so long."""
        ...

    def bundles(self) -> Sequence[BundleView]:
        """Every model, those in use first."""
        ...

    def learning(self) -> Sequence[LearningView]:
        """Every machine that is learned here."""
        ...

    async def teach(self, asset: str, ask: Ask, who: str) -> None:
        """Promote, roll back or begin a new baseline. Raises `Refused` where it makes no sense."""
        ...

    def event_logs(self) -> Sequence[EventLog]:
        """Every event log of every machine."""
        ...

    def events(self, asset: str, limit: int, *, taken_back: bool = False) -> Sequence[Entry]:
        """The newest events of a machine, or of all where it is ""; those taken back if asked."""
        ...

    async def tell(
        self, events: Sequence[Event], whole: Sequence[tuple[str, str]], who: str
    ) -> int:
        """Take events that somebody knows of; returns how many were new, when they are on disk.

        Raises:
            Refused: No such log or code; nothing has changed.
        """
        ...

    async def take_back(self, events: Sequence[Event], who: str) -> None:
        """Take events back that did not happen; returns when that is on disk.

        Raises:
            Refused: One of them is not known; nothing has changed.
        """
        ...

    async def outgoing(self, limit: int) -> Sequence[Payload]:
        """The last payloads, newest first."""
        ...

    def egress(self) -> EgressView | None:
        """What left and what stayed; None where the cloud is switched off."""
        ...

    def settings(self) -> Mapping[str, Any]:
        """The configuration in use; secrets are references, so none is in it."""
        ...

    def channels(self) -> Sequence[str]:
        """Names of the notification channels."""
        ...

    async def test_channel(self, channel: str, who: str) -> None:
        """Send a test message. Raises `Refused` with what the receiver said where it fails."""
        ...

    def health(self) -> Health:
        """Whether it lives and works."""
        ...
