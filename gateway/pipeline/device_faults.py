"""Which bundles do not run on the device that they should, and the alarms that say so."""

from collections.abc import Collection, Iterable

from gateway.core.alarm import Condition, Priority
from gateway.core.texts import Phrase
from gateway.pipeline.assess import Judge


class DeviceFaults:
    """What was last told of each bundle that does not run as it should."""

    def __init__(self) -> None:
        self._told: dict[str, Phrase] = {}

    def look(self, judge: Judge, judges: Iterable[Judge], t_ns: int) -> list[Condition]:
        """What changed of a judge's bundle, which others of the judges may run, too."""
        bundle = judge.bundle.id
        if not judge.device_fault and bundle not in self._told:
            return []
        faults = (each.device_fault for each in judges if each.bundle.id == bundle)
        fault = next(filter(None, faults), "")
        text = Phrase("system.device_cpu", bundle=bundle, fault=fault) if fault else None
        return self._tell(bundle, text, Priority.MEDIUM, t_ns)

    def nowhere(self, bundle: str, error: str, t_ns: int) -> list[Condition]:
        """A bundle runs on no device at all."""
        text = Phrase("system.device_nowhere", bundle=bundle, fault=error)
        return self._tell(bundle, text, Priority.HIGH, t_ns)

    def forget(self, bundles: Collection[str], t_ns: int) -> list[Condition]:
        """Only these bundles judge from now on."""
        gone = self._told.keys() - bundles
        return [each for bundle in gone for each in self._tell(bundle, None, Priority.MEDIUM, t_ns)]

    def _tell(
        self, bundle: str, text: Phrase | None, priority: Priority, t_ns: int
    ) -> list[Condition]:
        if text == self._told.get(bundle):
            return []
        if text is not None:
            self._told[bundle] = text
        else:
            del self._told[bundle]
        active = text is not None
        return [
            Condition.of_gateway(
                f"device.{bundle}", text, active=active, t_ns=t_ns, priority=priority
            )
        ]
