"""The units of one link: which of them answer, and when the link itself is in doubt."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from gateway.core.errors import LinkTimeout
from gateway.core.source import SourceContext
from protocols.modbus.group import Group
from protocols.modbus.link import Link, silence_ns
from protocols.modbus.schedule import Patience
from protocols.modbus.settings import Settings, Tuning
from protocols.modbus.signal import ModbusSignal

SILENT_IN_A_ROW_MAX = 3
"""Time-outs with nothing heard between them, after which the link itself is doubted."""


@dataclass(slots=True)
class Unit:
    """One unit as the session sees it."""

    tuning: Tuning
    patience: Patience
    silence_ns: int
    """Silence on the wire that it wants before a request."""
    heard: bool = False
    why: str = ""
    """Why it counts as silent."""
    doubt: bool = False
    """A request was given up whose reply, should it still come, could be taken for the next one's:
    a framing without ids tells them apart by length only. The next request is sent after a decoy
    of another length was answered, because a device answers in the order in which it was asked."""
    decoys: int = 0


class Units:
    """Every unit that signals are read of.

    Attributes:
        heard: Until anybody was heard, the link is not up, and no BAD sample may say that it is.
    """

    def __init__(self, context: SourceContext, link: Link) -> None:
        self.heard = False
        self._context = context
        self._link = link
        self._units: dict[int, Unit] = {}
        self._signals_of: dict[int, list[ModbusSignal]] = {}
        self._silent_in_a_row = 0
        self._doubted = 0
        """At how many silences in a row the link was last doubted."""

    def configure(self, config: Settings) -> None:
        """Take on other signals and limits, with what is known of the units that stay."""
        signals_of: dict[int, list[ModbusSignal]] = {}
        for signal in config.signals:
            signals_of.setdefault(config.unit_of(signal), []).append(signal)
        # A reply to the last session's questions may still be on its way.
        doubt = not self._link.has_ids and self._context.meter.errors["timeout"] > 0
        self._signals_of = signals_of
        self._units = {
            number: _make_unit(
                config,
                number,
                min(config.poll_of(signal) for signal in signals),
                self._units.get(number),
                doubt=doubt,
            )
            for number, signals in signals_of.items()
        }

    def get(self, number: int) -> Unit | None:
        """One unit; None where nothing is read of it any more."""
        return self._units.get(number)

    def __getitem__(self, number: int) -> Unit:
        return self._units[number]

    def silent(self) -> Iterator[tuple[ModbusSignal, str]]:
        """Each signal of a unit that is silent, and why it counts as that."""
        for number, unit in self._units.items():
            if unit.patience.silent:
                for signal in self._signals_of[number]:
                    yield signal, f"unit {number}: {unit.why}"

    def hear(self) -> None:
        """Something came, of whatever kind: the link is up."""
        self._silent_in_a_row = self._doubted = 0
        self.heard = True

    def answered(self, number: int) -> bool:
        """This unit answered; whether that is news."""
        unit = self._units[number]
        unit.heard = True
        if not unit.patience.silent:
            return False
        unit.patience.answered()
        self._context.log.info("modbus.unit_answers", unit=number)
        return True

    def timed_out(self, number: int) -> bool:
        """This unit did not answer in time; whether that was not known."""
        why = (
            f"no answer within {self._units[number].tuning.timeout_s} s; "
            "see its unit_id and wiring, or raise timeout_s"
        )
        news = self.fell_silent(number, why)
        self._silent_in_a_row += news
        return news

    def fell_silent(self, number: int, why: str) -> bool:
        """This unit did not answer; whether that was not known.

        Of several requests under way at once each comes to this, but it was one silence.
        """
        unit, now_ns = self._units[number], self._context.clock.mono_ns()
        if unit.patience.resting(now_ns):
            return False
        edge = not unit.patience.silent
        unit.patience.failed(now_ns)
        if edge:
            unit.why = why
            self._context.log.warning("modbus.unit_silent", unit=number, why=why)
        return True

    def doubt_the_link(self, url: str, groups: Sequence[Group]) -> None:
        """After several silences in a row: is it these units, or is it the link?

        One that answered before is asked next, and will tell.

        Raises:
            LinkTimeout: No unit is left that may still answer.
        """
        if self._silent_in_a_row < max(SILENT_IN_A_ROW_MAX, self._doubted + 1):
            return
        self._doubted = self._silent_in_a_row
        trusted = [number for number, unit in self._units.items() if not unit.patience.silent]
        if not trusted:
            look_at = "unit_id" if self._link.has_ids else "unit_id, baudrate, parity and wiring"
            raise LinkTimeout(f"{url}: no unit answers; see {look_at}")
        for number in trusted:
            if self._units[number].heard and any(group.prefer(number) for group in groups):
                return


def _make_unit(
    config: Settings, number: int, poll_s: float, before: Unit | None, *, doubt: bool
) -> Unit:
    """A unit as it is configured, with what was known of it before.

    Args:
        config: Of the source.
        number: Its unit id.
        poll_s: The shortest interval at which anything of it is polled.
        before: What was known; None for one that is new.
        doubt: Whether the replies of a new one are in doubt.
    """
    tuning = config.tuning(number)
    first_s = min(max(poll_s, tuning.timeout_s), config.unit_retry_s_max)
    patience = Patience(round(first_s * 1e9), round(config.unit_retry_s_max * 1e9))
    silence = silence_ns(config, number)
    if before is None:
        return Unit(tuning, patience, silence, doubt=doubt)
    patience.failures, patience.retry_ns = before.patience.failures, before.patience.retry_ns
    return replace(before, tuning=tuning, patience=patience, silence_ns=silence)
