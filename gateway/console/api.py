"""The REST interface: everything that the pages do, for programs and for the pages themselves."""

import asyncio
import base64
import csv
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import anyio.to_thread
from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from gateway.console.guard import Actor, Guard, address_of, require
from gateway.console.plant import (
    AssetDetail,
    AssetView,
    BundleView,
    Health,
    Plant,
)
from gateway.console.vault import AuditEntry, Role, Token, User
from gateway.core.alarm import AlarmKpis, AlarmView, Command, Transition, Verb, Verdict
from gateway.core.errors import Refused
from gateway.core.meter import SourceMeter

TARGETS_MAX = 200
HISTORY_MAX = 10_000
SPAN_S_MAX = 366 * 86_400
EXPORT_ROWS_MAX = 100_000
ROWS_AT_ONCE = 500

Viewer = Annotated[Actor, Depends(require(Role.VIEWER))]
Operator = Annotated[Actor, Depends(require(Role.OPERATOR))]
Engineer = Annotated[Actor, Depends(require(Role.ENGINEER))]
# No control characters; pydantic refuses lone surrogates by itself.
Name = Annotated[str, Field(max_length=300, pattern=r"^[^\x00-\x1f\x7f]*$")]
Note = Annotated[str, Field(max_length=2000, pattern=r"^[^\x00]*$")]
RoleWord = Literal["viewer", "operator", "engineer"]

_PROBLEM: dict[int | str, dict[str, Any]] = {
    400: {"description": "Not understood."},
    401: {"description": "Sign in first."},
    403: {"description": "Not allowed."},
    409: {"description": "Makes no sense now; the text says why."},
    413: {"description": "Too large."},
}

router = APIRouter(prefix="/api/v1", responses=_PROBLEM)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Target(_Body):
    """One alarm; `occurrence` is the episode that was looked at, 0 the present one."""

    asset: Name
    alarm: Annotated[Name, Field(min_length=1)]
    occurrence: int = Field(default=0, ge=0, le=2**31)


class CommandBody(_Body):
    """One action on some alarms."""

    verb: Verb
    targets: list[Target] = Field(min_length=1, max_length=TARGETS_MAX)
    note: Note = ""
    duration_s: float = Field(default=0, ge=0, le=366 * 86_400, allow_inf_nan=False)
    verdict: Verdict | None = None


class CommandResult(_Body):
    """What became of each target, in order: "" for done, else why not."""

    refused: list[str]


class BundleBody(_Body):
    bundle: Annotated[Name, Field(min_length=1)]


class ChannelBody(_Body):
    channel: Annotated[Name, Field(min_length=1)]


class UserBody(_Body):
    name: Annotated[Name, Field(min_length=1, max_length=60)]
    password: Annotated[Note, Field(max_length=200)]
    role: RoleWord


class NameBody(_Body):
    name: Annotated[Name, Field(min_length=1, max_length=60)]


class TokenBody(_Body):
    name: Annotated[Name, Field(min_length=1, max_length=60)]
    role: RoleWord
    days: int = Field(default=0, ge=0, le=3660, description="0: never expires.")


class TokenMade(_Body):
    """The token's secret; it is never shown again."""

    secret: str


class SeriesBody(_Body):
    """A curve; `null` is a gap. Times are UTC milliseconds."""

    name: str
    unit: str
    t_ms: list[float]
    value: list[float | None]
    low: list[float | None]
    high: list[float | None]


class PayloadBody(_Body):
    """One message that has left the plant, or would; `body` where it is text, always `base64`."""

    t_ns: int
    to: str
    sent: bool
    note: str
    bytes: int
    body: str
    base64: str


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One transition and its number in the log."""

    number: int
    transition: Transition


class BytesBody(_Body):
    base64: str


class Me(_Body):
    name: str
    role: RoleWord
    via: str


@dataclass(frozen=True, slots=True)
class Out:
    """Encodes one type; NaN and infinity become null, as JSON knows neither."""

    adapter: TypeAdapter[Any]

    def __call__(self, value: Any, status: int = 200) -> Response:
        return Response(self.adapter.dump_json(value), status, media_type="application/json")


_ASSETS = Out(TypeAdapter(Sequence[AssetView]))
_ASSET = Out(TypeAdapter(AssetDetail))
_SERIES = Out(TypeAdapter(list[SeriesBody]))
_ALARMS = Out(TypeAdapter(Sequence[AlarmView]))
_HISTORY = Out(TypeAdapter(list[HistoryRow]))
_KPIS = Out(TypeAdapter(AlarmKpis))
_SOURCES = Out(TypeAdapter(Sequence[SourceMeter]))
_BUNDLES = Out(TypeAdapter(Sequence[BundleView]))
_PAYLOADS = Out(TypeAdapter(list[PayloadBody]))
_HEALTH = Out(TypeAdapter(Health))
_AUDIT = Out(TypeAdapter(list[AuditEntry]))
_USERS = Out(TypeAdapter(list[User]))
_TOKENS = Out(TypeAdapter(list[Token]))
_ANY = Out(TypeAdapter(dict[str, Any]))


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


@router.get("/me")
async def me(actor: Viewer) -> Me:
    """Who I am to this gateway."""
    return Me(name=actor.name, role=actor.role.word, via=actor.via)


@router.get("/assets", response_model=list[AssetView])
async def assets(request: Request, _: Viewer) -> Response:
    """Every asset."""
    return _ASSETS(plant_of(request).assets())


@router.get(
    "/asset", response_model=AssetDetail, responses={404: {"description": "No such asset."}}
)
async def asset(request: Request, _: Viewer, id: Name) -> Response:  # noqa: A002
    """One asset, with its signals."""
    detail = plant_of(request).asset(id)
    if detail is None:
        raise HTTPException(404, "there is no such asset")
    return _ASSET(detail)


@router.get(
    "/series", response_model=list[SeriesBody], responses={404: {"description": "No such asset."}}
)
async def series(
    request: Request,
    _: Viewer,
    asset: Name,
    signal: Annotated[list[Name], Query(min_length=1, max_length=50)],
    end_ms: Annotated[int, Query(ge=0, le=2**43, description="0: now")] = 0,
    span_s: Annotated[float, Query(gt=0, le=SPAN_S_MAX)] = 3600,
    points: Annotated[int, Query(ge=2, le=5000)] = 600,
) -> Response:
    """Curves of signals; `@score` and `@limit` are the model's."""
    plant = plant_of(request)
    if plant.asset(asset) is None:
        raise HTTPException(404, "there is no such asset")
    end_ns = end_ms * 1_000_000 or time.time_ns()
    curves = await plant.series(
        asset, signal, start_ns=end_ns - round(span_s * 1e9), end_ns=end_ns, points_max=points
    )
    body = [
        SeriesBody.model_construct(
            name=c.name,
            unit=c.unit,
            t_ms=(c.t_ns // 1_000_000).tolist(),
            value=c.value.tolist(),
            low=c.low.tolist(),
            high=c.high.tolist(),
        )
        for c in curves
    ]
    return _SERIES(body)


@router.get("/alarms", response_model=list[AlarmView])
async def alarms(request: Request, _: Viewer) -> Response:
    """Every alarm that is not normal, most urgent first."""
    return _ALARMS(plant_of(request).alarms())


@router.post("/alarms/command")
async def command(request: Request, actor: Operator, body: CommandBody) -> CommandResult:
    """Acknowledge, shelve, judge… some alarms. 409 when every one of them was refused."""
    if body.verb in (Verb.OUT_OF_SERVICE, Verb.IN_SERVICE) and actor.role < Role.ENGINEER:
        raise HTTPException(403, "needs the role engineer")
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
            refused.append(str(error))
            await note_down(request, actor, body.verb, name, body.note, f"refused: {error}")
        else:
            refused.append("")
            await note_down(request, actor, body.verb, name, body.note)
    if all(refused):
        raise HTTPException(409, "; ".join(refused))
    return CommandResult(refused=refused)


async def _history(
    request: Request, asset: str, end_ms: int, span_s: float, limit: int, before: int
) -> list[HistoryRow]:
    # One second on: a transition that is being written now is stamped a moment ahead.
    end_ns = end_ms * 1_000_000 or time.time_ns() + 10**9
    rows = await plant_of(request).history(
        start_ns=end_ns - round(span_s * 1e9),
        end_ns=end_ns,
        asset=asset,
        limit=limit,
        before=before,
    )
    return [HistoryRow(n, t) for n, t in rows]


@router.get("/alarms/history", response_model=list[HistoryRow])
async def history(
    request: Request,
    _: Viewer,
    asset: Name = "",
    end_ms: Annotated[int, Query(ge=0, le=2**43, description="0: now")] = 0,
    span_s: Annotated[float, Query(gt=0, le=SPAN_S_MAX)] = 86_400,
    limit: Annotated[int, Query(ge=1, le=HISTORY_MAX)] = 200,
    before: Annotated[int, Query(ge=0, le=2**62)] = 0,
) -> Response:
    """What happened, newest first; page on with the last row's `number` as `before`."""
    rows = await _history(request, asset, end_ms, span_s, limit, before)
    # Slice by slice, so that ten thousand of them hold up nothing else.
    parts = []
    for start in range(0, len(rows), ROWS_AT_ONCE):
        parts.append(_HISTORY.adapter.dump_json(rows[start : start + ROWS_AT_ONCE])[1:-1])
        await asyncio.sleep(0)
    return Response(b"[" + b",".join(parts) + b"]", media_type="application/json")


@router.get(
    "/alarms/export",
    response_class=Response,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
)
async def export(
    request: Request,
    _: Viewer,
    asset: Name = "",
    end_ms: Annotated[int, Query(ge=0, le=2**43)] = 0,
    span_s: Annotated[float, Query(gt=0, le=SPAN_S_MAX)] = 30 * 86_400,
) -> Response:
    """The same as CSV, oldest first, for a spreadsheet; at most 100,000 rows, the newest."""
    rows: list[HistoryRow] = []
    before = 0
    while len(rows) < EXPORT_ROWS_MAX:
        page = await _history(request, asset, end_ms, span_s, HISTORY_MAX, before)
        rows += page
        if len(page) < HISTORY_MAX:
            break
        before = page[-1].number
    body = await anyio.to_thread.run_sync(_csv, rows)
    name = {"content-disposition": 'attachment; filename="alarms.csv"'}
    return Response(body, media_type="text/csv; charset=utf-8", headers=name)


def _csv(rows: list[HistoryRow]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(
        [
            "number",
            "time_utc",
            "asset",
            "alarm",
            "cause",
            "episode",
            "event",
            "state",
            "priority",
            "severity",
            "text",
            "who",
            "note",
        ]
    )
    for row in reversed(rows):
        t = row.transition
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(t.t_ns // 10**9))
        cells = (t.asset, t.alarm, t.cause, t.occurrence, t.event, t.state, int(t.priority))
        texts = (f"{t.severity:.3f}", t.text, t.who, t.note)
        writer.writerow([row.number, f"{stamp}Z", *map(plain_cell, (*cells, *texts))])
    return out.getvalue().encode("utf-8", "replace")


def plain_cell(value: object) -> str:
    """A cell that no spreadsheet takes for a formula."""
    text = str(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


@router.get("/alarms/kpis", response_model=AlarmKpis)
async def kpis(request: Request, _: Viewer) -> Response:
    """How well the alarms serve, over the last day."""
    return _KPIS(await plant_of(request).kpis())


@router.get("/sources", response_model=list[SourceMeter])
async def sources(request: Request, _: Viewer) -> Response:
    """The counters of every source."""
    return _SOURCES(plant_of(request).sources())


@router.get("/source/bytes", responses={404: {"description": "Not kept."}})
async def last_bytes(request: Request, actor: Engineer, id: Name) -> BytesBody:  # noqa: A002
    """What came last on the wire of a source."""
    data = await plant_of(request).last_bytes(id)
    if data is None:
        raise HTTPException(404, "no bytes are kept for such a source")
    await note_down(request, actor, "last bytes", id)
    return BytesBody(base64=base64.b64encode(data).decode())


@router.get("/bundles", response_model=list[BundleView])
async def bundles(request: Request, _: Viewer) -> Response:
    """Every model."""
    return _BUNDLES(plant_of(request).bundles())


async def _bundle(request: Request, actor: Actor, action: str, bundle: str) -> Response:
    plant = plant_of(request)
    act = plant.promote if action == "promote" else plant.roll_back
    try:
        await act(bundle, actor.name)
    except Refused as error:
        await note_down(request, actor, action, bundle, outcome=f"refused: {error}")
        raise HTTPException(409, str(error)) from None
    await note_down(request, actor, action, bundle)
    return Response(status_code=204)


@router.post("/bundles/promote", status_code=204)
async def promote(request: Request, actor: Engineer, body: BundleBody) -> Response:
    """Let a candidate judge."""
    return await _bundle(request, actor, "promote", body.bundle)


@router.post("/bundles/roll-back", status_code=204)
async def roll_back(request: Request, actor: Engineer, body: BundleBody) -> Response:
    """Go back to the model before this one."""
    return await _bundle(request, actor, "roll back", body.bundle)


@router.get("/outgoing", response_model=list[PayloadBody])
async def outgoing(
    request: Request, _: Viewer, limit: Annotated[int, Query(ge=1, le=500)] = 50
) -> Response:
    """The last payloads that left the plant, or would, to the byte."""
    payloads = await plant_of(request).outgoing(limit)
    body = [
        PayloadBody.model_construct(
            t_ns=p.t_ns,
            to=p.to,
            sent=p.sent,
            note=p.note,
            bytes=len(p.body),
            body=p.body.decode("utf-8", "replace"),
            base64=base64.b64encode(p.body).decode(),
        )
        for p in payloads
    ]
    return _PAYLOADS(body)


@router.get("/settings", response_model=dict[str, Any])
async def settings(request: Request, _: Engineer) -> Response:
    """The configuration in use; secrets are references."""
    return _ANY(dict(plant_of(request).settings()))


@router.get("/channels")
async def channels(request: Request, _: Operator) -> list[str]:
    """Names of the notification channels."""
    return list(plant_of(request).channels())


@router.post("/channels/test", status_code=204)
async def test_channel(request: Request, actor: Engineer, body: ChannelBody) -> Response:
    """Send a test message."""
    try:
        await plant_of(request).test_channel(body.channel, actor.name)
    except Refused as error:
        await note_down(request, actor, "test channel", body.channel, outcome=f"failed: {error}")
        raise HTTPException(409, str(error)) from None
    await note_down(request, actor, "test channel", body.channel)
    return Response(status_code=204)


@router.get("/health", response_model=Health)
async def health(request: Request, _: Viewer) -> Response:
    """Whether the gateway works, and how it stands."""
    return _HEALTH(plant_of(request).health())


@router.get("/audit", response_model=list[AuditEntry])
async def audit(
    request: Request, _: Engineer, limit: Annotated[int, Query(ge=1, le=5000)] = 200
) -> Response:
    """Who did what, newest first."""
    vault = guard_of(request).vault
    return _AUDIT(await anyio.to_thread.run_sync(vault.audited, limit))


# People and tokens


async def _change(request: Request, actor: Actor, action: str, target: str, work: Any) -> Any:
    try:
        result = await guard_of(request).hashed(work)
    except Refused as error:
        await note_down(request, actor, action, target, outcome=f"refused: {error}")
        raise HTTPException(409, str(error)) from None
    await note_down(request, actor, action, target)
    return result


@router.get("/users", response_model=list[User])
async def users(request: Request, _: Engineer) -> Response:
    """Everybody who may sign in."""
    return _USERS(guard_of(request).vault.users())


@router.post("/users/add", status_code=204)
async def add_user(request: Request, actor: Engineer, body: UserBody) -> Response:
    """Add a person."""
    vault, role = guard_of(request).vault, Role[body.role.upper()]
    work = lambda: vault.add_user(body.name, body.password, role, actor.name)  # noqa: E731
    await _change(request, actor, f"add {body.role}", body.name, work)
    return Response(status_code=204)


@router.post("/users/remove", status_code=204)
async def remove_user(request: Request, actor: Engineer, body: NameBody) -> Response:
    """Remove a person and end their sessions."""
    vault = guard_of(request).vault
    await _change(request, actor, "remove user", body.name, lambda: vault.remove_user(body.name))
    return Response(status_code=204)


@router.get("/tokens", response_model=list[Token])
async def tokens(request: Request, _: Engineer) -> Response:
    """Every token, never its secret."""
    return _TOKENS(guard_of(request).vault.tokens())


@router.post("/tokens/add")
async def add_token(request: Request, actor: Engineer, body: TokenBody) -> TokenMade:
    """Make a token; the answer holds its secret, which is never shown again."""
    vault, role = guard_of(request).vault, Role[body.role.upper()]
    work = lambda: vault.add_token(body.name, role, actor.name, body.days)  # noqa: E731
    secret: str = await _change(request, actor, f"add {body.role} token", body.name, work)
    return TokenMade(secret=secret)


@router.post("/tokens/revoke", status_code=204)
async def revoke_token(request: Request, actor: Engineer, body: NameBody) -> Response:
    """Make a token worthless."""
    vault = guard_of(request).vault
    await _change(request, actor, "revoke token", body.name, lambda: vault.revoke_token(body.name))
    return Response(status_code=204)
