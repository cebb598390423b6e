"""REST: who I am, people, and tokens."""

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import Field, TypeAdapter

from gateway.console.api.answer import Body, Engineer, Name, Note, Out, RoleWord, Viewer
from gateway.console.guard import Actor
from gateway.console.reach import carry_out, guard_of
from gateway.console.vault import Role, Token, User

router = APIRouter()


class UserBody(Body):
    name: Annotated[Name, Field(min_length=1, max_length=60)]
    password: Annotated[Note, Field(max_length=200)]
    role: RoleWord


class NameBody(Body):
    name: Annotated[Name, Field(min_length=1, max_length=60)]


class TokenBody(Body):
    name: Annotated[Name, Field(min_length=1, max_length=60)]
    role: RoleWord
    days: int = Field(default=0, ge=0, le=3660, description="0: never expires.")


class TokenMade(Body):
    """The token's secret; it is never shown again."""

    secret: str


class Me(Body):
    name: str
    role: RoleWord
    via: str


_USERS = Out(TypeAdapter(list[User]))
_TOKENS = Out(TypeAdapter(list[Token]))


@router.get("/me")
async def me(actor: Viewer) -> Me:
    """Who I am to this gateway."""
    return Me(name=actor.name, role=actor.role.word, via=actor.via)


async def _change(request: Request, actor: Actor, action: str, target: str, work: Any) -> Any:
    return await carry_out(request, actor, action, target, guard_of(request).hashed(work))


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
