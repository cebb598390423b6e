"""What judges came to know of machines since they were trained, kept in the log for a restart."""

import json
from collections.abc import Callable, Sequence

import numpy as np
import structlog

from gateway.core.alarm import Transition
from gateway.core.assessment import ModelKind
from gateway.pipeline.assess import Judged
from gateway.pipeline.fleet import Post
from gateway.pipeline.past import Past
from gateway.pipeline.windows import Windows
from gateway.store.log import Log

_events = structlog.get_logger()


class Memory:
    """How strange machines have been, how far slow change was followed, and earlier anomalies."""

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
        strange = _strange(before)
        for post in posts:
            judge, bundle = post.judge, post.judge.bundle.id
            if bundle not in strange:
                kept = self._log.state_get("strange", bundle)
                strange[bundle] = {} if kept is None else json.loads(kept)
            judge.remember(strange[bundle])
            post.findings.past = self._past
            if judge.following is not None:
                for asset in judge.assets:
                    state = self._log.state_get("follow", f"{bundle}/{asset}")
                    if state is not None:
                        judge.following.restore(asset, state)

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
        """Keep how strange each machine has been; the rest is kept when it changes."""
        for bundle, levels in _strange(posts).items():
            if levels:
                rounded = {asset: round(level, 4) for asset, level in levels.items()}
                self._log.state_put("strange", bundle, json.dumps(rounded).encode())


def _strange(posts: Sequence[Post]) -> dict[str, dict[str, float]]:
    """How strange each machine has been, by bundle."""
    strange: dict[str, dict[str, float]] = {}
    for judge in (post.judge for post in posts):
        strange.setdefault(judge.bundle.id, {}).update(judge.memory())
    return strange
