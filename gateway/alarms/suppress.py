"""Which alarms mean nothing while something else holds: outer limits, rules, reasons."""

import re
from collections.abc import Mapping, Sequence

from gateway.alarms.config import AlarmsConfig
from gateway.alarms.record import Record
from gateway.alarms.steps import ACTIVE, Key, Steps

OUTER = (".high_high", ".low_low")


def pattern(text: str) -> re.Pattern[str]:
    """`asset/alarm` with `*` for any text; a lone `*` is everything."""
    return re.compile(re.escape(text).replace(r"\*", ".*"), re.DOTALL)


def outer_limit(alarm: str) -> str:
    """The alarm that makes this one pointless: `x.high_high` for `x.high`; "" for none."""
    return f"{alarm}_{alarm.rsplit('.', 1)[1]}" if alarm.endswith((".high", ".low")) else ""


class Suppression:
    """Suppression by design of the records of one engine."""

    def __init__(self, config: AlarmsConfig, records: Mapping[Key, Record], steps: Steps) -> None:
        self._records = records
        self._steps = steps
        self._rules = _rules(config)
        self._reasons: dict[str, tuple[tuple[str, ...], list[re.Pattern[str]]]] = {}

    def created(self, record: Record) -> None:
        """A record that is new comes under what holds already."""
        name = f"{record.asset}/{record.alarm}"
        record.suppressed_by.update(
            reason
            for reason, (_, patterns) in self._reasons.items()
            if any(p.fullmatch(name) for p in patterns)
        )
        outer = self._records.get((record.asset, outer_limit(record.alarm)))
        if outer is not None and outer.life in ACTIVE:
            record.suppressed_by.add(f"{outer.asset}/{outer.alarm}")

    def follow(self, record: Record, *, quiet: bool = False) -> None:
        """An alarm became active, or ceased to be: its children follow."""
        active = record.life in ACTIVE
        name = f"{record.asset}/{record.alarm}"
        if record.alarm.endswith(OUTER):
            inner = record.alarm.removesuffix("_high").removesuffix("_low")
            child = self._records.get((record.asset, inner))
            if child is not None:
                self._steps.suppress(child, name, holds=active, quiet=quiet)
        for rule, patterns in self._rules:
            if rule.fullmatch(name):
                filled = [p.replace("{asset}", record.asset) for p in patterns]
                self.set(name, filled, holds=active, but=record.key, quiet=quiet)

    def set(
        self,
        reason: str,
        patterns: Sequence[str],
        *,
        holds: bool,
        but: Key | None = None,
        quiet: bool = False,
    ) -> None:
        """Suppress what matches while the reason holds; nothing happens where nothing changed."""
        wanted = tuple(patterns) if holds else ()
        before, known = self._reasons.get(reason, ((), []))
        if wanted == before:
            return
        compiled = [pattern(p) for p in wanted]
        if wanted:
            self._reasons[reason] = (wanted, compiled)
        else:
            del self._reasons[reason]
        for record in list(self._records.values()):
            name = f"{record.asset}/{record.alarm}"
            was = any(p.fullmatch(name) for p in known)
            now = any(p.fullmatch(name) for p in compiled)
            if was != now and record.key != but:
                self._steps.suppress(record, reason, holds=now, quiet=quiet)

    def reconfigure(self, config: AlarmsConfig) -> None:
        """Go over to other rules; what the old ones kept quiet comes free unless it still is."""
        before, self._rules = self._rules, _rules(config)
        for record in [r for r in self._records.values() if r.life in ACTIVE]:
            name = f"{record.asset}/{record.alarm}"
            filled = [
                p.replace("{asset}", record.asset)
                for rule, patterns in self._rules
                if rule.fullmatch(name)
                for p in patterns
            ]
            if filled:
                self.set(name, filled, holds=True, but=record.key)
            elif any(rule.fullmatch(name) for rule, _ in before):
                self.set(name, (), holds=False, but=record.key)


def _rules(config: AlarmsConfig) -> list[tuple[re.Pattern[str], list[str]]]:
    return [(pattern(rule.while_active), rule.suppress) for rule in config.suppress]
