"""Brings lines to InfluxDB until it has them, and finds out how much it takes at a time.

What it can never take is hunted down and set aside, the rest is delivered; what a person must act
on is kept and told.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

import structlog

from gateway.core.alarm import Condition, Priority
from gateway.core.clock import Clock
from gateway.core.errors import ConfigError, StoreError
from gateway.core.texts import Phrase
from gateway.store.config import InfluxConfig
from gateway.store.cursor import Cursor
from gateway.store.daemon import in_daemon
from gateway.store.gate import Gate
from gateway.store.influx_answer import (
    TEXT_CHARS_MAX,
    Answer,
    Verdict,
    bad_lines,
    beyond_retention,
    judge,
)
from gateway.store.influx_feed import Chunk
from gateway.store.influx_link import Link, body_of, open_link
from gateway.store.line_protocol import line, series
from gateway.store.quarantine import Quarantine, Refused

SLOW_S = 0.7
"""A request slower than this makes requests smaller and lanes fewer, for the sake of live data."""
LINES_MIN = 100
LINES_START = 5_000
REQUESTS_PER_HUNT_MAX = 500
"""Requests spent on finding the poison in one chunk; then what is left of it is set aside whole."""
QUARANTINE_RETRY_S = 2.0

_events = structlog.get_logger()


@dataclass(slots=True)
class InfluxMeter:
    """What the writer counts, since the process started."""

    lines: int = 0
    requests: int = 0
    refused: int = 0
    """Lines set aside in quarantine."""
    beyond_retention: int = 0
    """Lines that the server said are older than it keeps anything."""
    verdicts: Counter[str] = field(default_factory=Counter)
    latency_s: float = float("nan")
    state: str = "open"
    why: str = ""


class Delivery:
    """The way of one writer to its server, for several requests at once.

    Attributes:
        lines: How many a request may hold at present.
        lanes: How many requests of the backlog may be under way.
        meter: What was done.
    """

    def __init__(
        self,
        cursor: Cursor,
        directory: Path,
        config: InfluxConfig,
        gateway: str,
        clock: Clock,
        random: Random,
        report: Callable[[Condition], None],
    ) -> None:
        """Quarantine lies in `directory`. Raises ConfigError where a secret cannot be read."""
        self._cursor = cursor
        self._config = config
        self._gateway = gateway
        self._clock = clock
        self._report = report
        self._link: Link = open_link(config, connections=config.in_flight_max)
        self._gate = Gate(clock, random)
        self._quarantine = Quarantine(directory)
        self.lines = min(LINES_START, config.lines_max)
        self.lanes = 1.0
        self.meter = InfluxMeter()

    def close(self) -> None:
        """Let go of the server and of the quarantine."""
        self._link.close()
        self._quarantine.close()

    async def deliver(self, chunk: Chunk) -> None:
        """Bring one chunk to the server, what it refuses to quarantine; then move the cursor."""
        parts = [chunk.lines] if chunk.lines else []
        refused: list[Refused] = []
        requests = 0
        while parts:
            lines = parts.pop()
            answer = await self._attempt(lines)
            verdict = judge(answer)
            requests += 1
            match verdict:
                case Verdict.DONE:
                    self.meter.lines += len(lines)
                case Verdict.DROPPED:
                    dropped = min(beyond_retention(answer), len(lines))
                    self.meter.beyond_retention += dropped
                    self.meter.lines += len(lines) - dropped
                case Verdict.TOO_LARGE if len(lines) > 1:
                    parts += _halves(lines)
                case _:
                    named = bad_lines(answer, len(lines))
                    if named is None and len(lines) > 1 and requests < REQUESTS_PER_HUNT_MAX:
                        parts += _halves(lines)
                        continue
                    if not refused and not await self._server_is_sound():
                        parts.append(lines)
                        continue
                    named = named or dict.fromkeys(range(len(lines)), answer.text)
                    refused += [self._refusal(chunk, why, lines[i]) for i, why in named.items()]
                    rest = [text for i, text in enumerate(lines) if i not in named]
                    parts += [rest] if rest else []
        if refused:
            await self._set_aside(refused)
        self._cursor.done(chunk.kind, chunk.start, chunk.end)

    async def _server_is_sound(self) -> bool:
        """Whether it takes a line that is known to be good.

        If it does not, it refuses everything, and what it refuses is no poison: a person must act.
        """
        answer = await self._attempt([health_line(self._gateway, self._clock.wall_ns())])
        if judge(answer) in (Verdict.DONE, Verdict.DROPPED):
            return True
        self._shut(Verdict.HOLD, answer)
        return False

    async def _attempt(self, lines: list[str]) -> Answer:
        """Send until the server answers something about the lines themselves."""
        while True:
            async with self._gate.turn():
                start_ns = self._clock.mono_ns()
                send = partial(_send, self._link, lines)
                answer = await in_daemon(send, "influx:write")
                verdict = judge(answer)
                self.meter.requests += 1
                self.meter.verdicts[verdict.value] += 1
                if verdict in (Verdict.HOLD, Verdict.WAIT, Verdict.RETRY):
                    self._shut(verdict, answer)
                    continue
                self._open()
                self._adapt(verdict, (self._clock.mono_ns() - start_ns) / 1e9)
                return answer

    def _adapt(self, verdict: Verdict, latency_s: float) -> None:
        """More lines and more lanes while the server is quick; fewer as soon as it is not."""
        old = self.meter.latency_s
        self.meter.latency_s = latency_s if old != old else old + (latency_s - old) / 8  # noqa: PLR0124  # NaN.
        if verdict is Verdict.TOO_LARGE:
            self.lines = max(1, self.lines // 2)
        elif latency_s > SLOW_S:
            self.lines = max(min(LINES_MIN, self._config.lines_max), self.lines // 2)
            self.lanes = max(1.0, self.lanes - 1)
        elif verdict is Verdict.DONE:
            self.lines = min(self._config.lines_max, self.lines + self.lines // 4 + 1)
            self.lanes = min(max(1.0, self._config.in_flight_max - 1), self.lanes + 0.25)

    def _shut(self, verdict: Verdict, answer: Answer) -> None:
        why = f"{answer.status or 'no answer'}: {answer.text[:TEXT_CHARS_MAX]}"
        held = verdict is Verdict.HOLD
        news = self._gate.shut(why, held=held, wait_s=answer.retry_after_s)
        self.lanes = 1.0
        if not answer.status:  # A request that was too much for the server gets smaller.
            self.lines = max(min(LINES_MIN, self._config.lines_max), self.lines // 2)
        self.meter.state, self.meter.why = verdict.value, why
        if held:
            self._take_up_new_secrets()
        if news:
            _events.warning("influx.shut", url=self._config.url, verdict=verdict.value, why=why)
            self._tell("influx.held" if held else "influx.down", why)

    def _open(self) -> None:
        if self._gate.open():
            _events.info("influx.open", url=self._config.url, behind=self._cursor.lag())
            self.meter.state, self.meter.why = "open", ""
            self._tell("influx.held", "")
            self._tell("influx.down", "")

    def _take_up_new_secrets(self) -> None:
        """A token that was renewed is read again, without a restart."""
        try:
            fresh = open_link(self._config, connections=self._config.in_flight_max)
        except ConfigError as error:
            self.meter.why = str(error)
            return
        self._link.close()
        self._link = fresh

    async def _set_aside(self, refused: list[Refused]) -> None:
        while True:
            try:
                await asyncio.to_thread(self._quarantine.add, refused)
                break
            except StoreError as error:
                _events.warning("influx.quarantine_held", error=str(error))
                await asyncio.sleep(QUARANTINE_RETRY_S)
        self.meter.refused += len(refused)
        _events.warning("influx.refused", lines=len(refused), why=refused[0].reason)
        self._tell("influx.refused", refused[0].reason)

    def _refusal(self, chunk: Chunk, why: str, text: str) -> Refused:
        now_ns = self._clock.wall_ns()
        return Refused(now_ns, chunk.kind.value, chunk.start, why[:TEXT_CHARS_MAX], text)

    def _tell(self, alarm: str, why: str) -> None:
        self._report(
            Condition.of_gateway(
                alarm,
                Phrase(f"system.{alarm.replace('.', '_')}", fault=why),
                active=bool(why),
                t_ns=self._clock.wall_ns(),
                priority=Priority.LOW if alarm == "influx.down" else Priority.MEDIUM,
                on_delay_s=60 if alarm == "influx.down" else 0,
                off_delay_s=0,
                latched=alarm == "influx.refused",
            )
        )


def health_line(gateway: str, t_ns: int) -> str:
    """One line that any server of ours must take: the health check that writes."""
    return line(series("gateway", {"gateway": gateway, "source": "influx"}), {"check": 1}, t_ns)


def _send(link: Link, lines: list[str]) -> Answer:
    return link.write(body_of(lines))


def _halves(lines: list[str]) -> list[list[str]]:
    """Two halves; the last one of the list is tried first, so the older goes there."""
    middle = len(lines) // 2
    return [lines[middle:], lines[:middle]]
