"""Brings the log into InfluxDB: live data first, the backlog beside it, each line exactly once.

"Exactly once" is two facts: a place in the log moves only past what the server has confirmed, and
a line that is sent again is the same line, which overwrites itself.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Never

import structlog

from gateway.core.alarm import Condition, Priority
from gateway.core.clock import Clock, sleep_until
from gateway.core.errors import ConfigError, StoreError
from gateway.core.texts import Phrase
from gateway.store.config import InfluxConfig
from gateway.store.cursor import Cursor, Part
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
from gateway.store.influx_feed import Chunk, Feed
from gateway.store.influx_link import Link, body_of, open_link
from gateway.store.line_protocol import Encoder, line, series
from gateway.store.log import Log, unheard
from gateway.store.quarantine import Quarantine, Refused
from gateway.store.record import Kind

CURSOR = "influx"
LIVE_S = 0.3
"""Between two requests of live data that do not fill one."""
LIVE_BEHIND_S = 2.0
"""Live data further behind than this becomes backlog, and newer data go first."""
SLOW_S = 0.7
"""A request slower than this makes requests smaller and lanes fewer, for the sake of live data."""
YIELD_S = 1.0
"""How long one backlog request stands aside, at most, while live data is not through."""
LINES_MIN = 100
LINES_START = 5_000
REQUESTS_PER_HUNT_MAX = 500
"""Requests spent on finding the poison in one chunk; then what is left of it is set aside whole."""
READ_RETRY_S = 2.0

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


class InfluxWriter:
    """One writer of one log to one server."""

    def __init__(
        self,
        log: Log,
        config: InfluxConfig,
        gateway: str,
        clock: Clock,
        random: Random,
        report: Callable[[Condition], None] = unheard,
    ) -> None:
        """Raises ConfigError where a secret cannot be read, StoreError where the disk is full."""
        self._config = config
        self._gateway = gateway
        self._clock = clock
        self._report = report
        self._log = log
        self._link: Link = open_link(config, connections=config.in_flight_max)
        self._gate = Gate(clock, random)
        self._quarantine = Quarantine(log.directory)
        self._kinds = [Kind.TRANSITION, Kind.ASSESSMENT, Kind.SAMPLES, Kind.HEALTH]
        if config.waveforms:
            self._kinds.append(Kind.WAVEFORM)
        self._cursor: Cursor = log.cursor(CURSOR, self._kinds)
        encoder = Encoder(log.signals, gateway)
        self._live = {k: Feed(self._cursor, encoder, k, Part.LIVE) for k in self._kinds}
        self._backlog = {k: Feed(self._cursor, encoder, k, Part.BACKLOG) for k in self._kinds}
        self._lines = min(LINES_START, config.lines_max)
        self._width = 1.0
        self._paced_until_ns = 0
        self._live_through = asyncio.Event()
        self._live_through.set()
        self._heads: dict[Kind, tuple[int, int]] = {}
        self._rate: dict[Kind, float] = dict.fromkeys(self._kinds, 0.0)
        self.meter = InfluxMeter()

    @property
    def cursor(self) -> Cursor:
        """Its place in the log; its lag is what the server does not have yet."""
        return self._cursor

    def damaged(self) -> int:
        """Samples and records passed over because the disk has altered them."""
        return sum(feed.damaged for feed in (*self._live.values(), *self._backlog.values()))

    async def run(self) -> Never:
        """Write until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._run_live(), name="influx:live")
                for i in range(max(1, self._config.in_flight_max - 1)):
                    tasks.create_task(self._run_backlog(i), name=f"influx:backlog-{i}")
        finally:
            self._link.close()
            self._quarantine.close()
        raise AssertionError("the lanes never end by themselves")

    async def _run_live(self) -> Never:
        while True:
            seen = self._log.committed.rings
            full = False
            for kind in self._kinds:
                self._let_go_of_the_past(kind)
                chunk = await self._next(self._live[kind])
                if chunk is not None:
                    self._live_through.clear()
                    await self._deliver(chunk)
                    full = full or len(chunk.lines) >= self._lines
            if not full:
                self._live_through.set()
                await asyncio.sleep(LIVE_S)
                await self._log.committed.wait(seen)

    async def _run_backlog(self, lane: int) -> Never:
        while True:
            seen = self._log.committed.rings
            sent = False
            for kind in self._kinds:
                while lane < self._width and self._cursor.ranges(kind) > 1:
                    chunk = await self._next(self._backlog[kind])
                    if chunk is None:
                        break
                    await self._pace(len(chunk.lines))
                    await self._deliver(chunk)
                    sent = True
            if not sent:
                await asyncio.sleep(LIVE_S)
                await self._log.committed.wait(seen)

    def _let_go_of_the_past(self, kind: Kind) -> None:
        """Where live data is too far behind, begin at the head; the rest becomes backlog."""
        head, now_ns = self._log.heads()[kind], self._clock.mono_ns()
        last_head, last_ns = self._heads.get(kind, (head, now_ns))
        self._heads[kind] = (head, now_ns)
        if now_ns > last_ns:
            rate = (head - last_head) * 1e9 / (now_ns - last_ns)
            self._rate[kind] += (rate - self._rate[kind]) / 4
        behind = head - self._cursor.live_position(kind)
        if behind > max(self._config.lines_max, LIVE_BEHIND_S * self._rate[kind]):
            self._live[kind].reset()
            self._cursor.skip_to_live(kind)

    async def _next(self, feed: Feed) -> Chunk | None:
        while True:
            try:
                return await in_daemon(lambda: feed.next(self._lines), "influx:read")
            except StoreError as error:
                _events.warning("influx.log_unreadable", error=str(error))
                await asyncio.sleep(READ_RETRY_S)

    async def _pace(self, lines: int) -> None:
        """Spend the backlog's share of the server's time, and no more."""
        now_ns = self._clock.mono_ns()
        at_ns = max(now_ns, self._paced_until_ns)
        self._paced_until_ns = at_ns + round(lines / self._config.backlog_samples_per_s_max * 1e9)
        await sleep_until(self._clock, at_ns)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(YIELD_S):
                await self._live_through.wait()

    async def _deliver(self, chunk: Chunk) -> None:
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
            self._lines = max(1, self._lines // 2)
        elif latency_s > SLOW_S:
            self._lines = max(min(LINES_MIN, self._config.lines_max), self._lines // 2)
            self._width = max(1.0, self._width - 1)
        elif verdict is Verdict.DONE:
            self._lines = min(self._config.lines_max, self._lines + self._lines // 4 + 1)
            self._width = min(max(1.0, self._config.in_flight_max - 1), self._width + 0.25)

    def _shut(self, verdict: Verdict, answer: Answer) -> None:
        why = f"{answer.status or 'no answer'}: {answer.text[:TEXT_CHARS_MAX]}"
        held = verdict is Verdict.HOLD
        news = self._gate.shut(why, held=held, wait_s=answer.retry_after_s)
        self._width = 1.0
        if not answer.status:  # A request that was too much for the server gets smaller.
            self._lines = max(min(LINES_MIN, self._config.lines_max), self._lines // 2)
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
                await asyncio.sleep(READ_RETRY_S)
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
