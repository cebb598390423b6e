"""What judges came to know of machines since they were trained, kept in the log for a restart."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import structlog

from gateway.core.alarm import Transition
from gateway.core.assessment import ModelKind
from gateway.pipeline.assess import Judge, Judged
from gateway.pipeline.fleet import Post
from gateway.pipeline.past import Past
from gateway.pipeline.windows import Windows
from gateway.store.log import Log

_events = structlog.get_logger()

NO_VALUE = "no_value"
"""Where the log keeps, for each asset, signal -> numbers that mean none."""


class Memory:
    """How strange machines have been, what of them is not seen, slow change, earlier anomalies."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._past = Past()
        for asset in {signal.asset for signal in log.signals.signals()}:
            memory = log.state_get("past", asset)
            try:
                if memory is not None:
                    self._past.restore(asset, memory)
            except (ValueError, KeyError, TypeError) as error:
                _events.error("past.forgotten", asset=asset, error=str(error))

    def hand_over(self, before: Sequence[Post], posts: Sequence[Post]) -> None:
        """Let judges know what those before them knew, or else what the log kept."""
        known = {kind: _known(before, part) for kind, part in _KEPT.items()}
        for post in posts:
            judge, bundle = post.judge, post.judge.bundle.id
            for kind, part in _KEPT.items():
                if bundle not in known[kind]:
                    kept = self._log.state_get(kind, bundle)
                    known[kind][bundle] = {} if kept is None else json.loads(kept)
                part(judge).remember(known[kind][bundle])
            post.findings.past = self._past
            if judge.following is not None:
                for asset in judge.assets:
                    state = self._log.state_get("follow", f"{bundle}/{asset}")
                    if state is not None:
                        judge.following.restore(asset, state)

    def no_values(self, posts: Sequence[Post]) -> None:
        """Keep which numbers mean none: a log that is rid of them teaches the next model none."""
        for post in posts:
            learned = post.judge.bundle.manifest.detail.get("no_value") or {}
            for asset in post.judge.assets if learned else ():
                state = self._log.state_get(NO_VALUE, asset)
                known: dict[str, list[float]] = {} if state is None else json.loads(state)
                all_of = {
                    n: sorted({*known.get(n, ()), *learned.get(n, ())}) for n in {*known, *learned}
                }
                if all_of != known:
                    self._log.state_put(NO_VALUE, asset, json.dumps(all_of).encode())

    def saw(
        self, post: Post, windows: Windows, judged: Judged, ails: Callable[[str], bool]
    ) -> None:
        """Take verdicts; `ails` says whether an alarm stands on a machine."""
        a, following = judged.assessments, post.judge.following
        if not a.shadow and a.kind is ModelKind.ANOMALY:
            self._past.saw(a)
        if following is not None:
            alarmed = np.array([ails(asset) for asset in a.assets])
            for asset, state in following.saw(windows.rows, a, alarmed, judged.alone):
                self._log.state_put("follow", f"{post.judge.bundle.id}/{asset}", state)

    def heard(self, transition: Transition) -> None:
        """Take what became of an alarm."""
        for asset, memory in self._past.heard(transition):
            self._log.state_put("past", asset, memory)

    def keep(self, posts: Sequence[Post]) -> None:
        """Keep what each judge knows of its machines; the rest is kept when it changes."""
        for kind, part in _KEPT.items():
            for bundle, known in _known(posts, part).items():
                state = json.dumps(known).encode() if known else None
                self._log.state_put(kind, bundle, state)


class _Remembers(Protocol):
    """What knows something of machines that outlives it."""

    def memory(self) -> Mapping[str, Any]: ...

    def remember(self, memory: Mapping[str, Any]) -> None: ...


_KEPT: Mapping[str, Callable[[Judge], _Remembers]] = {
    "strange": lambda judge: judge,
    "unseen": lambda judge: judge.unseen,
    "starting": lambda judge: judge.starting,
    "straying": lambda judge: judge.straying,
}
"""How strange each machine has been, since when what of it is not seen, since when it runs, and to
which side its signals stray."""


def _known(posts: Sequence[Post], part: Callable[[Judge], _Remembers]) -> dict[str, dict[str, Any]]:
    """What judges know of their machines, by bundle."""
    known: dict[str, dict[str, Any]] = {}
    for judge in (post.judge for post in posts):
        known.setdefault(judge.bundle.id, {}).update(part(judge).memory())
    return known
