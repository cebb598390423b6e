"""What an InfluxDB's answer to a write means, and so what to do. Pure: the rules, in one table.

Statuses as found in the sources and by test of InfluxDB 1.6, and in the manuals of 2 and 3.
"""

import json
import re
from dataclasses import dataclass
from enum import StrEnum

RETRY_AFTER_S_MAX = 3600.0
TEXT_CHARS_MAX = 500


class Verdict(StrEnum):
    """What to do with the lines of a request."""

    DONE = "done"
    """They are written: advance."""
    POISON = "poison"
    """At least one can never be written: find it, set it aside, deliver the rest."""
    DROPPED = "dropped"
    """The server wrote what it may keep; the rest is older than it keeps anything."""
    TOO_LARGE = "too large"
    """Send fewer at a time."""
    HOLD = "hold"
    """A person must act (token, database, bucket): keep everything, tell, try again slowly."""
    WAIT = "wait"
    """The server asks for time: try again when it says."""
    RETRY = "retry"
    """The server or the way to it is in trouble: try again with backoff."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back from one write.

    Attributes:
        status: HTTP status; 0 where none came (refused, timed out, cut).
        text: Body or error, cut short.
        retry_after_s: What the server asked for; 0 for nothing.
    """

    status: int
    text: str = ""
    retry_after_s: float = 0.0


_BEYOND_RETENTION = re.compile(
    r"beyond retention policy dropped=(\d+)|outside retention policy", re.IGNORECASE
)

_BY_STATUS = {
    400: Verdict.POISON,
    401: Verdict.HOLD,
    403: Verdict.HOLD,
    404: Verdict.HOLD,
    408: Verdict.RETRY,
    413: Verdict.TOO_LARGE,
    422: Verdict.POISON,
    429: Verdict.WAIT,
    503: Verdict.WAIT,
}


def judge(answer: Answer) -> Verdict:
    """What to do."""
    if 200 <= answer.status < 300:
        return Verdict.DONE
    if answer.status in (400, 422) and _BEYOND_RETENTION.search(answer.text):
        return Verdict.DROPPED
    if answer.status in _BY_STATUS:
        return _BY_STATUS[answer.status]
    # A redirect or another refusal (3xx, 4xx) will not pass by itself: a person looks at the URL.
    return Verdict.HOLD if 300 <= answer.status < 500 else Verdict.RETRY


def beyond_retention(answer: Answer) -> int:
    """How many lines the server says it dropped for their age; 1 where it does not say."""
    found = _BEYOND_RETENTION.search(answer.text)
    return int(found[1]) if found and found[1] else 1


def bad_lines(answer: Answer, n: int) -> dict[int, str] | None:
    """Which lines an InfluxDB 3 names as bad: {index: reason}; None where it names none.

    It lists a hundred at most, so the rest must be sent again, not believed to be written.
    """
    try:
        body = json.loads(answer.text)
        listed = body["data"]
        found = {
            int(entry["line_number"]) - 1: str(entry["error_message"])[:TEXT_CHARS_MAX]
            for entry in (listed if isinstance(listed, list) else [listed])
        }
    except (ValueError, KeyError, TypeError):
        return None
    return found if found and all(0 <= i < n for i in found) else None


def retry_after_s(header: str | None) -> float:
    """Seconds of a Retry-After header; 0 where it is absent or a date.

    A date would have to be compared with our wall clock, which may be wrong.
    """
    try:
        return min(max(0.0, float(header or 0)), RETRY_AFTER_S_MAX)
    except ValueError:
        return 0.0
