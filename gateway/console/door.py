"""The door: the first person's set-up, signing in, and out again."""

from typing import Annotated, Any
from urllib.parse import quote

import anyio.to_thread
from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import RedirectResponse, Response

from gateway.console.guard import COOKIE, LockedOut, address_of, check_csrf, check_origin
from gateway.console.pages import Door, Key, actor_of, pages_of, render
from gateway.console.reach import guard_of
from gateway.core.refusal import Refused
from gateway.core.texts import Phrase

router = APIRouter(include_in_schema=False)

Text = Annotated[str, Form(max_length=300)]


def to_the_door(_: Request, error: Exception) -> Response:
    """What a stranger gets instead of a page."""
    assert isinstance(error, Door)
    return RedirectResponse(f"/sign-in?next={quote(error.back, safe='')}", 303)


def _own_path(path: str) -> str:
    """Where to go after the door; only within this console."""
    inside = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if inside else "/"


def _welcome(request: Request, secret: str, to: str) -> Response:
    answer = RedirectResponse(to, 303)
    config = guard_of(request).config
    answer.set_cookie(
        COOKIE,
        secret,
        max_age=round(config.session_max_s),
        httponly=True,
        secure=request.url.scheme == "https",
        samesite="strict",
        path="/",
    )
    return answer


async def _locked(request: Request, template: str, error: LockedOut, **values: Any) -> Response:
    minutes = max(1, round(error.wait_s / 60))
    fault = pages_of(request).texts("sign_in.locked", minutes=minutes)
    answer = await render(request, template, 429, actor=None, fault=fault, **values)
    answer.headers["retry-after"] = str(round(error.wait_s))
    return answer


@router.get("/sign-in")
async def sign_in_page(request: Request, next: Key = "/") -> Response:  # noqa: A002
    """The door."""
    nobody = not guard_of(request).vault.users()
    return await render(
        request, "sign_in.html", actor=None, fault="", name="", next=_own_path(next), nobody=nobody
    )


@router.post("/sign-in")
async def sign_in(
    request: Request,
    name: Text,
    password: Text,
    next: Text = "/",  # noqa: A002
) -> Response:
    """Through the door."""
    check_origin(request)
    values = {"name": name, "next": _own_path(next), "nobody": False}
    try:
        secret = await guard_of(request).sign_in(name, password, address_of(request))
    except LockedOut as error:
        return await _locked(request, "sign_in.html", error, **values)
    if secret is None:
        fault = pages_of(request).texts("sign_in.wrong")
        return await render(request, "sign_in.html", 401, actor=None, fault=fault, **values)
    return _welcome(request, secret, _own_path(next))


@router.get("/setup")
async def setup_page(request: Request, key: Key = "") -> Response:
    """The one-time link of the first run."""
    if not guard_of(request).opens_setup(key):
        raise HTTPException(404, Phrase("setup.wrong"))
    return await render(request, "setup.html", actor=None, fault="", name="", secret=key)


@router.post("/setup")
async def setup(
    request: Request, name: Text, password: Text, again: Text, secret: Text
) -> Response:
    """Make the first engineer."""
    check_origin(request)
    texts = pages_of(request).texts
    values = {"actor": None, "name": name, "secret": secret}
    if password != again:
        fault = texts("setup.differ")
        return await render(request, "setup.html", 422, fault=fault, **values)
    try:
        session = await guard_of(request).set_up(secret, name, password, address_of(request))
    except LockedOut as error:
        del values["actor"]
        return await _locked(request, "setup.html", error, **values)
    except Refused as error:
        return await render(request, "setup.html", 409, fault=texts.say(error.why), **values)
    if session is None:
        raise HTTPException(404, Phrase("setup.wrong"))
    return _welcome(request, session, "/")


@router.post("/sign-out")
async def sign_out(request: Request, csrf: Text = "") -> Response:
    """Out again."""
    actor = actor_of(request)
    check_csrf(request, actor, csrf)
    guard = guard_of(request)
    await anyio.to_thread.run_sync(guard.vault.sessions.end, request.cookies.get(COOKIE, ""))
    await guard.audit(actor.name, actor.via, address_of(request), "sign-out")
    answer = RedirectResponse("/sign-in", 303)
    answer.delete_cookie(COOKIE, path="/")
    return answer
