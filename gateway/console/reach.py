"""What a request reaches: the plant, the guard, the language, the audit trail."""

from collections.abc import Awaitable
from typing import TypeVar

from fastapi import HTTPException, Request

from gateway.console.guard import Actor, Guard, address_of
from gateway.console.plant import Plant
from gateway.core.refusal import Refused
from gateway.core.texts import Texts

T = TypeVar("T")


def plant_of(request: Request) -> Plant:
    """The gateway behind this console."""
    plant: Plant = request.app.state.plant
    return plant


def guard_of(request: Request) -> Guard:
    """The guard of this console."""
    guard: Guard = request.app.state.guard
    return guard


def texts_of(request: Request) -> Texts:
    """The language of this console."""
    texts: Texts = request.app.state.pages.texts
    return texts


async def note_down(
    request: Request, actor: Actor, action: str, target: str, note: str = "", outcome: str = "done"
) -> None:
    """Write to the audit trail."""
    await guard_of(request).audit(
        actor.name,
        actor.via,
        address_of(request),
        action,
        target=target,
        note=note,
        outcome=outcome,
    )


async def carry_out(
    request: Request, actor: Actor, action: str, target: str, work: Awaitable[T], note: str = ""
) -> T:
    """Do what somebody asks and write it down; a refusal too, with its reason.

    Raises:
        HTTPException: 409, refused.
    """
    try:
        result = await work
    except Refused as error:
        await note_down(request, actor, action, target, note, f"refused: {error}")
        raise HTTPException(409, error.why) from None
    await note_down(request, actor, action, target, note)
    return result
