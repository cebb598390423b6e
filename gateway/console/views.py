"""What the console shows of the gateway: machines, models, lessons, what leaves, health."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gateway.core.alarm import Driver, Priority


class AssetState(StrEnum):
    """One word for one machine, from worst to best."""

    ALARM = "alarm"
    """It has an alarm that nobody has acknowledged, or a latched one."""
    ACKED = "acked"
    """It has alarms, all acknowledged."""
    NO_DATA = "no_data"
    """Its samples do not arrive, or too few of them."""
    PARTIAL = "partial"
    """Healthy as far as it is seen: a signal is missing, or hidden, for long."""
    LEARNING = "learning"
    """It has no model that may alarm yet."""
    STOPPED = "stopped"
    """It is switched off by design; nothing is judged."""
    OK = "ok"


@dataclass(frozen=True, slots=True)
class SignalView:
    """The latest of one signal. `value` is NaN where the last sample was BAD or none came.

    `limits` are its static ones: `high_high`, `high`, `low` or `low_low`, and where.
    """

    signal: str
    unit: str
    value: float
    t_ns: int
    quality: int
    limits: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class UnseenView:
    """One signal that the model has not seen for long: what shows in it alone is not judged.

    Attributes:
        signal: Its name; of a waveform of which nothing is seen, the waveform's.
        since_ns: UTC ns, the end of the first window without it.
        why: `missing`; or `stuck` or `no_value`, for which its sensor is not believed.
        text: The reason in words.
    """

    signal: str
    since_ns: int
    why: str
    text: str


@dataclass(frozen=True, slots=True)
class AssetView:
    """One machine as a tile shows it.

    Attributes:
        id, asset_class, area: As configured.
        state: One word.
        severity: score / limit of the last verdict; NaN where there is none.
        priority: Of its most urgent alarm; None without one.
        cause: The text of its most urgent alarm; else "".
        abstained: Why it is not judged at present (`coverage`, `warming_up`…); "" where it is.
        drivers: What drives the last verdict, strongest first.
        since_ns: UTC ns since when it is in this state; 0 where not known.
        last_sample_ns: UTC ns of the newest sample; 0 before the first.
        coverage: Share of usable samples in the last window, 0 to 1; NaN before the first.
        unseen: Signals without which it is judged.
        learning: Share of the baseline gathered, 0 to 1; 1 when learnt.
        learning_text: What is missing, in plain words; "" when nothing is.
        bundle: The model in use; "" for none.
        shadow: True while that model may not alarm.
        alarms: How many alarms it has now.
        put_aside: How many more are shelved, suppressed or out of service.
        trend: Its last severities, oldest first, at most 60; NaN where abstained.
    """

    id: str
    asset_class: str
    state: AssetState
    severity: float
    priority: Priority | None = None
    area: str = ""
    cause: str = ""
    abstained: str = ""
    drivers: tuple[Driver, ...] = ()
    since_ns: int = 0
    last_sample_ns: int = 0
    coverage: float = float("nan")
    unseen: tuple[UnseenView, ...] = ()
    learning: float = 1.0
    learning_text: str = ""
    bundle: str = ""
    shadow: bool = False
    alarms: int = 0
    put_aside: int = 0
    trend: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class AssetDetail:
    """One machine as its own page shows it.

    Attributes:
        view: The tile.
        signals: The latest of each signal, as configured.
        failures: Failure mode -> probability, 0 to 1.
        rul: Remaining life in hours: (best guess, low, high); None without such a model.
        learning: Where its learning stands; None where it is not learned here.
        context: What surrounds the last verdict; None without one.
    """

    view: AssetView
    signals: tuple[SignalView, ...]
    failures: Mapping[str, float] = field(default_factory=dict)
    rul: tuple[float, float, float] | None = None
    learning: "LearningView | None" = None
    context: "ContextView | None" = None


@dataclass(frozen=True, slots=True)
class ContextView:
    """What surrounds a verdict, in words; see `core.assessment.Context`."""

    condition: str = ""
    similar: str = ""
    followed: tuple[str, ...] = ()
    held: str = ""
    fixed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """A curve, thinned to what a screen can show.

    Attributes:
        name, unit: What it is.
        t_ns: int64[n], UTC ns, rising.
        value: float64[n]; NaN is a gap.
        low, high: float64[n], the extremes of what each point stands for; empty where not kept.
    """

    name: str
    unit: str
    t_ns: NDArray[np.int64]
    value: NDArray[np.float64]
    low: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    high: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True, slots=True)
class BundleView:
    """One model, in use or ready to be.

    Attributes:
        id, kind, asset_class: As in its manifest.
        state: `active`, `shadow`, `candidate`, `previous` or `refused`.
        state_text: Why, where that is not plain.
        assets: Those that it judges.
        trained_ns: UTC ns; 0 where not known.
        parity: Share of verdicts that int8 changes against fp32; NaN where not known.
        drift: How far today's data lie from its baseline, 1 is its limit; NaN where not known.
        promise: Of false alarms, as configured: `1/30d`; "" for none.
        promise_kept: Whether its record supports that.
        signed: Whether a signature was checked.
    """

    id: str
    kind: str
    asset_class: str
    state: str
    state_text: str = ""
    assets: tuple[str, ...] = ()
    trained_ns: int = 0
    parity: float = float("nan")
    drift: float = float("nan")
    promise: str = ""
    promise_kept: bool = False
    signed: bool = False


Ask = Literal["promote", "roll_back", "rebaseline"]
"""What may be asked of the learning of a machine."""


@dataclass(frozen=True, slots=True)
class LearningView:
    """Where the learning of one machine stands.

    Attributes:
        asset: The machine.
        stage: `collecting`, `training`, `shadow`, `active` or `drifting`.
        since_ns: UTC ns when it came there; 0 before it began.
        text: Stage and reason in one line.
        share: Of the baseline gathered, 0 to 1; 1 while a model judges.
        missing: What is not there yet, in plain words.
        reason: Why it stands there, where that is not plain.
        bundle, candidate, previous: Files of the models that judge, watch, and judged before.
        trainings: How many there were.
        windows, flagged: What the candidate judged, and how much of it was above its limit.
        may: What makes sense to ask now.
    """

    asset: str
    stage: str
    since_ns: int = 0
    text: str = ""
    share: float = 0.0
    missing: tuple[str, ...] = ()
    reason: str = ""
    bundle: str = ""
    candidate: str = ""
    previous: str = ""
    trainings: int = 0
    windows: int = 0
    flagged: int = 0
    may: tuple[Ask, ...] = ()


@dataclass(frozen=True, slots=True)
class Payload:
    """One message that has left the plant, or would if the owner switched that on.

    Attributes:
        t_ns: UTC ns when it was sent, or made.
        to: Where it went; "" where nothing was sent.
        sent: Whether it left.
        body: What was sent, to the byte, at most 64 KiB.
        note: `next`, `would` or `was`: when it leaves; else a status in words.
    """

    t_ns: int
    to: str
    sent: bool
    body: bytes
    note: str = ""


@dataclass(frozen=True, slots=True)
class EgressView:
    """What has left for the cloud since the gateway started, and what stayed home for it.

    Attributes:
        to: Where summaries go.
        summaries, left_bytes: How many have left, and their payload.
        stayed_bytes: Of the raw samples that those summaries stand for.
        stayed_per_byte: Bytes that stayed home for each that left; None before the first has.
        waiting: Summaries that have not left.
        fault: Why nothing leaves at present; "" where nothing is in the way.
    """

    to: str
    summaries: int
    left_bytes: int
    stayed_bytes: int
    stayed_per_byte: float | None
    waiting: int
    fault: str


@dataclass(frozen=True, slots=True)
class ReaderView:
    """One reader of the log: InfluxDB, the cloud, trends."""

    name: str
    lag: int
    """Records that it has not taken yet."""
    lag_s: float
    """Age of the oldest of these, s; 0 when it has kept up."""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the gateway lives, and whether it does its work.

    Attributes:
        ready: True when every configured source has been tried and the log takes writes.
        reasons: Why not, in plain words.
        started_ns: UTC ns.
        gateway: Its id.
        version: Of the program.
        samples: Taken since the start.
        samples_lost: Lost since the start.
        log_bytes: Size of the log on disk.
        readers: Who reads the log, and how far behind.
        waiting: Changed settings that wait for a restart, in words.
        unused: What came and was not used since the start, by what became of it.
    """

    ready: bool
    reasons: tuple[str, ...]
    started_ns: int
    gateway: str
    version: str
    samples: int = 0
    samples_lost: int = 0
    log_bytes: int = 0
    readers: tuple[ReaderView, ...] = ()
    waiting: tuple[str, ...] = ()
    unused: Mapping[str, int] = field(default_factory=dict)
