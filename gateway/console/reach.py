"""What a request reaches: the plant, the guard, the audit trail."""

from fastapi import Request

from gateway.console.guard import Actor, Guard, address_of
from gateway.console.plant import Plant


def plant_of(request: Request) -> Plant:
    """The gateway behind this console."""
    plant: Plant = request.app.state.plant
    return plant


def guard_of(request: Request) -> Guard:
    """The guard of this console."""
    guard: Guard = request.app.state.guard
    return guard


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
