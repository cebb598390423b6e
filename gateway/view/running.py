"""What a running gateway is made of, for those who show it: its parts, by name."""

from typing import TYPE_CHECKING, Protocol

from gateway.config import Config
from gateway.config_watch import ConfigWatch
from gateway.core.clock import Clock
from gateway.egress import Outlet
from gateway.flow.annunciator import Annunciator
from gateway.flow.flow import Flow
from gateway.learning.learning import Learning
from gateway.links import Links
from gateway.notices import Notices
from gateway.parts import Parts
from gateway.store.log import Log
from gateway.store.trends import Trends

if TYPE_CHECKING:
    from gateway.store.influx import InfluxWriter


class Running(Protocol):
    """The parts of a gateway that are shown."""

    clock: Clock
    config: Config
    parts: Parts
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

    def samples_lost(self) -> int: ...
