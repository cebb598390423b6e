"""What a running gateway is made of, for those who show it: its parts, by name."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from gateway.config import Config
from gateway.config_watch import ConfigWatch
from gateway.core.clock import Clock
from gateway.core.signals import Signal
from gateway.core.texts import Phrase
from gateway.egress import Outlet
from gateway.flow.annunciator import Annunciator
from gateway.flow.flow import Flow
from gateway.learning.learning import Learning
from gateway.links import Links
from gateway.notices import Notices
from gateway.settings import Asset
from gateway.store.log import Log
from gateway.store.trends import Trends

if TYPE_CHECKING:
    from gateway.store.influx import InfluxWriter


class Running(Protocol):
    """The parts of a gateway that are shown."""

    clock: Clock
    config: Config
    log: Log
    trends: Trends
    annunciator: Annunciator
    flow: Flow
    learning: Learning
    notices: Notices
    outlet: Outlet
    influx: "InfluxWriter | None"
    links: Links
    config_watch: ConfigWatch

    def asset_ids(self) -> Sequence[str]: ...

    def asset_config(self, asset: str) -> Asset | None: ...

    def signals_of(self, asset: str) -> Sequence[tuple[int, Signal]]: ...

    def learning_of(self, asset: str) -> tuple[float, Phrase | None]: ...

    def samples_lost(self) -> int: ...
