"""What may be seen of the learning of machines, and what may be asked of it."""

from gateway.console.views import Ask, LearningView
from gateway.core.texts import Texts
from gateway.learning.progress import Event, Progress

EVENTS: dict[Ask, Event] = {
    "promote": Event.PROMOTE,
    "roll_back": Event.ROLL_BACK,
    "rebaseline": Event.REBASELINE,
}


def allowed(progress: Progress) -> tuple[Ask, ...]:
    """What makes sense to ask of a machine where it stands."""
    return tuple(
        ask
        for ask, event in EVENTS.items()
        if progress.step(event, 0) is not progress and (ask != "promote" or progress.candidate)
    )


def lesson(asset: str, progress: Progress, texts: Texts) -> LearningView:
    """Where one machine stands, in a language."""
    return LearningView(
        asset=asset,
        stage=progress.stage.value,
        since_ns=progress.since_ns,
        text=texts.say(progress.said()),
        share=1.0 if progress.bundle else progress.share,
        missing=tuple(map(texts.say, progress.missing)),
        reason=texts.say(progress.reason) if progress.reason else "",
        bundle=progress.bundle,
        candidate=progress.candidate,
        previous=progress.previous,
        trainings=progress.generation,
        windows=progress.windows,
        flagged=progress.flagged,
        may=allowed(progress),
    )
