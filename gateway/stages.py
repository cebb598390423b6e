"""What a sample passes between the wire and the windows, as one configuration has it."""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.alarms.limits import Limits
from gateway.pipeline.derive import Derive
from gateway.pipeline.events import Events
from gateway.pipeline.running import Running
from gateway.pipeline.waves import Waves


@dataclass(frozen=True, slots=True)
class Stages:
    """Taken up together at a start and at a reload.

    Attributes:
        source_of: Every signal's number, derived ones too, and the source whose samples make it.
        derive: What makes signals of others.
        waves: What makes signals of waveforms.
        events: What makes signals of events and facts.
        running: Which machines stand still.
        limits: What is held against limits.
    """

    source_of: Mapping[int, str]
    derive: Derive
    waves: Waves
    events: Events
    running: Running
    limits: Limits
