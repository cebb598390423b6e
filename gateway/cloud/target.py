"""What a place outside the plant must offer, and how the refusals of all of them are sorted."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from gateway.cloud.summary import Summary
from gateway.core.errors import LinkError, LinkRefused, PeerError

DELIVERY_S_MAX = 30.0


class Busy(LinkError):
    """It is there and asks us to wait.

    Attributes:
        after_s: For how long.
    """

    def __init__(self, message: str, after_s: float) -> None:
        super().__init__(message)
        self.after_s = after_s


class Delivery(Protocol):
    """An established way out."""

    async def deliver(self, summaries: Sequence[Summary], *, late: bool) -> int:
        """Hand over summaries, oldest first; `late` for those of a backlog.

        Returns:
            How many bytes of payload left.

        Raises:
            LinkError: Not delivered; try again (`Busy`: not before a time; `LinkRefused`: a person
                must act).
            PeerError: Refused for what they are; trying the same again will not help.
        """
        ...


class Target(Protocol):
    """A configured way out; it is opened anew after every `LinkError`."""

    @property
    def kind(self) -> str: ...

    def open(self) -> AbstractAsyncContextManager[Delivery]: ...


def judge(status: int, reason: str, retry_after: str | None) -> None:
    """Raise what an HTTP status means; return for success."""
    if 200 <= status < 300:
        return
    message = f"the receiver answered {status} {reason}"[:200]
    if status in (400, 413, 422):
        raise PeerError(message, code=status)
    if status in (429, 503):
        seconds = float(retry_after) if retry_after and retry_after.isdigit() else 60.0
        raise Busy(message, min(seconds, 3600.0))
    if 300 <= status < 400:
        raise LinkRefused(f"{message}; redirects are not followed, set the final address")
    if status in (401, 403, 404, 405):
        raise LinkRefused(f"{message}; check address and token")
    raise LinkError(message)
