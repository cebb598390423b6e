"""REST: the alarms that stand, what people do about them, and how well they serve."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import Field, TypeAdapter

from gateway.console.api.answer import Body, Name, Note, Operator, Out, Viewer
from gateway.console.reach import note_down, plant_of, texts_of
from gateway.console.vault import Role
from gateway.core.alarm import AlarmGroup, AlarmKpis, AlarmView, Command, Verb, Verdict
from gateway.core.refusal import Refused
from gateway.core.texts import Phrase, as_said

TARGETS_MAX = 200

router = APIRouter()


class Target(Body):
    """One alarm; `occurrence` is the episode that was looked at, 0 the present one."""

    asset: Name
    alarm: Annotated[Name, Field(min_length=1)]
    occurrence: int = Field(default=0, ge=0, le=2**31)


class CommandBody(Body):
    """One action on some alarms."""

    verb: Verb
    targets: list[Target] = Field(min_length=1, max_length=TARGETS_MAX)
    note: Note = ""
    duration_s: float = Field(default=0, ge=0, le=366 * 86_400, allow_inf_nan=False)
    verdict: Verdict | None = None


class CommandResult(Body):
    """What became of each target, in order: "" for done, else why not."""

    refused: list[str]


_ALARMS = Out(TypeAdapter(Sequence[AlarmView]))
_SHOWN = Out(TypeAdapter(Sequence[AlarmView | AlarmGroup]))
_KPIS = Out(TypeAdapter(AlarmKpis))


@router.get("/alarms", response_model=list[AlarmView])
async def alarms(request: Request, _: Viewer) -> Response:
    """Every alarm that is not normal, most urgent first."""
    return _ALARMS(plant_of(request).alarms())


@router.get("/alarms/grouped", response_model=list[AlarmView | AlarmGroup])
async def grouped(request: Request, _: Viewer) -> Response:
    """The same with those that belong together as one: more than ten in ten minutes in one area
    are a flood, and what one cause raises in one machine is one.
    """
    return _SHOWN(plant_of(request).shown())


@router.post("/alarms/command")
async def command(request: Request, actor: Operator, body: CommandBody) -> CommandResult:
    """Acknowledge, shelve, judge… some alarms. 409 when every one of them was refused."""
    if body.verb in (Verb.OUT_OF_SERVICE, Verb.IN_SERVICE) and actor.role < Role.ENGINEER:
        raise HTTPException(403, Phrase("error.role", role=Phrase("role.engineer")))
    refused: list[str] = []
    for target in body.targets:
        name = f"{target.asset}/{target.alarm}"
        try:
            await plant_of(request).command(
                Command(
                    body.verb,
                    target.asset,
                    target.alarm,
                    actor.name,
                    body.note,
                    body.duration_s,
                    body.verdict,
                    target.occurrence,
                )
            )
        except Refused as error:
            refused.append(texts_of(request).say(error.why))
            await note_down(request, actor, body.verb, name, body.note, f"refused: {error}")
        else:
            refused.append("")
            await note_down(request, actor, body.verb, name, body.note)
    if all(refused):
        raise HTTPException(409, as_said("; ".join(refused)))
    return CommandResult(refused=refused)


@router.get("/alarms/kpis", response_model=AlarmKpis)
async def kpis(request: Request, _: Viewer) -> Response:
    """How well the alarms serve, over the last day."""
    return _KPIS(await plant_of(request).kpis())
