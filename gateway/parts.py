"""What one configuration is made into: who has which signals, and what becomes of their samples."""

from collections.abc import Sequence

from gateway.alarms.config import AlarmsConfig, SuppressConfig
from gateway.alarms.limits import Limits
from gateway.cloud.collect import Scope
from gateway.config import Config
from gateway.core.signals import Signal, SignalTable
from gateway.pipeline.derive import Derive
from gateway.pipeline.events import Events
from gateway.pipeline.running import Running
from gateway.pipeline.waves import Waves
from gateway.settings import Asset
from gateway.stages import Stages
from models.record import RUNNING


class Parts:
    """The parts of a gateway that its configuration alone decides.

    Attributes:
        assets: The `[[asset]]` tables by their id.
        signals: Every asset that is configured, or that a source or a formula has a signal of: its
            signals with their numbers.
        sources_of: Every signal, derived ones too, and the source whose samples make it.
        scope: What may leave the plant, if anything may.
        alarms: As configured, and quiet about data that are bad because their link is down.
        stages: What a sample passes.
    """

    def __init__(self, config: Config, table: SignalTable) -> None:
        """Take up the configuration; signals that are new get their number in `table`."""
        settings = config.settings
        derive = Derive(settings.derive, config.sources_of, table)
        self.sources_of = config.sources_of | derive.sources
        number = {signal: table.intern(signal) for signal in self.sources_of}
        self.assets: dict[str, Asset] = {asset.id: asset for asset in settings.asset}
        self.signals: dict[str, list[tuple[int, Signal]]] = {asset: [] for asset in self.assets}
        for signal, n in number.items():
            self.signals.setdefault(signal.asset, []).append((n, signal))
        self.scope = Scope(settings.cloud, settings.gateway.id, frozenset(self.signals))
        self.alarms = _alarms(config)
        of_name = {(signal.asset, signal.name): n for signal, n in number.items()}
        self.stages = Stages(
            source_of={number[signal]: source for signal, source in self.sources_of.items()},
            derive=derive,
            waves=Waves(
                settings.asset,
                table,
                lambda asset, name: of_name.get((asset, name)),
            ),
            events=Events(settings.event_log, settings.asset, self.sources_of, table),
            running=Running(_ruled(number, settings.asset)),
            limits=Limits([(a.id, limit) for a in settings.asset for limit in a.limits], table),
        )

    def signals_of(self, asset: str) -> list[tuple[int, Signal]]:
        """The signals of an asset with their numbers; those that events make come last."""
        return [*self.signals.get(asset, ()), *self.stages.events.signals.get(asset, ())]


def _ruled(number: dict[Signal, int], assets: Sequence[Asset]) -> dict[int, str]:
    """Number of the signal that tells whether an asset runs -> the asset, where it has a rule."""
    ruled = {asset.id for asset in assets if asset.running.strip()}
    return {n: s.asset for s, n in number.items() if s.asset in ruled and s.name == RUNNING}


def _alarms(config: Config) -> AlarmsConfig:
    """The alarms as configured; and where a link is down, nobody is told that its data are bad."""
    alarms = config.settings.alarms
    # Not validated: the bound on a person's list is none on ours, which names every asset.
    down = [
        SuppressConfig.model_construct(
            while_active=f"/link.{source.id}",
            suppress=[
                f"{asset}/{name}"
                for asset in sorted({s.asset for s in source.signals})
                for name in ("*.sensor", "*.missing", "model.drift")
            ],
        )
        for source in config.sources
    ]
    return alarms.model_copy(update={"suppress": [*alarms.suppress, *down]})
