"""Polls one link for ever: who is asked when, and what an answer, a refusal or silence means."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.core.batch import Batch
from gateway.core.errors import LinkError
from gateway.core.source import Session, Source, SourceContext
from protocols.modbus.counter import CounterFile
from protocols.modbus.exceptions import (
    EXCEPTIONS,
    ILLEGAL_FUNCTION,
    NEVER,
    TRANSIENT,
    UNREACHABLE,
)
from protocols.modbus.group import Group, Job
from protocols.modbus.link import Done, Link, open_link
from protocols.modbus.pdu import TOO_FEW, Outcome
from protocols.modbus.plan import decoy
from protocols.modbus.schedule import Slots
from protocols.modbus.settings import Settings
from protocols.modbus.signal import ModbusSignal
from protocols.modbus.units import Unit, Units

FAILED_SWEEPS = 10
"""A signal is left out for so many sweeps, then twice as many, where its unit says that it failed:
that may pass, as when a device starts."""


@asynccontextmanager
async def open_session(config: Settings, context: SourceContext) -> AsyncIterator[Session]:
    """Open the link and poll it; see `Source.open`."""
    async with open_link(config, context) as link:
        session = ModbusSession(config, context, link)
        try:
            yield session
        finally:
            session.save_counters()


class ModbusSession:
    """One link being polled. All its state is here, so a cancelled `read` loses nothing."""

    def __init__(self, config: Settings, context: SourceContext, link: Link) -> None:
        self._config = config
        self._context = context
        self._link = link
        self._ready: list[Batch] = []
        self._ended: LinkError | None = None
        self._sent: dict[int, Job] = {}
        self._groups: list[Group] = []
        self._units = Units(context, link)
        self._not_before_ns = 0
        self._counters = CounterFile(context)
        self._configure(config)
        for group in self._groups:
            # Planning thousands of signals takes its time; the first slot is now, not before.
            group.slots.next_ns = context.clock.mono_ns()

    def _configure(self, config: Settings) -> None:
        """Plan every group anew, keeping what is known of units, schedules and counters."""
        now_ns = self._context.clock.mono_ns()
        slots = {group.slots.period_ns: group.slots for group in self._groups}
        for group in self._groups:
            self._counters.keep(group.counters)
        quarantined = {
            self._config.identity(group.signals[row]): quarantine
            for group in self._groups
            for row, quarantine in group.quarantined.items()
        }
        self._config = config
        by_period: dict[int, list[ModbusSignal]] = {}
        for signal in config.signals:
            by_period.setdefault(round(config.poll_of(signal) * 1e9), []).append(signal)
        self._groups = []
        for period_ns, signals in sorted(by_period.items()):
            slot = slots.get(period_ns) or Slots(period_ns, now_ns)
            group = Group(config, self._context, signals, slot, quarantined)
            self._counters.restore(group.counters)
            self._groups.append(group)
        self._units.configure(config)
        self._show_quarantined()

    async def apply(self, source: Source) -> bool:
        """Take on other signals, rates and limits without touching the link."""
        if (
            not isinstance(source, Settings)
            or source.link_settings() != self._config.link_settings()
        ):
            return False
        self._flush(self._context.clock.mono_ns(), 0)
        self._configure(source)
        return True

    async def read(self) -> Batch:
        """Wait for the next batch: a group's turn, or part of a long one.

        Raises:
            LinkError: The wire is gone, or nobody on it answers.
        """
        clock = self._context.clock
        while True:
            if self._ready:
                return self._ready.pop(0)
            if self._ended is not None:
                raise self._ended
            now_ns = clock.mono_ns()
            for group in self._groups:
                if now_ns >= group.slots.next_ns:
                    group.begin(now_ns, clock.wall_ns())
            try:
                until_ns = self._pump(now_ns)
                self._flush(now_ns, round(self._config.flush_s * 1e9))
                if self._ready:
                    continue
                await self._link.wait(until_ns)
                for done in self._link.take():
                    self._settle(done)
                self._units.doubt_the_link(self._config.url, self._groups)
            except LinkError as error:
                # What was read before the link ended is handed over first.
                self._ended = error
                self._flush(now_ns, 0)

    def _flush(self, now_ns: int, wait_ns: int) -> None:
        if not self._units.heard:
            return
        for group in self._groups:
            batch = group.flush(now_ns, wait_ns)
            if batch is not None:
                self._ready.append(batch)
        if self._counters.due(now_ns):
            self.save_counters()

    def save_counters(self) -> None:
        """Put the counters' state where the next session, or the next start, finds it."""
        for group in self._groups:
            self._counters.keep(group.counters)
        self._counters.save()

    def _pump(self, now_ns: int) -> int:
        """Send what may be sent now; give the time at which to look again."""
        wait_ns = round(self._config.flush_s * 1e9)
        until_ns = min(group.slots.next_ns for group in self._groups)
        for group in self._groups:
            flush_ns = group.flush_at_ns(wait_ns)
            if flush_ns is not None and self._units.heard:
                until_ns = min(until_ns, flush_ns)
        while len(self._link) < self._config.in_flight:
            waiting = [
                (due_ns, group) for group in self._groups if (due_ns := group.due_ns) is not None
            ]
            if not waiting:
                break
            first_ns = min(due_ns for due_ns, _ in waiting)
            if now_ns < first_ns:
                return min(until_ns, first_ns)
            due = [group for due_ns, group in waiting if due_ns <= now_ns]
            group = min(due, key=lambda group: group.deadline_ns)
            unit = self._units[group.peek().request.unit]
            free_ns = max(self._not_before_ns, self._link.free_at_ns(unit.silence_ns))
            if now_ns < free_ns:
                return min(until_ns, free_ns)
            job = group.pop()
            if unit.patience.resting(now_ns) or self._being_probed(unit, job):
                self._give_up(job)
                continue
            self._send(job, unit)
        return until_ns

    def _being_probed(self, unit: Unit, job: Job) -> bool:
        """True while a silent unit has its one probe under way."""
        return unit.patience.silent and any(
            sent.request.unit == job.request.unit for sent in self._sent.values()
        )

    def _send(self, job: Job, unit: Unit) -> None:
        request = job.request
        if unit.doubt:
            unit.decoys += 1
            request = decoy(request, unit.decoys)
            job.decoy = True
        self._context.meter.requests += 1
        job.group.under_way += 1
        self._sent[id(request)] = job
        self._link.send(request, round(unit.tuning.timeout_s * 1e9))

    def _settle(self, done: Done) -> None:
        job = self._sent.pop(id(done.request))
        job.group.under_way -= 1
        was_decoy, job.decoy = job.decoy, False
        unit = self._units.get(done.request.unit)
        if unit is None or job.group not in self._groups:
            return  # Asked for by a configuration that was replaced meanwhile.
        meter, outcome = self._context.meter, done.outcome
        now_ns, wall_ns = self._context.clock.mono_ns(), self._context.clock.wall_ns()
        if outcome.fault == "timeout":
            meter.errors["timeout"] += 1
            unit.doubt = not self._link.has_ids
            self._silence(job, unit)
            return
        self._units.hear()
        self._not_before_ns = now_ns + round(unit.tuning.turnaround_s * 1e9)
        meter.observe_latency(done.took_ns / 1e9)
        if outcome.fault:
            meter.errors[outcome.fault] += 1
        if outcome.fault and outcome.fault != TOO_FEW:
            job.damaged += 1
            if job.damaged <= unit.tuning.retries:
                job.group.urgent.appendleft(job)
            else:
                self._give_up(job)
            return
        if was_decoy:
            # An answer of any kind: the line is in step again, and the question can be asked.
            unit.doubt = False
            self._answered(job)
            job.group.urgent.appendleft(job)
            return
        if outcome.payload is not None:
            self._answered(job)
            job.group.store(job.request, outcome.payload, now_ns, wall_ns)
            job.group.settle(job, good=True)
            if job.retrial:
                self._release(job)
            return
        if outcome.exception:
            meter.errors[f"exception_{outcome.exception}"] += 1
        if outcome.exception in UNREACHABLE:
            if self._units.fell_silent(job.request.unit, EXCEPTIONS[outcome.exception]):
                self._show_quarantined()
            self._give_up(job)
            return
        self._answered(job)
        if outcome.exception in TRANSIENT:
            self._give_up(job)
        elif not job.group.split(job, whole_table=outcome.exception == ILLEGAL_FUNCTION):
            self._quarantine(job, outcome)

    def _silence(self, job: Job, unit: Unit) -> None:
        """Nobody answered in time."""
        job.silent += 1
        if job.silent <= unit.tuning.timeout_retries:
            job.group.urgent.appendleft(job)
            return
        self._give_up(job)
        if self._units.timed_out(job.request.unit):
            self._show_quarantined()

    def _give_up(self, job: Job) -> None:
        """This sweep goes without the job's rows."""
        clock = self._context.clock
        job.group.mark_bad(job.request.rows, clock.mono_ns(), clock.wall_ns())
        job.group.settle(job, good=False)

    def _answered(self, job: Job) -> None:
        if self._units.answered(job.request.unit):
            self._show_quarantined()

    def _show_quarantined(self) -> None:
        """Say of each signal that is not being read at present why; called when that changes."""
        shown = self._context.meter.quarantined
        shown.clear()
        for group in self._groups:
            for row, quarantine in group.quarantined.items():
                shown[_name(group.signals[row])] = quarantine.reason
        shown.update((_name(signal), why) for signal, why in self._units.silent())

    def _quarantine(self, job: Job, outcome: Outcome) -> None:
        clock = self._context.clock
        now_ns = clock.mono_ns()
        job.group.mark_bad(job.request.rows, now_ns, clock.wall_ns())
        job.group.settle(job, good=False, culprits=job.request.rows.tolist())
        why = "answered with less than was asked; the unit has no more"
        if exception := outcome.exception:
            text = EXCEPTIONS.get(exception, "unknown exception")
            why = f"refused with exception {exception} ({text})"
        pause_ns = round(self._config.quarantine_retry_s * 1e9)
        if exception not in NEVER:
            pause_ns = min(pause_ns, FAILED_SWEEPS * job.group.slots.period_ns)
        rows = job.request.rows.tolist()
        if rows[0] not in job.group.quarantined:
            first = job.group.signals[rows[0]]
            self._context.log.warning(
                "modbus.signal_refused",
                signal=_name(first),
                address=first.address,
                why=why,
                and_more=len(rows) - 1,
            )
        for row in rows:
            address = job.group.signals[row].address
            job.group.quarantine(row, f"{address}: {why}", now_ns, pause_ns)
        self._show_quarantined()

    def _release(self, job: Job) -> None:
        for row in job.request.rows.tolist():
            job.group.release(row)
            name = _name(job.group.signals[row])
            self._context.log.info("modbus.signal_answers", signal=name)
        self._show_quarantined()


def _name(signal: ModbusSignal) -> str:
    return f"{signal.asset}/{signal.signal}"
