"""The tables of `forewarn.toml` as types: all but the sources, which each protocol types."""

from pydantic import BaseModel, ConfigDict, Field

from gateway.alarms.config import AlarmsConfig, LimitList
from gateway.alarms.notify_config import NotifyConfig
from gateway.cloud.config import CloudConfig
from gateway.console.config import ConsoleConfig
from gateway.core.source import Identifier
from gateway.pipeline.config import AssetConfig, DeriveConfig, EventLogConfig
from gateway.store.config import InfluxConfig, StoreConfig


class GatewayConfig(BaseModel):
    """`[gateway]`: which box this is, and where it keeps what it knows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Identifier = Field(default="forewarn", description="Name of this gateway in every record.")
    data_dir: str = Field(
        default="data", description="Folder of the log and the models, relative to this file."
    )


class Asset(AssetConfig):
    """`[[asset]]`, with the limits that need no model."""

    limits: LimitList = Field(default_factory=list, description="Static limits of its signals.")


class Settings(BaseModel):
    """Everything in `forewarn.toml` but its sources, which each protocol types for itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gateway: GatewayConfig = GatewayConfig()
    asset: tuple[Asset, ...] = ()
    alarms: AlarmsConfig = AlarmsConfig()
    notify: tuple[NotifyConfig, ...] = Field(default=(), max_length=100)
    console: ConsoleConfig = ConsoleConfig()
    store: StoreConfig = StoreConfig()
    influx: InfluxConfig | None = None
    cloud: CloudConfig = CloudConfig()
    derive: tuple[DeriveConfig, ...] = ()
    event_log: tuple[EventLogConfig, ...] = ()

    def areas(self) -> dict[str, str]:
        """Asset -> the area of the plant it belongs to: of `[alarms]`, else its line, else site."""
        by = {asset.id: asset.line or asset.site for asset in self.asset}
        for area, assets in reversed(self.alarms.areas.items()):
            by |= dict.fromkeys(assets, area)
        return by
